"""A migrated database for simulated worlds to copy."""

from pathlib import Path

import pytest


@pytest.fixture
def template(request: pytest.FixtureRequest) -> Path:
    path: Path = request.getfixturevalue("_sqlite_template")
    return path
