"""The page, as somebody sees it who opens it in a browser."""

from __future__ import annotations

import re
from pathlib import Path

import psycopg
import pytest
from playwright.sync_api import Page, expect

from etl.settings import RejectLimit
from tests.support.browser import (
    SCHEMES,
    Serve,
    Watched,
    come_back,
    held_up,
    run_to_end,
    violations,
    write,
)
from tests.support.databases import Postgres
from tests.support.processes import fetch

pytestmark = pytest.mark.any_postgres

HOSTILE = "<img src=x onerror=alert(1)>"


def column(page: Page, number: int) -> list[str]:
    """The texts of a column of the table, once it is not loading."""
    page.locator("#rows:not([aria-busy])").wait_for(state="attached")
    return page.locator(f"#rows tbody td:nth-child({number})").all_inner_texts()


def test_a_first_visit_says_what_to_do(watched: Watched, url: str) -> None:
    page = watched.open(url)
    expect(page.locator("#run-body")).to_contain_text("No run yet")
    expect(page.locator("#run-body")).to_contain_text("start a run")
    expect(page.locator("#features-message")).to_contain_text("Nothing here yet")
    expect(page.locator("#runs")).to_contain_text("No run yet")
    page.locator("#charts").scroll_into_view_if_needed()
    expect(page.locator("#figures figure").first).to_contain_text("Nothing to draw yet")
    assert violations(page) == []


def test_a_second_visit_loads_no_file_again(watched: Watched, url: str) -> None:
    page = watched.open(url)
    page.wait_for_load_state("networkidle")
    first = files_sent(url)
    assert first > 10
    page.goto("about:blank")
    page.goto(url)
    page.locator("#features-message .empty").wait_for()
    page.wait_for_load_state("networkidle")
    assert files_sent(url) == first


def files_sent(url: str) -> int:
    """How often files of the page were asked for so far."""
    metrics = fetch(f"{url}metrics").decode()
    counted = re.findall('http_requests_total{.*"/static/{file}".*} (.*)', metrics)
    return int(sum(map(float, counted)))


def test_a_page_whose_modules_do_not_load_says_so(watched: Watched, url: str) -> None:
    page = watched.open("about:blank")
    page.route("**/dom.js", lambda route: route.fulfill(status=404))
    watched.expected.add(404)
    page.goto(url)
    notice = page.get_by_text("The page is not complete yet")
    expect(notice).to_be_hidden()
    page.evaluate("document.getAnimations().forEach((each) => each.finish())")
    expect(notice).to_be_visible()


def test_a_run_shows_its_progress_and_its_outcome(
    watched: Watched, url: str, database: str
) -> None:
    page = watched.open(url)
    page.locator("#features-message .empty").wait_for()
    with held_up(database):
        page.get_by_role("button", name="Start a run").first.click()
        expect(page.locator("#run .phases .now")).to_have_text(re.compile("load"))
        expect(page.get_by_role("progressbar", name="Phases")).to_be_visible()
        expect(page.locator("#run-status")).to_contain_text("Loading the files")
        expect(page.get_by_role("button", name="Cancel")).to_be_focused()
        assert violations(page) == []
    expect(page.locator("#run-status")).to_contain_text("Run 1 succeeded")
    expect(page.locator("#run .state")).to_have_text("✓ succeeded")
    expect(page.locator("#run-body")).to_contain_text("users.csv")
    expect(page.locator("#features-status")).to_have_text("Rows 1 to 10 of 10")
    expect(page.locator("#history-status")).to_have_text(
        "1 run shown, all that are kept"
    )
    assert column(page, 2)[:2] == ["Alice", "Bob"]


