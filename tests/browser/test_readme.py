"""What the reference says about a browser, done in one."""

from __future__ import annotations

import re

import pytest

from etl.settings import PROJECT
from tests.support.browser import Watched, held_up

pytestmark = pytest.mark.any_postgres


def test_an_event_source_follows_a_run(
    watched: Watched, url: str, database: str
) -> None:
    """The run is held up until its progress is printed, for it would end before."""
    reference = (PROJECT / "docs" / "reference.md").read_text()
    examples = re.findall(r"```js\n(.*?)```", reference, re.DOTALL)
    (example,) = [each for each in examples if "new EventSource" in each]
    page = watched.open(url)
    progress = re.compile(r"\w+: \d+ of \d+ bytes")
    with (
        page.expect_console_message(lambda message: "succeeded" in message.text),
        held_up(database),
        page.expect_console_message(
            lambda message: progress.fullmatch(message.text) is not None
        ),
    ):
        page.evaluate(f"async () => {{ {example} }}")
