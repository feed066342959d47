"""Small wrongs in SQL that stands as text: what a slip of the pen would make of it.

A text counts as SQL by its words in capitals, which is how this project writes it.
"""

import re
from collections.abc import Iterator
from typing import Final

_IS_SQL: Final = re.compile(
    r"\b(SELECT\b.*\bFROM|INSERT INTO|UPDATE\b.*\bSET|DELETE FROM|ON CONFLICT|ORDER BY|WHERE|RETURNING)\b",
    re.DOTALL,
)

_SLIPS: Final = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"(?<= )<(?= )", "<="),
        (r"(?<= )<=(?= )", "<"),
        (r"(?<= )>(?= )", ">="),
        (r"(?<= )>=(?= )", ">"),
        (r"(?<= )=(?= )", "<>"),
        (r"(?<= )<>(?= )", "="),
        (r"(?<= )\+(?= )", "-"),
        (r"\bAND\b", "OR"),
        (r"\bOR\b", "AND"),
        (r"\bNOT (?!NULL)", ""),
        (r"\bIS NULL\b", "IS NOT NULL"),
        (r"\bIS NOT NULL\b", "IS NULL"),
        (r"\bWHERE\b", "WHERE TRUE OR"),
        (r" ?\bORDER BY [\w.]+(?: ASC| DESC)?(?:, [\w.]+(?: ASC| DESC)?)*", ""),
        (r"(\bORDER BY [\w.]+)(?! ?(?:ASC|DESC|[\w.]))", r"\1 DESC"),
        (r"\bDESC\b", "ASC"),
        (r" ?\bLIMIT [\w:?]+", ""),
        (r" ?\bON CONFLICT(?: \([^)]*\))? DO NOTHING", ""),
        (r" ?\bFOR UPDATE(?: SKIP LOCKED)?", ""),
        (r" SKIP LOCKED\b", ""),
        (r"\bmin\(", "max("),
        (r"\bmax\(", "min("),
    )
)


def is_sql(text: str) -> bool:
    """Say whether a text is SQL, as far as can be told."""
    return _IS_SQL.search(text) is not None


def slips(text: str) -> Iterator[str]:
    """Give the text with one thing wrong, once for each thing that could be."""
    if not is_sql(text):
        return
    for pattern, replacement in _SLIPS:
        for found in pattern.finditer(text):
            yield text[: found.start()] + found.expand(replacement) + text[found.end() :]