def test_a_run_begun_elsewhere_is_shown(
    watched: Watched, url: str, database: str
) -> None:
    page, other = watched.open(url), watched.open(url)
    page.locator("#run .empty").wait_for()
    with held_up(database):
        other.get_by_role("button", name="Start a run").first.click()
        expect(other.locator("#run .phases .now")).to_be_visible()
        come_back(page)
        expect(page.locator("#run .phases .now")).to_be_visible()
        # one who comes now gets the present state
        expect(watched.open(url).locator("#run .phases .now")).to_be_visible()
    expect(page.locator("#run .state")).to_have_text("✓ succeeded")
    expect(page.locator("#features-status")).to_have_text("Rows 1 to 10 of 10")


def test_the_page_says_that_the_files_are_watched(
    watched: Watched, serve: Serve, data_dir: Path
) -> None:
    page = watched.open(serve(watch=2.5))
    expect(page.locator("#watch")).to_have_text("Watches the data folder every 2.5 s")
    expect(page.locator("#run .state")).to_have_text("✓ succeeded")
    write(data_dir, "users.csv", "user_id,name,email,signup_date", "1,Al,a@b.example,")
    expect(page.locator("#run .headline")).to_contain_text("Run 2")
    assert violations(page) == []


def test_a_page_of_a_service_that_does_not_watch_says_nothing_of_it(
    watched: Watched, url: str
) -> None:
    with watched.browser.new_context().new_page() as page:
        with page.expect_response("**/healthz") as answer:
            page.goto(url)
        assert answer.value.ok
        expect(page.locator("#watch")).to_be_hidden()


def test_a_run_is_cancelled(watched: Watched, url: str, database: str) -> None:
    page = watched.open(url)
    with held_up(database):
        page.get_by_role("button", name="Start a run").first.click()
        page.get_by_role("button", name="Cancel").click()
        expect(page.locator("#run .state")).to_have_text("✕ failed")
    expect(page.locator("#run-body")).to_contain_text("cancelled")
    expect(page.get_by_role("button", name="Start a run").first).to_be_focused()


def test_a_dry_run_says_that_nothing_was_published(watched: Watched, url: str) -> None:
    page = watched.open(url)
    page.get_by_role("button", name="Dry run").click()
    expect(page.locator("#run-body")).to_contain_text("nothing was published")
    expect(page.locator("#features-message")).to_contain_text("Nothing here yet")


def test_empty_files_are_allowed_where_that_is_meant(
    watched: Watched, url: str, data_dir: Path
) -> None:
    page = watched.open(url)
    run_to_end(page)
    header, *_ = (data_dir / "user_experiments.csv").read_text().strip().splitlines()
    write(data_dir, "user_experiments.csv", header)
    page.get_by_role("button", name="Dry run").click()
    again = page.get_by_role("button", name="Run again and allow empty files")
    again.click()
    expect(page.locator("#run .headline")).to_contain_text(
        "Run 3 (dry, empty files allowed)"
    )
    expect(page.locator("#run-body")).to_contain_text("nothing was published")
    box = page.get_by_role("checkbox", name="Allow empty files")
    expect(box).not_to_be_checked()
    box.check()
    page.get_by_role("button", name="Start a run").first.click()
    expect(page.locator("#run .headline")).to_contain_text(
        "Run 4 (empty files allowed) ✓ succeeded"
    )
    expect(box).not_to_be_checked()
    expect(again).to_have_count(0)
    assert violations(page) == []


