"""The config `tiny`, cut to the first examples of each split, and its dataset."""

from pathlib import Path

import pytest

from tests.helpers.datasets import SIZES, cut


@pytest.fixture(scope="module")
def small_tiny():
    """Cuts the published `tiny` to SIZES while a module's tests run."""
    with cut("tiny", SIZES["train"], SIZES["test"]):
        yield


@pytest.fixture(scope="session")
def built(tmp_path_factory) -> Path:
    """Returns the directory of all datasets, with `tiny` in one file a split, by one process."""
    from explainft.data.dataset_build import build

    data_dir = tmp_path_factory.mktemp("data")
    with cut("tiny", SIZES["train"], SIZES["test"]):
        assert build("tiny", str(data_dir), processes=1) == data_dir / "explained_listops/tiny/1.0.0"
    return data_dir
