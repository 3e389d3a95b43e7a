"""The first screen: where things are on it, and what it says of the data."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from etl.settings import RejectLimit
from tests.support.browser import (
    SCHEMES,
    Serve,
    Watched,
    run_to_end,
    violations,
    write,
)

pytestmark = pytest.mark.any_postgres

#: Windows from a phone to a large display, and whether there is room beside the table.
SIZES = {
    (360, 740): False,
    (768, 1024): False,
    (1280, 800): False,
    (1440, 900): False,
    (1920, 1080): True,
    (2560, 1440): True,
}

#: Windows in which the table has room for all of its columns.
ENOUGH = 1280

#: Windows in which axe checks the dark colours too: these two show all that is on the
#: page, and colours do not depend on the window.
ENDS = (360, 2560)

HIDDEN = "it => it.scrollWidth - it.clientWidth"

LOADED = r"3 compounds, 11 user experiments, 10 users, loaded [^,;]*"


def charts_are_beside(page: Page) -> bool:
    """Whether the charts are to the right of the table, else below it."""
    table = page.locator("#features").bounding_box()
    charts = page.locator("#charts").bounding_box()
    assert table
    assert charts
    if charts["x"] >= table["x"] + table["width"]:
        return True
    assert charts["y"] >= table["y"] + table["height"]
    return False


def test_nothing_is_cut_in_any_window(watched: Watched, url: str) -> None:
    page = watched.open(url)
    run_to_end(page)
    for scheme in SCHEMES:
        page.emulate_media(color_scheme=scheme)
        for (width, height), is_beside in SIZES.items():
            page.set_viewport_size({"width": width, "height": height})
            assert page.evaluate("document.documentElement.scrollWidth") == width
            assert charts_are_beside(page) == is_beside
            hidden = page.locator("#rows").evaluate(HIDDEN)
            assert (hidden == 0) == (width >= ENOUGH)
            if scheme == "light" or width in ENDS:
                assert violations(page) == []


def test_a_table_that_is_too_wide_is_scrolled_by_keyboard(
    watched: Watched, url: str
) -> None:
    page = watched.open(url, viewport={"width": 768, "height": 1024})
    run_to_end(page)
    page.locator("#rows").focus()
    page.keyboard.press("End")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#rows")).not_to_have_js_property("scrollLeft", 0)


def test_a_sentence_says_what_the_data_is(
    watched: Watched, url: str, data_dir: Path
) -> None:
    page = watched.open(url)
    state = page.locator("#state")
    expect(state).to_have_text("Nothing is published yet.")
    start = page.get_by_role("button", name="Start a run").first
    page.get_by_role("button", name="Dry run").click()
    expect(state).to_have_text("Nothing is published yet: run 1 was a dry run.")
    start.click()
    expect(state).to_have_text(re.compile(rf"^{LOADED}\.$"))
    start.click()
    expect(state).to_have_text(re.compile(rf"^{LOADED}, unchanged since\.$"))
    page.get_by_role("button", name="Dry run").click()
    still = "the table is still that of run 3."
    expect(state).to_contain_text(f"unchanged since. Run 4 was a dry run: {still}")
    users = (data_dir / "users.csv").read_text()
    (data_dir / "users.csv").unlink()
    start.click()
    expect(state).to_contain_text(re.compile(f" Run 5 failed .*: {still}"))
    assert violations(page) == []
    state.get_by_role("link", name="Run 5").click()
    expect(page.locator("#runs .details")).to_contain_text("users.csv: missing")
    write(data_dir, "users.csv", *users.strip().splitlines(), "11,Kim,k@b.example,")
    start.click()
    expect(state).to_have_text(re.compile(f"{LOADED}\\.$".replace("10", "11")))


def test_the_sentence_leaves_out_rejects_and_sums_up_many_files(
    watched: Watched, serve: Serve, data_dir: Path, sql_dir: Path
) -> None:
    (sql_dir / "schema" / "004_more.sql").write_text(
        "create table staging.box_codes (code text not null);"
        "create table staging.cities (city bigint not null);"
    )
    write(data_dir, "box_codes.csv", "code", "a")
    write(data_dir, "cities.csv", "city", "1", "2", "x")
    url = serve(sql_dir=sql_dir, max_rejects=RejectLimit.parse("50%"))
    page = watched.open(url)
    run_to_end(page)
    state = page.locator("#state")
    expect(state).to_have_text(
        re.compile("^27 records of 5 files, loaded .*; 1 record was left out.$")
    )


def test_bad_lines_are_downloaded_corrected_and_dropped_again(
    watched: Watched, serve: Serve, data_dir: Path, tmp_path: Path
) -> None:
    url = serve(max_rejects=RejectLimit.parse("50%"))
    users = data_dir / "users.csv"
    header, first, *others = users.read_text().strip().splitlines(keepends=True)
    wrong = first.replace("2023", "in 2023").replace("Alice", '"A.\nB."')
    last = others.pop()
    users.write_text("".join([header, wrong, *others, "x,,,\n", last]))
    page = watched.open(url)
    run_to_end(page)
    rejects = page.locator("#run .rejects")
    expect(rejects).to_contain_text(
        "Download these lines as CSV: user_experiments.csv, users.csv."
    )
    with page.expect_download() as download:
        rejects.get_by_role("link", name="users.csv", exact=True).click()
    assert download.value.suggested_filename == "users.rejects.csv"
    found = Path(download.value.path()).read_text()
    assert found == header + wrong + "x,,,\n"
    corrected = wrong.replace("in 2023", "2023")
    path = tmp_path / "users.rejects (1).csv"
    path.write_text(f'"user_id","name";"email"\n{corrected}')
    page.locator("#chosen").set_input_files(path)
    expect(page.locator(".upload.failed")).to_contain_text("keep the columns and")
    path.write_text(f'"user_id","name","email","signup_date"\r\n{corrected}')
    page.locator("#chosen").set_input_files(path)
    expect(page.locator("#run .verdict")).to_contain_text("Publishing would add 1 row")
    assert users.read_text() == "".join([header, *others, last, "\n", corrected])
    page.get_by_role("button", name="Publish").click()
    expect(page.locator("#state")).to_have_text(re.compile(rf"^{LOADED}\.$"))
    expect(page.locator("#run-body")).to_contain_text("The table is published")
    expect(rejects).to_have_count(0)
    page.locator("#chosen").set_input_files(path)  # once more
    expect(page.locator(".upload.failed")).to_contain_text(
        "No run has left records out of users.csv as it is now"
    )


def test_times_of_the_page_go_on(watched: Watched, url: str) -> None:
    page = watched.open(url)
    run_to_end(page)
    page.clock.install()
    page.reload()
    expect(page.locator("#state")).to_have_text(re.compile(LOADED))
    page.clock.fast_forward("02:00")
    times = page.locator("#state time, #run .headline time, #runs time")
    expect(times).to_have_text(["2 minutes ago"] * 3)