def test_a_run_says_what_it_kept(watched: Watched, url: str, data_dir: Path) -> None:
    page = watched.open(url)
    run_to_end(page)
    start = page.get_by_role("button", name="Start a run").first
    headline, body = page.locator("#run .headline"), page.locator("#run-body")
    loads = body.get_by_role("table").first.locator("tbody td:nth-child(3)")
    assert loads.all_inner_texts() == ["loaded"] * 3
    start.click()
    expect(headline).to_contain_text("Run 2 ✓ succeeded")
    expect(body).to_contain_text("Nothing has changed: the table stays as it was.")
    expect(page.locator("#run-status")).to_have_text(
        "Run 2 succeeded: nothing has changed"
    )
    expect(page.locator("#features-status")).to_have_text("Rows 1 to 10 of 10")
    assert loads.all_inner_texts() == ["kept"] * 3
    with (data_dir / "user_experiments.csv").open("a") as file:
        file.write("100,1,1,10\n101,2,1,10\n")
    start.click()
    expect(headline).to_contain_text(re.compile(r"Run 3 ✓ succeeded in \d"))
    expect(body).not_to_contain_text("Nothing has changed")
    assert loads.all_inner_texts() == ["kept", "2 appended", "kept"]
    page.get_by_role("button", name="#3").click()
    steps = page.get_by_role("table", name="SQL files of run 3").locator("tbody tr")
    expect(steps.filter(has_text="clean/050")).to_contain_text("not needed")
    expect(steps.filter(has_text="build/030")).not_to_contain_text("not needed")
    page.get_by_role("button", name="#2").click()
    remarks = page.locator("#runs tr:has(button[data-run='2'])")
    expect(remarks).to_contain_text("nothing has changed")
    assert violations(page) == []


def test_everything_is_done_again_where_that_is_asked(
    watched: Watched, url: str
) -> None:
    page = watched.open(url)
    run_to_end(page)
    box = page.get_by_role("checkbox", name="Do everything again")
    expect(box).not_to_be_checked()
    box.press("Space")
    page.get_by_role("button", name="Start a run").first.press("Enter")
    headline = page.locator("#run .headline")
    expect(headline).to_contain_text("Run 2 (everything again) ✓ succeeded in ")
    expect(box).not_to_be_checked()  # it is meant for one run
    loads = page.locator("#run-body tbody td:nth-child(3)")
    assert loads.all_inner_texts() == ["loaded"] * 3
    expect(page.locator("#runs tbody tr").first).to_contain_text("everything again")
    page.get_by_role("button", name="Start a run").first.click()
    expect(headline).to_contain_text("Run 3 ✓ succeeded")
    assert violations(page) == []


def test_progress_says_what_is_kept(
    watched: Watched, url: str, data_dir: Path, database: str
) -> None:
    page = watched.open(url)
    run_to_end(page)
    with (data_dir / "user_experiments.csv").open("a") as file:
        file.write("100,1,1,10\n")
    with psycopg.connect(database) as connection:
        connection.execute("lock table features in share mode")
        page.get_by_role("button", name="Start a run").first.click()
        lines = page.locator("#run .files .said")
        expect(lines.nth(0)).to_contain_text("3 records, kept")
        expect(lines.nth(1)).to_contain_text("12 records, 1 appended")
        assert violations(page) == []
    expect(page.locator("#run .headline")).to_contain_text("Run 2 ✓ succeeded")


def test_rejects_are_counted_and_filtered_by_reason(
    watched: Watched, serve: Serve, data_dir: Path
) -> None:
    url = serve(max_rejects=RejectLimit.parse("100%"))
    users = [f"{key},N,e,{'soon' if key == 2 else ''}" for key in range(1, 11)]
    write(data_dir, "users.csv", "user_id,name,email,signup_date", *users)
    experiments = [f"{number},{2 if number < 15 else 99},1,1" for number in range(16)]
    header = "experiment_id,user_id,experiment_compound_ids,experiment_run_time"
    write(data_dir, "user_experiments.csv", header, *experiments)
    page = watched.open(url)
    run_to_end(page)
    box = page.locator("#run .rejects")
    expect(box).to_contain_text(
        "17 records left out: 1 unknown_user, 15 rejected_user, 1 invalid_value; "
    )
    lines = box.locator("tbody tr")
    expect(lines).to_have_count(10)
    reasons = box.locator("tbody td:nth-child(5)")
    expect(reasons.nth(0)).to_have_text("unknown_user")
    expect(reasons.nth(1)).to_have_text("invalid_value")
    expect(reasons.nth(2)).to_have_text("rejected_user")
    choice = box.get_by_label("Reason")
    choice.select_option("invalid_value")
    expect(lines).to_have_count(1)
    expect(lines.first).to_contain_text("users.csv")
    with page.expect_download() as download:
        box.get_by_role("link", name="this list as CSV").click()
    assert len(Path(download.value.path()).read_text().splitlines()) == 2
    choice.select_option("rejected_user")
    expect(lines).to_have_count(10)
    box.get_by_role("button", name="Show more").click()
    expect(lines).to_have_count(15)
    choice.select_option("any (17)")
    expect(reasons.nth(0)).to_have_text("unknown_user")
    assert violations(page) == []


