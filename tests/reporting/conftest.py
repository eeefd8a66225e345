"""Runs, and a browser, for the tests of the report."""

import os
from pathlib import Path

import pytest

from tests.helpers.run_directories import write_medium, write_t5x


@pytest.fixture
def medium(tmp_path) -> Path:
    return write_medium(tmp_path)


@pytest.fixture
def t5x(tmp_path) -> Path:
    return write_t5x(tmp_path)


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


@pytest.fixture
def screenshot(tmp_path):
    """Takes a picture of a tab; EXPLAINFT_SCREENSHOTS=DIRECTORY keeps them."""
    folder = Path(os.environ.get("EXPLAINFT_SCREENSHOTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)

    def take(tab, name: str) -> None:
        tab.page.screenshot(path=folder / name)
        assert (folder / name).stat().st_size > 20_000  # an empty page is smaller

    return take
