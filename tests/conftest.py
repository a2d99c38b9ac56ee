"""Fixtures that every test folder shares."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real scans that lies beside the repository; skips where it is absent."""
    folder = Path(os.environ.get("AUGSERVER_SHARED_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("the real scans of shared/data are not here; set AUGSERVER_SHARED_DATA to their folder")
    return folder
