"""A browser for the tests of the page."""

from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def browser():
    chromium = pytest.importorskip("tests.helpers.chromium", reason="needs the extra test", exc_type=ImportError)
    if chromium.program() is None:
        pytest.skip("needs Chromium: Debian's package chromium")
    with chromium.chromium() as browser:
        yield browser


@pytest.fixture
def opened(browser):
    """Opens a page and waits for its charts and its predictions; closes it after the test."""
    from tests.helpers import chromium

    tabs = []

    def opened(file: Path, width: int = 1280, height: int = 900, **how):
        tabs.append(chromium.Tab(browser, file, width, height, **how))
        tabs[-1].until("document.querySelectorAll('#curves .role-axis').length > 0")
        return tabs[-1]

    yield opened
    for tab in tabs:
        tab.close()
