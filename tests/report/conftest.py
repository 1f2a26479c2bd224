"""Shared by the tests of a run's page."""

from pathlib import Path

import pytest
from reportkit import write_run


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    return write_run(tmp_path)
