"""The run that the tests of training share. It must not be changed: copy it."""

import pytest

from tests.helpers.training import run


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory, tiny_data_dir):
    """Ten steps with checkpoints 4, 8 and 10 and evaluations at 6 and 10."""
    directory = tmp_path_factory.mktemp("undisturbed")
    run(directory, tiny_data_dir, 10)
    return directory
