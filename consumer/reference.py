"""The reference pages of settings and metrics, made from their declarations.

``python -m consumer.reference`` writes ``docs/settings.md`` and ``docs/metrics.md``; with ``--check`` it
writes nothing and exits 1 where a page differs from the code.
"""

import sys
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry
from pydantic import SecretStr
from pydantic.fields import FieldInfo

from consumer.metrics import Metrics
from consumer.settings import Settings, variable

DOCS: Final = Path(__file__).resolve().parent.parent / "docs"
_MADE: Final = "<!-- Made by `python -m consumer.reference`; edit the declarations instead. -->"


def settings_page() -> str:
    """Return the page of all settings, in the order of their declarations."""
    rows = [
        f"| `{variable(name)}` | {_default(field)} | {_cell(field.description or '')} |"
        for name, field in Settings.model_fields.items()
    ]
    return "\n".join(
        [
            "# Settings",
            "",
            _MADE,
            "",
            "Read from the environment or a `.env` file in the working directory; the environment goes",
            "first, and an empty value counts as none. A missing or wrong setting stops the start with",
            "one line that names it.",
            "",
            "| setting | default | meaning |",
            "| --- | --- | --- |",
            *rows,
            "",
        ]
    )


def metrics_page() -> str:
    """Return the page of all metrics, in the order of their declarations."""
    rows = []
    for declared in Metrics(CollectorRegistry()).declarations:
        labels = "; ".join(f"`{name}`: {meaning}" for name, meaning in declared.labels.items())
        rows.append(f"| `{declared.name}` | {declared.kind} | {_cell(labels)} | {_cell(declared.meaning)} |")
    return "\n".join(
        [
            "# Metrics",
            "",
            _MADE,
            "",
            "Served at `GET /metrics` in Prometheus' text format. Labels never hold ids.",
            "",
            "| metric | kind | labels | meaning |",
            "| --- | --- | --- | --- |",
            *rows,
            "",
        ]
    )


def pages() -> dict[Path, str]:
    """Return every page by the file it belongs in."""
    return {DOCS / "settings.md": settings_page(), DOCS / "metrics.md": metrics_page()}


def outdated() -> list[Path]:
    """Return the files that differ from what the code declares."""
    return [
        path
        for path, text in pages().items()
        if not path.is_file() or path.read_text(encoding="utf-8") != text
    ]


def main(arguments: list[str]) -> int:
    """Write or check the pages; return the exit code."""
    if arguments not in ([], ["--check"]):
        print("usage: python -m consumer.reference [--check]", file=sys.stderr)  # noqa: T201
        return 2
    stale = outdated()
    if arguments:
        for path in stale:
            print(f"{path} differs from the code: run python -m consumer.reference", file=sys.stderr)  # noqa: T201
        return 1 if stale else 0
    texts = pages()
    for path in stale:
        path.write_text(texts[path], encoding="utf-8")
    return 0


def _default(field: FieldInfo) -> str:
    value = field.default
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if value is None or value == ():
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
