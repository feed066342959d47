"""Beyond import-linter: outside storage SQLAlchemy serves for types, errors and URLs, not for SQL."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ALLOWED = {
    "sqlalchemy.engine": {"URL", "make_url"},
    "sqlalchemy.exc": {"ArgumentError", "IntegrityError"},
    "sqlalchemy.ext.asyncio": {"AsyncConnection"},
}


def imports(path: Path) -> set[tuple[str, str]]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {(node.module, alias.name) for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {(alias.name, "") for alias in node.names}
    return {(module, name) for module, name in found if module.split(".")[0] == "sqlalchemy"}


@pytest.mark.parametrize("folder", ["consumer", "producers", "schemas"])
def test_no_sql_is_written_outside_storage(folder: str) -> None:
    stray = {
        f"{path.relative_to(ROOT)}: {module}.{name}"
        for path in (ROOT / folder).rglob("*.py")
        for module, name in imports(path)
        if name not in ALLOWED.get(module, ())
    }
    assert not stray
