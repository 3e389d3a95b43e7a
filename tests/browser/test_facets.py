"""Facets and sums on the page: what is counted, pressed, and kept in the address."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import psycopg
import pytest
from playwright.sync_api import Locator, Page, expect

from tests.support.browser import (
    SCHEMES,
    Serve,
    Watched,
    run_to_end,
    violations,
    write,
)

pytestmark = pytest.mark.any_postgres

NAMES = ("Alice", "", "<b>Bob</b>", "Carol, D.")


@pytest.fixture
def url(serve: Serve, data_dir: Path) -> str:
    """Where a service with 60 users is, of four names, one of them empty."""
    days = [f"2023-01-{1 + number % 28:02}" for number in range(60)]
    write(
        data_dir,
        "users.csv",
        "user_id,name,email,signup_date",
        *(
            f'{number},"{NAMES[number % 4]}",e{number}@example.com,{day}'
            for number, day in enumerate(days, start=1)
        ),
    )
    write(
        data_dir,
        "user_experiments.csv",
        "experiment_id,user_id,experiment_compound_ids,experiment_run_time",
        *(f"{number},{1 + number % 40},1;2;2,5" for number in range(1, 101)),
    )
    return serve()


def show_facets(page: Page, database: str) -> None:
    """Open the facets, once a run's end has left the statistics."""
    run_to_end(page)
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("analyze features")
    page.locator("#facets summary").click()
    page.locator("#facet-lists .facet").first.wait_for()


def facet(page: Page, name: str) -> Locator:
    return page.get_by_role("group", name=name, exact=True)


def texts(group: Locator) -> list[str]:
    """The values of a facet with their counts, as people see them."""
    lines = group.locator("li button").all_inner_texts()
    return [re.sub(r"\s+", " ", each) for each in lines]


def parameters(page: Page) -> list[tuple[str, str]]:
    return parse_qsl(urlsplit(page.url).query, keep_blank_values=True)


def test_a_value_filters_the_table_and_a_second_press_shows_all(
    watched: Watched, url: str, database: str
) -> None:
    page = watched.open(url)
    show_facets(page, database)
    status = page.locator("#features-status")
    names = facet(page, "name")
    assert texts(names) == [
        "<b>Bob</b> 15 rows",
        "Alice 15 rows",
        "Carol, D. 15 rows",
        "null 15 rows",
    ]
    assert texts(facet(page, "total_experiments")) == [
        "0 20 rows",
        "2 20 rows",
        "3 20 rows",
    ]
    for label, condition in (
        ("Alice", "eq.Alice"),
        ("Carol, D.", "eq.Carol, D."),
        ("<b>Bob</b>", "eq.<b>Bob</b>"),
        ("null", "is.null"),
    ):
        button = names.get_by_role("button", name=f"{label} 15 rows")
        expect(button).to_have_attribute("aria-pressed", "false")
        button.focus()
        button.press("Enter")
        expect(status).to_have_text("Rows 1 to 15 of 15")
        assert parameters(page) == [("name", condition)]
        expect(button).to_have_attribute("aria-pressed", "true")
        expect(button).to_be_focused()
        expect(names.locator("li")).to_have_count(1)
        expect(page.get_by_role("list", name="Filters in use")).to_be_visible()
        button.press("Enter")
        expect(status).to_have_text("Rows 1 to 25 of 60")
        expect(names.locator("li")).to_have_count(4)
        expect(button).to_have_attribute("aria-pressed", "false")
        expect(button).to_be_focused()
        assert parameters(page) == []
    assert page.locator("b", has_text="Bob").count() == 0


def test_facets_follow_all_filters_and_the_address(
    watched: Watched, url: str, database: str
) -> None:
    page = watched.open(url)
    show_facets(page, database)
    facet(page, "name").get_by_role("button", name="Alice").click()
    totals = facet(page, "total_experiments")
    expect(totals.get_by_role("button", name="0 5 rows")).to_be_visible()
    totals.get_by_role("button", name="0 5 rows").click()
    expect(page.locator("#features-status")).to_have_text("Rows 1 to 5 of 5")
    assert parameters(page) == [("name", "eq.Alice"), ("total_experiments", "eq.0")]
    page.reload()
    expect(page.locator("#features-status")).to_have_text("Rows 1 to 5 of 5")
    page.locator("#facets summary").click()
    expect(page.locator("#facets button[aria-pressed=true]")).to_have_count(2)
    page.go_back()
    expect(totals.get_by_role("button", name="3 5 rows")).to_be_visible()
    page.get_by_role("button", name="Remove the filter: name is “Alice”").click()
    expect(page.locator("#facets button[aria-pressed=true]")).to_have_count(0)
    assert len(texts(facet(page, "name"))) == 4