def test_headers_sort(watched: Watched, url: str) -> None:
    page = watched.open(url)
    run_to_end(page)
    header = page.get_by_role("columnheader", name="name", exact=True)
    assert header.get_attribute("aria-sort") == "none"
    header.get_by_role("button").click()
    expect(header).to_have_attribute("aria-sort", "ascending")
    header.get_by_role("button").press("Enter")
    expect(header).to_have_attribute("aria-sort", "descending")
    expect(page.locator("#rows tbody td:nth-child(2)").first).to_have_text("Judy")
    assert column(page, 2) == sorted(column(page, 2), reverse=True)
    assert "order=name.desc" in page.url
    header.get_by_role("button").click()
    expect(header).to_have_attribute("aria-sort", "none")
    expect(page.locator("#rows tbody td:nth-child(2)").first).to_have_text("Alice")


def add_filter(page: Page, name: str, condition: str, value: str | None) -> None:
    page.get_by_role("combobox", name="Column", exact=True).select_option(name)
    page.get_by_label("Condition").select_option(label=condition)
    if value is None:
        expect(page.get_by_label("Value")).to_be_hidden()
    else:
        page.get_by_label("Value").fill(value)
    page.get_by_role("button", name="Add filter").click()


FILTERS = [
    ("name", "contains", "AR", ["Carol"]),
    ("name", "begins with", "j", ["Judy"]),
    ("name", "contains", "%", []),
    ("name", "is one of", '"Eve", Bob', ["Bob", "Eve"]),
    ("total_experiments", "is at least", "2", ["Alice"]),
    ("signup_date", "is on or after", "2023-09-01", ["Ivan", "Judy"]),
    ("most_common_compound_id", "is null", None, []),
]

#: Values with which there is no such filter.
NO_FILTERS = [
    ("name", "contains", ""),
    ("user_id", "is one of", ""),
    ("user_id", "is", "1,000"),
]


def test_filters_fit_their_columns(watched: Watched, url: str) -> None:
    page = watched.open(url)
    run_to_end(page)
    status = page.locator("#features-status")
    chips = page.get_by_role("list", name="Filters in use")
    for name, condition, value, found in FILTERS:
        add_filter(page, name, condition, value)
        expect(chips).to_contain_text(f"{name} {condition}")
        count = len(found)
        expect(status).to_have_text(
            f"Rows 1 to {count} of {count}" if found else "No rows"
        )
        assert column(page, 2) == found
        if found:
            page.get_by_role("button", name="Remove the filter").click()
        else:
            words = page.locator("#features-message")
            expect(words).to_contain_text("No rows under these filters")
            words.get_by_role("button", name="Remove all filters").click()
        expect(status).to_have_text("Rows 1 to 10 of 10")
    for name, condition, value in NO_FILTERS:
        add_filter(page, name, condition, value)
        expect(page.locator("#filter-value:invalid")).to_be_focused()
        expect(chips).to_have_count(0)


