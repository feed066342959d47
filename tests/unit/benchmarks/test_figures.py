"""Tables and the picture: what is written of what was measured."""

from itertools import pairwise
from xml.etree import ElementTree as ET

import pytest

from benchmarks.figures import Goal, Table, percentile
from benchmarks.picture import Line, draw


@pytest.mark.parametrize(("share", "value"), [(0.5, 50), (0.99, 99), (1.0, 100), (0.001, 1)])
def test_a_percentile_is_a_value_that_was_measured(share: float, value: int) -> None:
    assert percentile(range(100, 0, -1), share) == value


@pytest.mark.parametrize(
    ("goal", "met"),
    [
        (Goal("g", "", 1.0, least=1.0), True),
        (Goal("g", "", 0.99, least=1.0), False),
        (Goal("g", "", 3.0, most=3.0), True),
        (Goal("g", "", 3.1, most=3.0), False),
    ],
)
def test_a_goal_is_met_at_its_border(goal: Goal, *, met: bool) -> None:
    assert goal.met is met


def test_a_table_for_people_and_for_documents() -> None:
    table = Table(
        "Title",
        ["program", "events/s", "of it"],
        [("ours", 12_345.6, 0.5), ("other", 1, None)],
        notes=["A note."],
        goals=[Goal("half", "at least 0.5", 0.5, least=0.5)],
    )
    assert table.text().splitlines() == [
        "Title",
        "  program  events/s  of it",
        "  ours       12,346   0.50",
        "  other           1      -",
        "  A note.",
        "  half: 0.50 (at least 0.5): met",
    ]
    assert "| ours | 12,346 | 0.50 |" in table.markdown()


def test_the_picture_has_every_program_once_and_no_label_on_another() -> None:
    names = ["bare", "ours & fast", "slow", "as slow"]
    lines = [Line(name, {1_000: 10.0**power}) for name, power in zip(names, (4, 4, 2, 2), strict=True)]
    root = ET.fromstring(draw("Rates", lines))
    texts = {text.text: float(text.get("y", "")) for text in root.iter("{http://www.w3.org/2000/svg}text")}
    heights = sorted(texts[label] for label in texts if label is not None and label.split(":")[0] in names)
    assert len(heights) == len(names)
    assert all(below - above >= 15 for above, below in pairwise(heights))
