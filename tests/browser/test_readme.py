"""What the README says about a browser, done in one."""

from __future__ import annotations

import re

from etl.settings import PROJECT
from tests.browser.conftest import Watched


def test_an_event_source_follows_a_run(watched: Watched, url: str) -> None:
    readme = (PROJECT / "README.md").read_text()
    (example,) = re.findall(r"```js\n(.*?)```", readme, re.DOTALL)
    page = watched.open(url)
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    with page.expect_console_message(lambda message: "succeeded" in message.text):
        page.evaluate(f"async () => {{ {example} }}")
    assert [line for line in said if re.fullmatch(r"\w+: \d+ of \d+ bytes", line)]
