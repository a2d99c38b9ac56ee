"""Where the cases of broken and odd files are."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def shared_cases(shared_data: Path) -> Path:
    """The folder of cases beside the shared data, one folder a case."""
    folder = shared_data.parent / "cases" / "ingest"
    if not folder.is_dir():
        pytest.skip("the cases of ../shared are not here")
    return folder
