"""Debian's Chromium, driven by Playwright, which downloads no browser of its own."""

import contextlib
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
# No requests of the browser's own, so that any request is the page's.
FLAGS = ("--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-sync")
PATIENCE = 30  # seconds


def program() -> str | None:
    """Returns the browser's path, if it is installed."""
    return next(filter(None, map(shutil.which, NAMES)), None)


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program(), args=list(FLAGS))
        try:
            yield browser
        finally:
            browser.close()


class Tab:
    """A page in a context of its own, with the messages and the requests that it has made."""

    def __init__(self, browser: Browser, file: Path, width: int, height: int, mobile: bool = False, dark: bool = False):
        context = browser.new_context(
            viewport={"width": width, "height": height}, is_mobile=mobile, device_scale_factor=2 if mobile else 1,
            color_scheme="dark" if dark else "light",
        )  # fmt: skip
        self.page = context.new_page()
        self.messages: list[str] = []  # the console's, exceptions, and what the page's policy refused
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.messages.append(message.text))
        self.page.on("pageerror", lambda error: self.messages.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(file.as_uri())

    def value(self, expression: str) -> Any:
        """Returns the value of a JavaScript expression, as JSON."""
        return self.page.evaluate(expression)

    def until(self, expression: str) -> None:
        # Not Playwright's wait_for_function: it compiles text in the page, which the page's policy refuses.
        deadline = time.monotonic() + PATIENCE
        while not self.value(expression):
            assert time.monotonic() < deadline, f"never true: {expression}"
            self.page.wait_for_timeout(50)

    def close(self) -> None:
        self.page.context.close()
