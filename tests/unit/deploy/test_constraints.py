"""constraints.txt: everything pinned and hashed, in step with pyproject.toml, free of any index's address."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "constraints.txt").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PINS = {
    canonicalize_name(name): version
    for name, version in re.findall(r"^([A-Za-z0-9._-]+)==(\S+)", TEXT, re.MULTILINE)
}


def asked_for() -> list[Requirement]:
    project = PROJECT["project"]
    extras = [text for texts in project["optional-dependencies"].values() for text in texts]
    return [
        Requirement(text)
        for text in [*project["dependencies"], *extras, *PROJECT["build-system"]["requires"]]
    ]


@pytest.mark.parametrize("requirement", asked_for(), ids=lambda requirement: requirement.name)
def test_a_dependency_is_pinned_within_its_range(requirement: Requirement) -> None:
    assert requirement.specifier.contains(PINS[canonicalize_name(requirement.name)])


def test_every_line_is_a_pin_with_hashes() -> None:
    entries = re.split(r"\n(?=[^\s#])", "\n".join(line for line in TEXT.splitlines() if "#" not in line))
    assert len(entries) == len(PINS)
    for entry in entries:
        assert re.match(r"\S+==\S+ ", entry)
        assert "--hash=sha256:" in entry


def test_no_address_and_no_path_stands_in_it() -> None:
    assert not re.search(r"://|--(extra-)?index-url|--find-links|(?<=\s)/", TEXT)


def test_every_dependency_has_its_reason() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    start, end = text.index("dependencies = ["), text.index("[project.scripts]")
    lines = [line for line in text[start:end].splitlines() if line.startswith('    "')]
    assert len(lines) >= len(asked_for()) - 2
    for line in lines:
        assert re.search(r'",\s+# \S', line), line