def test_pages_go_on_and_back(watched: Watched, url: str) -> None:
    page = watched.open(f"{url}?limit=4&order=name.desc")
    run_to_end(page)
    status = page.locator("#features-status")
    expect(status).to_have_text("Rows 1 to 4 of 10")
    first = column(page, 2)
    page.get_by_role("button", name="Next").click()
    expect(status).to_have_text("Rows 5 to 8 of 10")
    page.get_by_role("button", name="Next").click()
    expect(status).to_have_text("Rows 9 to 10 of 10")
    assert column(page, 2) == ["Bob", "Alice"]
    expect(page.get_by_role("button", name="Next")).to_be_disabled()
    page.get_by_role("button", name="Previous").click()
    expect(status).to_have_text("Rows 5 to 8 of 10")
    page.reload()
    expect(status).to_have_text("Rows 5 to 8 of 10")
    page.get_by_role("link", name="Charts").click()
    expect(page).to_have_url(re.compile("#charts$"))
    page.get_by_role("button", name="Previous").click()
    expect(status).to_have_text("Rows 1 to 4 of 10")
    assert column(page, 2) == first
    page.go_back()
    expect(status).to_have_text("Rows 5 to 8 of 10")


def test_a_link_reproduces_the_view(watched: Watched, url: str) -> None:
    page = watched.open(url)
    run_to_end(page)
    add_filter(page, "name", "contains", "a")
    page.get_by_role("columnheader", name="name").first.get_by_role("button").click()
    expect(page.locator("#features-status")).to_have_text("Rows 1 to 6 of 6")
    page.get_by_label("Rows per page").select_option("10")
    page.get_by_text("Columns", exact=True).click()
    page.get_by_role("checkbox", name="email").uncheck()
    expect(page.get_by_role("columnheader", name="email")).to_have_count(0)
    link = page.get_by_role("link", name="Link to this view")
    shown = page.locator("#rows table").inner_text()
    again = watched.open(f"{url}{link.get_attribute('href')}")
    expect(again.locator("#features-status")).to_have_text("Rows 1 to 6 of 6")
    assert again.locator("#rows table").inner_text() == shown
    csv = page.get_by_role("link", name="CSV")
    with page.expect_download() as download:
        csv.click()
    lines = Path(download.value.path()).read_text().splitlines()
    assert lines[0].startswith("user_id,name,signup_date")
    assert len(lines) == 7


def test_a_view_that_is_refused_says_why(watched: Watched, url: str) -> None:
    watched.expected = {400}
    page = watched.open(f"{url}?nonsense=eq.1")
    words = page.locator("#features-message")
    expect(words).to_contain_text("there is no column 'nonsense'")
    words.get_by_role("button", name="Show the whole table").click()
    expect(words).to_contain_text("Nothing here yet")


def test_columns_describe_themselves(watched: Watched, url: str) -> None:
    page = watched.open(url)
    run_to_end(page)
    header = page.get_by_role("columnheader", name="total_experiments")
    button = header.get_by_role("button")
    words = "Number of the user's experiments, 0 without any"
    expect(button).to_have_accessible_description(words)
    button.focus()
    tip = page.get_by_role("tooltip")
    expect(tip).to_have_text(words)
    page.keyboard.press("Escape")
    expect(tip).to_be_hidden()
    button.hover()
    expect(tip).to_be_visible()


def test_charts_are_drawn(watched: Watched, url: str) -> None:
    page = watched.open(url)
    run_to_end(page)
    figures = page.locator("#figures figure")
    expect(figures).to_have_count(4)
    for number in range(4):
        figure = figures.nth(number)
        figure.scroll_into_view_if_needed()
        expect(figure.get_by_role("img")).to_have_accessible_name(
            re.compile("a bar chart of")
        )
        figure.get_by_text("As a table").click()
        expect(figure.get_by_role("row").nth(1)).to_be_visible()
    assert figures.nth(0).get_by_role("cell").all_inner_texts() == [
        *("0", "0", "1", "9", "2", "1")
    ]
    assert violations(page) == []


