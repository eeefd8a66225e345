"""The page in headless Chromium, opened from its file: python -m pytest -m browser."""

import os
from pathlib import Path

import pytest

from tests.helpers.pages import count, low_contrast, quiet
from tests.reporting.conftest import browser, screenshot  # noqa: F401  fixtures

pytestmark = pytest.mark.browser


@pytest.fixture
def opened(browser, written):  # noqa: F811  the fixture
    """Opens the page; closes it after the test."""
    from tests.helpers import chromium

    tabs = []

    def opened(width=1280, height=900, **how):
        file = Path(os.environ.get("EXPLAINFT_TRANSFER_PAGE", written / "transfer.html"))
        tabs.append(chromium.Tab(browser, file, width, height, **how))
        tabs[-1].until("document.querySelectorAll('#results > li').length > 0")
        return tabs[-1], file

    yield opened
    for tab in tabs:
        tab.close()


def test_number_opens_its_predictions(opened):
    tab, file = opened()
    tab.page.click("#matrix td:nth-child(4) a")
    tab.until("document.querySelector('[name=set]').value === '2'")
    assert count(tab).endswith("of 8 predictions")
    tab.page.click("#results .row")
    assert "the model" in tab.value("document.querySelector('#results .detail').textContent")
    quiet(tab, file)


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize(("name", "width", "mobile"), [("desktop", 1280, False), ("phone", 375, True)])
def test_page_is_legible(opened, screenshot, name, width, mobile, dark):  # noqa: F811  the fixture
    tab, file = opened(width, 900, mobile=mobile, dark=dark)
    screenshot(tab, f"transfer-{name}-{'dark' if dark else 'light'}.png")
    assert low_contrast(tab) == []
    # The tables scroll inside their regions, the page does not.
    assert tab.value("document.documentElement.scrollWidth") <= width
    quiet(tab, file)