def test_a_facet_of_another_column_is_added_and_has_more_values(
    watched: Watched, url: str, database: str
) -> None:
    page = watched.open(url)
    show_facets(page, database)
    choice = page.get_by_label("Facet of another column")
    offered = choice.get_by_role("option").all_inner_texts()
    assert "email" in offered
    assert "name" not in offered
    choice.select_option("email")
    page.get_by_role("button", name="Add facet").click()
    emails = facet(page, "email")
    expect(emails).to_contain_text("50 more values")
    assert len(texts(emails)) == 10
    assert parameters(page) == [("facet", "email")]
    expect(page.locator("#features-status")).to_have_text("Rows 1 to 25 of 60")
    assert violations(page) == []
    emails.get_by_role("button", name="Show more").click()
    eleventh = emails.locator("li button").nth(10)
    expect(eleventh).to_be_focused()
    assert len(texts(emails)) == 60
    expect(emails.get_by_role("button", name="Show more")).to_have_count(0)
    link = page.locator("#here").get_attribute("href") or ""
    assert link == "?facet=email"
    for name in ("#as-csv", "#as-json"):
        assert "facet" not in (page.locator(name).get_attribute("href") or "")
    other = watched.open(f"{url}{link}")
    expect(facet(other, "email")).to_be_visible()
    other.get_by_role("button", name="Remove the facet email").click()
    expect(facet(other, "email")).to_have_count(0)
    expect(facet(other, "name")).to_be_visible()
    assert parameters(other) == []


#: Columns whose names need quotes, and values that the page writes in another way.
ODD_COLUMNS = """
alter table features
    add column "or" text default 'a, "b" (c)',
    add column "x, y.(z)" bigint default 9007199254740993,
    add column ok boolean default true,
    add column seen timestamptz default '2024-01-01 00:00:00.000001Z',
    add column amount numeric default 0.1234567890123456789,
    add column words jsonb default '{}';
analyze features
"""


def test_columns_of_odd_names_and_kinds(
    watched: Watched, url: str, database: str
) -> None:
    page = watched.open(url)
    run_to_end(page)
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(ODD_COLUMNS)
    page.reload()
    page.locator("#facets summary").click()
    choice = page.get_by_label("Facet of another column")
    expect(choice).to_be_visible()
    assert "words" not in choice.get_by_role("option").all_inner_texts()
    for name, value in (
        ("or", 'a, "b" (c)'),
        ("x, y.(z)", "9007199254740993"),
        ("ok", "true"),
        ("amount", "0.1234567890123456789"),
        ("seen", "2024-01-01T00:00:00.000001+00:00"),
    ):
        choice.select_option(name)
        page.get_by_role("button", name="Add facet").click()
        button = facet(page, name).get_by_role("button", name=f"{value} 60 rows")
        button.click()
        expect(button).to_have_attribute("aria-pressed", "true")
        expect(page.locator("#features-status")).to_have_text("Rows 1 to 25 of 60")
    assert len(parameters(page)) == 6
    page.get_by_role("button", name="Sums").click()
    assert "540431955284459580" in sums(page)


def test_closed_facets_cost_no_request(
    watched: Watched, url: str, database: str
) -> None:
    page = watched.open(url)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    run_to_end(page)
    page.get_by_role("button", name="Next").click()
    expect(page.locator("#features-status")).to_have_text("Rows 26 to 50 of 60")
    assert not [each for each in asked if "facet" in each or "sum" in each]
    show_facets(page, database)
    count = len([each for each in asked if "facet=" in each])
    page.get_by_role("button", name="Next").click()
    expect(page.locator("#features-status")).to_have_text("Rows 51 to 60 of 60")
    assert len([each for each in asked if "facet=" in each]) == count == 1


def test_facets_are_counted_again_after_a_run(
    watched: Watched, url: str, database: str, data_dir: Path
) -> None:
    page = watched.open(url)
    show_facets(page, database)
    with (data_dir / "users.csv").open("a") as file:
        file.write("61,Alice,e@example.com,2023-01-01\n")
    page.get_by_role("button", name="Start a run").first.click()
    names = facet(page, "name")
    expect(names.get_by_role("button", name="Alice 16 rows")).to_be_visible()


def test_facets_that_fail_say_why(watched: Watched, url: str, database: str) -> None:
    watched.expected = {504}
    page = watched.open(url)
    run_to_end(page)
    body = '{"status": 504, "detail": "this takes too long"}'
    page.route(re.compile("facet="), lambda route: route.fulfill(status=504, body=body))
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("analyze features")
    page.locator("#facets summary").click()
    expect(page.locator("#facets .note")).to_contain_text("this takes too long")
    page.unroute(re.compile("facet="))
    page.locator("#facets").get_by_role("button", name="Try again").click()
    expect(facet(page, "name")).to_be_visible()