def test_a_run_that_fails_says_why(watched: Watched, url: str, data_dir: Path) -> None:
    page = watched.open(url)
    run_to_end(page)
    (data_dir / "users.csv").unlink()
    page.get_by_role("button", name="Start a run").first.click()
    expect(page.locator("#run .state")).to_have_text("✕ failed")
    run = page.request.get(f"{url}runs/2").json()
    assert "users.csv" in run["error"]
    expect(page.locator("#run .note.bad")).to_have_text(f"Error: {run['error']}")
    expect(page.locator("#run-body")).to_contain_text("The table stays as it was.")
    expect(page.locator("#features-status")).to_have_text("Rows 1 to 10 of 10")
    expect(page.locator("#runs")).to_contain_text(run["error"])


@pytest.fixture
def odd_data(data_dir: Path) -> None:
    """Users with hostile and long names, and records that are left out."""
    write(
        data_dir,
        "users.csv",
        "user_id,name,email,signup_date",
        f"1,{HOSTILE},a@example.com,2023-01-01",
        f"2,{'long ' * 60},b@example.com,2023-01-02",
        "9223372036854775807,Biggest,c@example.com,2023-01-03",
        *(
            f"{number},User {number},d@example.com,2023-02-01"
            for number in range(3, 90)
        ),
        *(f"x{number},{HOSTILE},e@example.com,2023-03-01" for number in range(25)),
    )


@pytest.mark.usefixtures("odd_data")
def test_hostile_values_are_text_and_rejects_are_shown(
    watched: Watched, serve: Serve
) -> None:
    url = serve(max_rejects=RejectLimit.parse("50%"))
    page = watched.open(url)
    run_to_end(page)
    assert column(page, 2)[0] == HOSTILE
    left_out = page.locator("#run .rejects tbody tr")
    expect(left_out).to_have_count(10)
    assert left_out.first.get_by_role("cell").all_inner_texts() == [
        *("users.csv", "92", "user_id", "x0", "invalid_value"),
        *('"x0" is not a whole number', f"x0,{HOSTILE},e@example.com,2023-03-01"),
    ]
    for count in (20, 25):
        page.locator("#run").get_by_role("button", name="Show more").click()
        expect(left_out).to_have_count(count)
    page.get_by_role("button", name="#1").click()
    expect(page.locator("#history .rejects tbody tr")).to_have_count(10)
    assert page.locator("img[src=x]").count() == 0
    assert violations(page, *SCHEMES) == []
    page.get_by_label("Rows per page").select_option("250")
    expect(page.locator("#features-status")).to_have_text("Rows 1 to 90 of 90")
    assert column(page, 1)[-1] == "9223372036854775807"


def test_the_history_has_pages_and_details(
    watched: Watched, url: str, database: str
) -> None:
    with psycopg.connect(database) as connection:
        connection.execute(
            "insert into etl.runs (state, dry_run, started_at, finished_at, error)"
            " select 'failed', false, now() - interval '1 day', now(), 'old ' || number"
            " from generate_series(1, 1000) as numbers (number)"
        )
    page = watched.open(url)
    expect(page.locator("#history-status")).to_have_text("20 runs shown")
    page.get_by_role("button", name="Show older runs").click()
    expect(page.locator("#history-status")).to_have_text("40 runs shown")
    page.get_by_role("button", name="#985").click()
    expect(page.locator("#runs .details")).to_contain_text("Error: old 985")
    assert page.url.endswith("#run-985")
    old = watched.open(f"{url}#run-7")
    expect(old.locator("#runs .details")).to_contain_text("Error: old 7")
    expect(old.get_by_role("button", name="#7")).to_be_in_viewport()
    old.get_by_role("button", name="Show older runs").click()
    expect(old.locator("#history-status")).to_have_text("40 runs shown")


def test_nothing_is_wider_than_a_phone(
    watched: Watched, url: str, data_dir: Path
) -> None:
    page = watched.open(url, viewport={"width": 360, "height": 740})
    run_to_end(page)
    page.get_by_role("button", name="#1").click()
    page.locator("#charts").scroll_into_view_if_needed()
    page.locator("#figures canvas").first.wait_for()
    width = "document.documentElement.scrollWidth"
    assert page.evaluate(width) == 360
    assert violations(page, *SCHEMES) == []
    write(data_dir, "users.csv", "user_id,name,email,signup_date", "1," + "x" * 900)
    page.get_by_role("button", name="Start a run").first.click()
    expect(page.locator("#run .state")).to_have_text("✕ failed")
    assert page.evaluate(width) == 360


