"""Files that people drop on the page: uploaded, checked by a dry run, published."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from etl.settings import PROJECT
from tests.support.browser import (
    SCHEMES,
    Serve,
    Watched,
    held_up,
    run_to_end,
    violations,
)

pytestmark = pytest.mark.any_postgres

NAMES = ("compounds.csv", "user_experiments.csv", "users.csv")

SHIPPED = {name: (PROJECT / "data" / name).read_text() for name in NAMES}

#: One user less, two more, and another name; all have another average.
CHANGED = SHIPPED["users.csv"].replace("Alice", "Alicia").replace("10,", "11,").strip()
CHANGED = f"{CHANGED}\n12,Kim,,2024-01-01\n"

BAD_HEADER = "id;nothing\n1;2\n"

#: Too many dates that are none.
BAD_DATES = re.sub("2023-0[123]-01", "soon", SHIPPED["users.csv"])

#: Bytes a second of an upload that is to be seen, and a file that takes minutes.
SLOW = 10_000
LONG = SHIPPED["users.csv"] + "11,,,\n" * 60 * SLOW


def dragging(page: Page, files: Mapping[str, str], *events: str) -> None:
    """Let the page have the events of files that are dragged."""
    transfer = page.evaluate_handle(
        """files => {
            const transfer = new DataTransfer();
            for (const [name, text] of Object.entries(files))
                transfer.items.add(new File([text], name, { type: "text/csv" }));
            return transfer;
        }""",
        files,
    )
    for event in events:
        page.locator("body").dispatch_event(event, {"dataTransfer": transfer})


def drop(page: Page, files: Mapping[str, str]) -> None:
    dragging(page, files, "dragenter", "dragover", "drop")


def slow_down(page: Page) -> None:
    """Let uploads take their time."""
    session = page.context.new_cdp_session(page)
    session.send("Network.enable")
    limits = {"offline": False, "latency": 0, "downloadThroughput": -1}
    session.send(
        "Network.emulateNetworkConditions", {**limits, "uploadThroughput": SLOW}
    )


def status(page: Page) -> Locator:
    return page.locator("#files-status")


def verdict(page: Page) -> Locator:
    return page.locator("#run .verdict")


def names_of(page: Page) -> list[str]:
    """The users in the table."""
    page.locator("#rows:not([aria-busy])").wait_for(state="attached")
    return page.locator("#rows tbody td:nth-child(2)").all_inner_texts()


@pytest.fixture
def empty_url(serve: Serve, data_dir: Path) -> str:
    """Where a service is that has no files yet."""
    for name in NAMES:
        (data_dir / name).unlink()
    return serve()


def test_files_that_are_dropped_are_checked_and_then_published(
    watched: Watched, empty_url: str, data_dir: Path
) -> None:
    page = watched.open(empty_url)
    lines = page.locator("#expected > li")
    expect(lines).to_have_text([re.compile(f"{name} missing") for name in NAMES])
    zone = page.locator("#drop")
    dragging(page, SHIPPED, "dragenter", "dragover")
    expect(zone).to_contain_text("users.csv")
    dragging(page, SHIPPED, "dragleave")
    expect(zone).to_be_hidden()
    dragging(page, SHIPPED, "dragenter")
    expect(zone).to_be_visible()
    page.mouse.move(200, 200)
    expect(zone).to_be_hidden()
    drop(page, SHIPPED)
    expect(zone).to_be_hidden()
    expect(verdict(page)).to_contain_text("Publishing would add 10 rows.")
    expect(status(page)).to_contain_text("are in place. The table is unchanged until")
    expect(page.locator("#run-status")).to_contain_text("would add 10 rows")
    expect(page.locator("#features-message")).to_contain_text("Nothing here yet")
    expect(lines).to_have_text([re.compile(f"{name} .*, just now") for name in NAMES])
    expect(page.locator("#uploads > li")).to_have_count(0)
    assert {name: (data_dir / name).read_text() for name in NAMES} == SHIPPED
    assert violations(page) == []
    path = data_dir / "compounds.csv"  # changed by other means
    path.write_text(path.read_text().replace("Compound A", "Another"))
    verdict(page).get_by_role("button", name="Publish").click()
    headline = page.locator("#run .headline")
    expect(headline).to_contain_text("Run 2 (dry) ✓ succeeded")
    expect(status(page)).to_contain_text("compounds.csv is in place")
    verdict(page).get_by_role("button", name="Publish").click()
    expect(page.locator("#features-status")).to_have_text("Rows 1 to 10 of 10")
    expect(headline).to_contain_text("Run 3 ✓ succeeded")
    expect(verdict(page)).to_have_count(0)
    expect(status(page)).to_have_text("")


def test_files_are_chosen_and_published_by_keyboard(
    watched: Watched, url: str, tmp_path: Path
) -> None:
    page = watched.open(url)
    page.on("filechooser", lambda _: None)  # from now on none opens outside of the page
    run_to_end(page)
    path = tmp_path / "users.csv"
    path.write_text(CHANGED)
    page.get_by_role("button", name="Choose files").focus()
    for _ in range(2):  # the same file may be chosen again
        with page.expect_file_chooser() as chooser:
            page.keyboard.press("Enter")
        assert chooser.value.is_multiple()
        chooser.value.set_files(path)
        changes = "Publishing would add 2 rows, remove 1 row, and change 9 rows."
        expect(verdict(page)).to_contain_text(changes)
    expect(page.get_by_role("button", name="Choose files")).to_be_focused()
    expect(page.locator("#run .headline")).to_contain_text("Run 3 (dry)")
    assert names_of(page)[0] == "Alice"
    button = page.get_by_role("button", name="Publish")
    while not button.evaluate("it => it === document.activeElement"):
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#features-status")).to_have_text("Rows 1 to 11 of 11")
    expect(page.get_by_role("button", name="Start a run")).to_be_focused()
    assert names_of(page)[0] == "Alicia"
    page.get_by_role("button", name="#3").press("Enter")
    expect(page.locator("#runs .details")).to_contain_text(changes)


def test_a_file_with_another_header_is_not_taken(
    watched: Watched, url: str, data_dir: Path
) -> None:
    watched.expected = {422}
    page = watched.open(url)
    drop(page, SHIPPED)
    expect(verdict(page)).to_be_visible()
    drop(page, {"users.csv": BAD_HEADER, "compounds.csv": SHIPPED["compounds.csv"]})
    line = page.locator(".upload.failed")
    expect(line).to_contain_text("users.csv was not taken")
    expect(line.get_by_role("alert")).to_contain_text("user_id")
    expect(status(page)).to_contain_text("compounds.csv is in place. users.csv was not")
    expect(verdict(page)).to_have_count(0)  # it is not of these files
    assert (data_dir / "users.csv").read_text() == SHIPPED["users.csv"]
    assert violations(page) == []
    drop(page, {"users.csv": CHANGED})
    expect(verdict(page)).to_contain_text("would add 11 rows")
    expect(line).to_have_count(0)


def test_what_is_left_out_is_checked_without_it(watched: Watched, url: str) -> None:
    watched.expected = {422}
    page = watched.open(url)
    drop(page, {"users.csv": CHANGED, "compounds.csv": BAD_HEADER})
    line = page.locator(".upload.failed")
    line.get_by_role("button", name="Try again").click()
    line.get_by_role("button", name="Leave it out").click()
    expect(verdict(page)).to_contain_text("would add 11 rows")
    expect(status(page)).to_contain_text("users.csv is in place.")


def test_a_check_that_fails_shows_what_to_correct(watched: Watched, url: str) -> None:
    page = watched.open(url)
    run_to_end(page)
    drop(page, {"users.csv": BAD_DATES})
    expect(page.locator("#run .state")).to_have_text("✕ failed")
    expect(status(page)).to_contain_text(
        "users.csv is in place. The check has failed, and the table is unchanged"
    )
    expect(page.locator("#run .note.bad")).to_contain_text("3 of 10 records")
    first = page.locator("#run .rejects tbody tr").first.get_by_role("cell")
    expect(first).to_contain_text(["users.csv", "3", "signup_date", "soon"])
    expect(verdict(page)).to_have_count(0)
    assert names_of(page)[0] == "Alice"
    assert violations(page) == []
    drop(page, {"users.csv": SHIPPED["users.csv"]})
    expect(verdict(page)).to_contain_text("Publishing would change no row.")
    expect(status(page)).to_contain_text("would change no row of the table")
    expect(page.get_by_role("button", name="Publish")).to_have_count(0)


def test_an_unexpected_name_is_asked_about(
    watched: Watched, url: str, data_dir: Path
) -> None:
    page = watched.open(url, viewport={"width": 360, "height": 740})
    drop(page, {"Users - Copy (1).csv": CHANGED, "notes.txt": "x"})
    asking = page.locator(".upload.asking")
    expect(asking).to_have_count(2)
    asked, other = asking.all()
    expect(asked).to_contain_text(
        "Users - Copy (1).csv is none of the names that are expected: compounds.csv, "
        "user_experiments.csv, and users.csv."
    )
    expect(asked.get_by_role("combobox")).to_have_value("users.csv")
    other.get_by_role("button", name="Use it").click()
    expect(other.get_by_role("combobox")).to_be_focused()
    assert violations(page, *SCHEMES) == []
    other.get_by_role("button", name="Leave it out").click()
    assert (data_dir / "users.csv").read_text() == SHIPPED["users.csv"]
    page.locator(".upload").get_by_role("button", name="Use it").click()
    expect(verdict(page)).to_contain_text("would add 11 rows")
    assert (data_dir / "users.csv").read_text() == CHANGED
    assert sorted(path.name for path in data_dir.iterdir()) == [*NAMES]
    page.locator("#expected summary").first.click()
    columns = page.get_by_role("table", name="Columns of compounds.csv")
    expect(columns).to_contain_text("compound_id")
    with page.expect_download() as download:
        page.get_by_role("link", name="Download compounds.csv").click()
    assert Path(download.value.path()).read_text() == SHIPPED["compounds.csv"]
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    assert violations(page, *SCHEMES) == []


def test_an_upload_shows_its_progress_and_is_cancelled(
    watched: Watched, url: str, data_dir: Path
) -> None:
    page = watched.open(url)
    slow_down(page)
    drop(page, {"users.csv": LONG})
    bar = page.get_by_role("progressbar", name="Upload of users.csv")
    expect(bar).to_have_js_property("max", 1)
    expect(page.locator(".upload .said")).to_have_text(re.compile("[1-9].* kB of "))
    assert 0 < bar.evaluate("it => it.value") < 1
    assert violations(page) == []
    page.get_by_role("button", name="Cancel the upload of users.csv").press("Enter")
    expect(bar).to_have_count(0)
    expect(page.get_by_role("button", name="Choose files")).to_be_focused()
    expect(page.locator("#run-body")).to_contain_text("No run yet")
    assert (data_dir / "users.csv").read_text() == SHIPPED["users.csv"]
    drop(page, {"users.csv": LONG})
    expect(bar).to_be_visible()
    drop(page, {"users.csv": CHANGED})  # instead of the one on its way
    expect(verdict(page)).to_contain_text("would add 11 rows")
    assert (data_dir / "users.csv").read_text() == CHANGED


def test_an_upload_that_breaks_off_is_tried_again(
    watched: Watched, url: str, data_dir: Path
) -> None:
    page = watched.open(url)
    expect(page.locator("#expected")).to_contain_text("users.csv")
    page.context.set_offline(True)
    drop(page, {"users.csv": CHANGED})
    line = page.locator(".upload.failed")
    expect(line).to_contain_text("The upload broke off")
    page.context.set_offline(False)
    line.get_by_role("button", name="Try again").click()
    expect(verdict(page)).to_contain_text("would add 11 rows")
    assert (data_dir / "users.csv").read_text() == CHANGED
    watched.faults = [words for words in watched.faults if "ERR_" not in words]


def test_the_check_waits_for_a_run_and_begins_again_with_another_file(
    watched: Watched, url: str, database: str
) -> None:
    page = watched.open(url)
    headline = page.locator("#run .headline")
    expect(page.locator("#run-body")).to_contain_text("No run yet")
    watched.expected = {409}
    with held_up(database):  # a run that somebody else has started
        page.request.post(f"{url}trigger_etl?wait=false")
        drop(page, {"users.csv": CHANGED})
        expect(status(page)).to_contain_text("A dry run checks the files")
        expect(page.locator("#run .phases .now")).to_be_visible()
    expect(headline).to_contain_text("Run 2 (dry) ✓ succeeded")
    with held_up(database):
        drop(page, {"users.csv": SHIPPED["users.csv"]})
        expect(headline).to_contain_text("Run 3")
        drop(page, {"users.csv": CHANGED})
        expect(headline).to_contain_text("Run 4")
    expect(headline).to_contain_text("Run 4 (dry) ✓ succeeded")
    expect(verdict(page)).to_be_visible()
    runs = page.request.get(f"{url}runs").json()
    assert [run["state"] for run in runs] == [
        *("succeeded", "failed"),
        *2 * ["succeeded"],
    ]
    assert runs[1]["error"] == "cancelled"


def test_it_says_which_files_are_still_missing(
    watched: Watched, empty_url: str
) -> None:
    page = watched.open(empty_url)
    drop(page, {"users.csv": SHIPPED["users.csv"]})
    expect(status(page)).to_have_text(
        "users.csv is in place. Still missing: compounds.csv and user_experiments.csv."
    )
    expect(page.locator("#run-body")).to_contain_text("No run yet")


def test_empty_files_are_published_where_that_is_meant(
    watched: Watched, url: str
) -> None:
    page = watched.open(url)
    run_to_end(page)
    header, *_ = SHIPPED["users.csv"].strip().splitlines()
    experiments, *_ = SHIPPED["user_experiments.csv"].strip().splitlines()
    drop(page, {"users.csv": header, "user_experiments.csv": experiments})
    page.get_by_role("button", name="Run again and allow empty files").click()
    expect(verdict(page)).to_contain_text("Publishing would remove 10 rows.")
    page.get_by_role("button", name="Publish").click()
    expect(page.locator("#run .headline")).to_contain_text(
        "Run 4 (empty files allowed) ✓ succeeded"
    )
    expect(page.locator("#features-message")).to_contain_text("without a row")


def test_a_service_that_takes_no_files_says_why(watched: Watched, serve: Serve) -> None:
    page = watched.open(serve(uploads=False))
    hint = page.locator("#files-hint")
    expect(hint).to_contain_text("Files cannot be uploaded here")
    expect(hint).to_contain_text("UPLOADS")
    expect(page.get_by_role("button", name="Choose files")).to_be_hidden()
    dragging(page, SHIPPED, "dragenter", "dragover")
    expect(page.locator("#drop")).to_contain_text("Files cannot be uploaded here")
    drop(page, SHIPPED)
    expect(page.locator("#uploads > li")).to_have_count(0)
    expect(page.locator("#expected")).to_contain_text("users.csv")
    assert violations(page) == []


def test_a_token_is_asked_for_before_files_are_sent(
    watched: Watched, serve: Serve, data_dir: Path
) -> None:
    watched.expected = {401}
    page = watched.open(serve(api_token="secret"))
    drop(page, {"users.csv": CHANGED})
    dialog = page.get_by_role("dialog", name="A token is needed")
    dialog.get_by_role("button", name="Not now").click()
    expect(status(page)).to_have_text("Nothing was sent: a token is needed.")
    assert (data_dir / "users.csv").read_text() == SHIPPED["users.csv"]
    drop(page, {"users.csv": CHANGED})
    for given in ("wrong", "secret"):
        dialog.get_by_label("Token").fill(given)
        dialog.get_by_label("Token").press("Enter")
    expect(verdict(page)).to_contain_text("would add 11 rows")
    assert (data_dir / "users.csv").read_text() == CHANGED


def test_a_file_that_is_too_large_is_not_sent(
    watched: Watched, serve: Serve, data_dir: Path
) -> None:
    page = watched.open(serve(max_upload=1000))
    drop(page, {"users.csv": LONG})
    expect(page.locator(".upload.failed")).to_contain_text("takes 1 kB at most")
    assert (data_dir / "users.csv").read_text() == SHIPPED["users.csv"]


def test_a_service_that_watches_publishes_by_itself(
    watched: Watched, serve: Serve
) -> None:
    page = watched.open(serve(watch=0.2))
    expect(page.locator("#features-status")).to_have_text("Rows 1 to 10 of 10")
    drop(page, {"users.csv": CHANGED})
    expect(status(page)).to_contain_text("and publishes them by itself")
    expect(page.locator("#features-status")).to_have_text("Rows 1 to 11 of 11")
