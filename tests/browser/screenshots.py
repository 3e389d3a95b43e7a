"""Makes the pictures of docs/images again: ``./test.sh tests/browser/screenshots.py``.

By its name it is no part of the suite.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, ViewportSize, expect

from etl.settings import PROJECT
from tests.support.browser import Serve, Watched, run_to_end, write

IMAGES = PROJECT / "docs" / "images"

NAMES = ("Alice", "Bob", "Carol", "Dave", "Eve", "Frank", "Grace", "Heidi", "Ivan")

PHONE = {"width": 390, "height": 844}
LAPTOP = ViewportSize(width=1280, height=900)

#: With room beside the table, and not so wide that nobody can read the picture.
WIDE = {"width": 1760, "height": 1100}


def make_data(folder: Path, users: int) -> None:
    """Files with something to see in them: some users do far more than others."""
    source = random.Random(7)
    write(
        folder,
        "compounds.csv",
        "compound_id,compound_name,compound_structure",
        *(f"{number},Compound {number},C{number}H{number}" for number in range(1, 200)),
    )
    write(
        folder,
        "users.csv",
        "user_id,name,email,signup_date",
        *(_user(number, source) for number in range(1, users + 1)),
    )
    write(
        folder,
        "user_experiments.csv",
        "experiment_id,user_id,experiment_compound_ids,experiment_run_time",
        *_experiments(users, source),
    )


def _user(number: int, source: random.Random) -> str:
    month = int(36 * source.random() ** 0.7)
    day = f"{2023 + month // 12}-{month % 12 + 1:02}-{source.randint(1, 28):02}"
    name = NAMES[number % len(NAMES)]
    return f"{number},{name} {number},{name.lower()}{number}@example.com,{day}"


def _experiments(users: int, source: random.Random) -> Iterator[str]:
    number = 0
    for user in range(1, users + 1):
        for _ in range(min(60, int(source.expovariate(1 / 6)))):
            number += 1
            drawn = (1 + int(source.expovariate(1 / 8)) for _ in range(3))
            ids = ";".join(str(min(199, each)) for each in drawn)
            yield f"{number},{user},{ids},{source.randint(1, 90)}"


def save(page: Page, name: str) -> None:
    """The window as it is, without what only moves."""
    page.mouse.move(0, 0)
    page.evaluate("document.activeElement.blur()")
    page.screenshot(path=IMAGES / f"{name}.png", animations="disabled")


def show_charts(page: Page) -> None:
    page.locator("#figures figure").last.scroll_into_view_if_needed()
    expect(page.locator("#figures canvas")).to_have_count(4)
    page.locator("#charts").evaluate("it => it.scrollIntoView()")


@pytest.fixture
def url(serve: Serve, data_dir: Path) -> str:
    """Where a service with more to see than the shipped data is."""
    make_data(data_dir, 1000)
    return serve()


def test_first_visit(watched: Watched, url: str) -> None:
    page = watched.open(url)
    page.locator("#features-message .empty").wait_for()
    page.locator("#run-body .empty").wait_for()
    save(page, "first-visit")


def test_light_and_dark(watched: Watched, url: str) -> None:
    page = watched.open(f"{url}?order=total_experiments.desc&limit=10", viewport=WIDE)
    run_to_end(page)
    expect(page.locator("#features-status")).to_have_text("Rows 1 to 10 of 1,000")
    expect(page.locator("#state")).to_contain_text("1,000 users, loaded")
    page.locator("#figures canvas").nth(2).wait_for()
    save(page, "light")
    page.set_viewport_size(LAPTOP)
    page.emulate_media(color_scheme="dark")
    show_charts(page)
    save(page, "dark")


def test_phone(watched: Watched, url: str) -> None:
    page = watched.open(f"{url}?limit=10", viewport=PHONE)
    run_to_end(page)
    page.locator("#features").evaluate("it => it.scrollIntoView()")
    save(page, "phone")


def test_failing(watched: Watched, url: str, data_dir: Path) -> None:
    page = watched.open(url, viewport={"width": 1280, "height": 760})
    run_to_end(page)
    users = (data_dir / "users.csv").read_text().splitlines()
    users[4::5] = [line.replace("-", "/") for line in users[4::5]]
    write(data_dir, "users.csv", *users)
    page.get_by_role("button", name="Start a run").first.click()
    page.locator("#run .state.failed").wait_for()
    page.locator("#run .rejects td").first.wait_for()
    save(page, "failing")


def test_checked(watched: Watched, url: str, data_dir: Path) -> None:
    page = watched.open(url, viewport={"width": 1280, "height": 760})
    run_to_end(page)
    users = (data_dir / "users.csv").read_text().replace("Ivan", "Iwan").splitlines()
    users[4::99] = [line.replace("-", "/") for line in users[4::99]]
    path = data_dir.with_name("users.csv")
    path.write_text("\n".join([*users, "1001,Judy,judy@example.com,2025-12-01"]))
    page.locator("#chosen").set_input_files(path)
    page.locator("#run .verdict").wait_for()
    page.locator("#run .rejects td").first.wait_for()
    save(page, "checked")


def test_running(watched: Watched, serve: Serve, data_dir: Path) -> None:
    make_data(data_dir, 400_000)
    page = watched.open(serve())
    page.locator("#features-message .empty").wait_for()
    page.get_by_role("button", name="Start a run").first.click()
    page.get_by_role("progressbar", name="users.csv").wait_for()
    save(page, "running")
