"""The copy of the tree in which mutants live; nothing outside it is ever changed.

Made before mutmut is imported: it reads its settings from the folder it is imported in.
"""

import ast
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.mutation.targets import Target

ROOT: Final = Path(__file__).resolve().parents[2]
WORK: Final = ROOT / "build" / "mutation" / "tree"

PATIENCE_S: Final = 3.0
PATIENCE_TIMES: Final = 3.0
"""A mutant loops where its tests take so many times what they took without it and so many seconds."""

_PACKAGES: Final = ("schemas", "storage", "producers", "consumer")


def copy(targets: Sequence[Target]) -> None:
    """Make it anew, with the settings for these targets."""
    shutil.rmtree(WORK, ignore_errors=True)
    ignored = shutil.ignore_patterns("__pycache__", "*.db*")
    for folder in (*_PACKAGES, "tests"):
        shutil.copytree(ROOT / folder, WORK / folder, ignore=ignored)
    for file in (file for target in targets for file in target.files):
        path = WORK / file
        path.write_text(_without_caches(path.read_text("utf-8")), "utf-8")
    settings = {
        "source_paths": list(_PACKAGES),
        "only_mutate": [file for target in targets for file in target.files],
        "pytest_add_cli_args": [
            "-p",
            "no:cacheprovider",
            "-p",
            "no:xdist",
            "-p",
            "no:cov",
            "--hypothesis-profile=ci",
        ],
        "pytest_add_cli_args_test_selection": sorted(
            {witness for target in targets for witness in target.witnesses if (WORK / witness).exists()}
        ),
        "timeout_constant": PATIENCE_S,
        "timeout_multiplier": PATIENCE_TIMES,
        "use_git_change_detection": False,
    }
    lines = [
        f"{name} = {str(value).lower() if isinstance(value, bool) else value!r}"
        for name, value in settings.items()
    ]
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    (WORK / "pyproject.toml").write_text("\n".join([project, "[tool.mutmut]", *lines, ""]), "utf-8")


def _without_caches(source: str) -> str:
    """Take `lru_cache` away: mutmut leaves decorated functions alone, and mutants would meet full caches."""
    lines = source.splitlines(keepends=True)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef):
            for decorator in node.decorator_list:
                if ast.unparse(decorator).startswith(("lru_cache", "cache")):
                    assert decorator.end_lineno == decorator.lineno
                    lines[decorator.lineno - 1] = "\n"
    return "".join(lines)