def test_requests_end_with_the_view_that_they_are_for(
    watched: Watched, url: str, database: str
) -> None:
    """Facets and sums that wait for the database are cancelled there."""
    page = watched.open(url)
    show_facets(page, database)
    ended: list[str] = []
    page.on("requestfailed", lambda request: ended.append(request.url))
    page.get_by_role("button", name="Sums").click()
    expect(page.locator("#rows tfoot")).to_contain_text("100")
    waiting = {"facet": "facet=", "sum": "sum"}
    for pattern in waiting.values():
        page.route(re.compile(f"name=.*{pattern}"), lambda route: None)
    with (
        page.expect_request(lambda request: "facet=" in request.url),
        page.expect_request(lambda request: "sum" in request.url),
    ):
        facet(page, "name").get_by_role("button", name="Alice").click()
    expect(page.locator("#features-status")).to_have_text("Rows 1 to 15 of 15")
    expect(page.locator("#rows tfoot")).to_have_attribute("aria-busy", "true")
    page.get_by_role("button", name="Remove the filter").click()
    expect(page.locator("#features-status")).to_have_text("Rows 1 to 25 of 60")
    expect(page.locator("#rows tfoot")).to_contain_text("100")
    expect(page.locator("#facets [aria-busy]")).to_have_count(0)
    assert len([each for each in ended if "facet=" in each]) == 1
    assert len([each for each in ended if "sum" in each]) == 1


def sums(page: Page) -> list[str]:
    """The cells of the last row, once they are there."""
    page.locator("#rows tfoot:not([aria-busy])").wait_for()
    cells = page.locator("#rows tfoot th, #rows tfoot td").all_inner_texts()
    return [re.sub(r"\s+", " ", each) for each in cells]


def test_sums_of_number_columns_follow_the_filters(watched: Watched, url: str) -> None:
    page = watched.open(url)
    run_to_end(page)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    button = page.get_by_role("button", name="Sums")
    expect(button).to_have_attribute("aria-pressed", "false")
    button.press("Enter")
    expect(button).to_have_attribute("aria-pressed", "true")
    expect(page.locator("#sums-status")).to_have_text(
        "The sums are in the last row of the table."
    )
    label = "Sum of all rows under these filters"
    assert sums(page) == [label, *("", "", ""), *("100", "100", "1", "80", "")]
    expect(page.get_by_role("rowheader", name="Sum of all rows")).to_be_visible()
    assert violations(page) == []
    page.get_by_role("button", name="Next").click()
    page.locator("#rows th").nth(4).get_by_role("button").click()
    expect(page).to_have_url(re.compile("order=total_experiments"))
    page.locator("#rows:not([aria-busy])").wait_for(state="attached")
    assert sums(page)[4] == "100"
    assert len([each for each in asked if "sum" in each]) == 1
    page.get_by_role("combobox", name="Column", exact=True).select_option("name")
    page.get_by_label("Condition").select_option(label="is")
    page.get_by_label("Value").fill("Alice")
    page.get_by_role("button", name="Add filter").click()
    expect(page.locator("#rows tfoot td").nth(3)).to_have_text("25")
    page.locator("#columns summary").click()
    page.get_by_role("checkbox", name="avg_experiments").uncheck()
    expect(page.locator("#rows tfoot td")).to_have_count(7)
    assert sums(page)[4] == "25"
    button.click()
    expect(page.locator("#rows tfoot")).to_have_count(0)
    expect(button).to_have_attribute("aria-pressed", "false")


def test_sums_where_the_first_column_has_one(watched: Watched, url: str) -> None:
    page = watched.open(f"{url}?select=total_experiments,name")
    run_to_end(page)
    page.get_by_role("button", name="Sums").click()
    assert sums(page) == ["Sum of all rows under these filters 100", ""]
    page.locator("#columns summary").click()
    page.get_by_role("checkbox", name="total_experiments").uncheck()
    expect(page.locator("#rows tfoot")).to_have_count(0)
    expect(page.get_by_role("button", name="Sums")).to_be_disabled()


def test_sums_that_fail_say_why(watched: Watched, url: str) -> None:
    watched.expected = {504}
    page = watched.open(url)
    run_to_end(page)
    body = '{"status": 504, "detail": "this takes too long"}'
    page.route(re.compile("sum"), lambda route: route.fulfill(status=504, body=body))
    page.get_by_role("button", name="Sums").click()
    expect(page.locator("#sums-message .note")).to_contain_text("this takes too long")
    expect(page.locator("#rows tfoot")).to_have_count(0)
    page.unroute(re.compile("sum"))
    page.get_by_role("button", name="Sums").click()
    expect(page.locator("#sums-message .note")).to_have_count(0)
    page.get_by_role("button", name="Sums").click()
    assert sums(page)[4] == "100"


def test_facets_on_a_phone(watched: Watched, url: str, database: str) -> None:
    page = watched.open(url, viewport={"width": 360, "height": 740})
    show_facets(page, database)
    facet(page, "name").get_by_role("button", name="Alice").click()
    expect(page.locator("#features-status")).to_have_text("Rows 1 to 15 of 15")
    page.get_by_role("button", name="Sums").click()
    assert sums(page)[4] == "25"
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    assert violations(page, *SCHEMES) == []