def test_the_colours_follow_the_system(watched: Watched, url: str) -> None:
    page = watched.open(url, color_scheme="dark")
    colour = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(colour)
    page.emulate_media(color_scheme="light")
    light = page.evaluate(colour)
    assert sum(map(int, re.findall(r"\d+", dark))) < 150
    assert sum(map(int, re.findall(r"\d+", light))) > 600


def test_a_token_is_asked_for(watched: Watched, serve: Serve) -> None:
    watched.expected = {401}
    page = watched.open(serve(api_token="secret"))
    page.locator("#features-message .empty").wait_for()
    page.get_by_role("button", name="Start a run").first.click()
    dialog = page.get_by_role("dialog", name="A token is needed")
    field = dialog.get_by_label("Token")
    expect(field).to_be_focused()
    expect(dialog).to_contain_text("This needs a token.")
    assert violations(page) == []
    field.fill("wrong")
    field.press("Enter")
    expect(dialog).to_contain_text("does not accept this token")
    field.fill("secret")
    dialog.get_by_role("button", name="Use it").click()
    expect(page.locator("#run .state")).to_have_text("✓ succeeded")
    expect(dialog).to_be_hidden()
    page.reload()
    page.locator("#run .state").wait_for()
    page.get_by_role("button", name="Start a run").first.click()
    expect(page.locator("#run-body")).to_contain_text("Run 2")
    expect(page.locator("#run .state")).to_have_text("✓ succeeded")


def test_reading_may_need_a_token_too(watched: Watched, serve: Serve) -> None:
    watched.expected = {401}
    page = watched.open(serve(api_token="secret", api_token_read="read"))
    dialog = page.get_by_role("dialog", name="A token is needed")
    dialog.get_by_role("button", name="Not now").click()
    expect(dialog).to_be_hidden()
    expect(page.locator("#features-message .note")).to_contain_text("a valid token")
    page.get_by_role("button", name="Start a run").first.click()
    dialog.get_by_label("Token").fill("secret")
    dialog.get_by_label("Token").press("Enter")
    run_is_over = page.locator("#run .state.succeeded")
    run_is_over.wait_for()
    expect(page.locator("#features-status")).to_have_text("Rows 1 to 10 of 10")
    with page.expect_download() as download:
        page.get_by_role("link", name="CSV", exact=True).click()
    assert Path(download.value.path()).read_text().startswith("user_id,")


def test_an_unavailable_database_is_shown(
    watched: Watched, url: str, database: str, postgres: Postgres
) -> None:
    watched.expected = {503}
    page = watched.open(url)
    run_to_end(page)
    with psycopg.connect(postgres.server, autocommit=True) as admin:
        name = psycopg.conninfo.conninfo_to_dict(database)["dbname"]
        admin.execute(f'alter database "{name}" allow_connections false'.encode())
        admin.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where datname = %s",
            [name],
        )
        come_back(page)
        banner = page.locator("#banner")
        expect(banner).to_contain_text("The database is unavailable")
        page.get_by_role("columnheader", name="name").first.get_by_role(
            "button"
        ).click()
        words = page.locator("#features-message")
        expect(words).to_contain_text("the database is unavailable")
        page.get_by_role("button", name="Start a run").first.click()
        expect(page.locator("#run-body .note")).to_contain_text("unavailable")
        assert violations(page) == []
        admin.execute(f'alter database "{name}" allow_connections true'.encode())
        come_back(page)
        expect(banner).to_be_hidden()
        expect(page.locator("#run-body .note")).to_have_count(0)
        expect(page.locator("#features-status")).to_have_text("Rows 1 to 10 of 10")
