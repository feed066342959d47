"""The README's picture: rate against events, ours and the peers, as SVG. Legible on light and on dark."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

WIDTH, HEIGHT = 800, 400
LEFT, RIGHT, TOP, BOTTOM = 70, 260, 46, 46
LABEL_GAP = 17
#: Middle tones, which stand out on white and on black alike.
GREY = "#7d8590"
COLOURS = ("#e5534b", "#8957e5", "#bf8700", "#2f9e8f", "#c2569b", "#57606a")
OURS, LIMIT = "#2f81f7", GREY


@dataclass(frozen=True, slots=True)
class Line:
    """One program's rates.

    Attributes:
        name: As the label says it.
        rates: Events a second by how many events there were.
        ours: Whether it is drawn as the one to look at.
        limit: Whether it is drawn as the limit.
    """

    name: str
    rates: Mapping[int, float]
    ours: bool = False
    limit: bool = False


def draw(title: str, lines: Sequence[Line]) -> str:
    """Draw lines over logarithmic axes, each labelled at its end."""
    sizes = sorted({size for line in lines for size in line.rates})
    rates = [rate for line in lines for rate in line.rates.values()]
    low, high = math.floor(math.log10(min(rates))), math.ceil(math.log10(max(rates)))
    first, last = math.log10(sizes[0]), math.log10(sizes[-1])

    def x(size: int) -> float:
        share = (math.log10(size) - first) / ((last - first) or 1)
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def y(rate: float) -> float:
        return HEIGHT - BOTTOM - (math.log10(rate) - low) / (high - low) * (HEIGHT - TOP - BOTTOM)

    size = f'viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" font-family="sans-serif" font-size="13">',
        f"<title>{escape(title)}</title>",
        _text(LEFT, 22, title, weight="600"),
    ]
    for power in range(low, high + 1):
        height = y(10**power)
        parts += [
            f'<path d="M{LEFT} {height:.1f}H{WIDTH - RIGHT}" stroke="{GREY}" stroke-opacity=".3"/>',
            _text(LEFT - 8, height + 4, f"{10**power:,}", anchor="end"),
        ]
    parts += [_text(x(size), HEIGHT - BOTTOM + 20, f"{size:,}", anchor="middle") for size in sizes]
    parts += [_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, "events in the backlog", anchor="middle")]
    parts += [_text(LEFT - 8, TOP - 10, "events/s", anchor="end")]

    colours = iter(COLOURS)
    ends: list[tuple[float, float, str, Line]] = []
    for line in lines:
        colour = OURS if line.ours else LIMIT if line.limit else next(colours)
        points = [(x(size), y(rate)) for size, rate in sorted(line.rates.items())]
        path = "M" + "L".join(f"{across:.1f} {down:.1f}" for across, down in points)
        width = 3.5 if line.ours else 2
        dashes = ' stroke-dasharray="6 5"' if line.limit else ""
        parts.append(f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="{width}"{dashes}/>')
        parts += [
            f'<circle cx="{across:.1f}" cy="{down:.1f}" r="{width + 0.5}" fill="{colour}"/>'
            for across, down in points
        ]
        across, down = points[-1]
        ends.append((down, across, colour, line))
    for (_, across, colour, line), height in zip(
        sorted(ends, key=lambda end: end[0]), _apart(sorted(end[0] for end in ends)), strict=True
    ):
        rate = line.rates[max(line.rates)]
        label = f"{line.name}: {rate:,.0f}"
        parts.append(
            _text(across + 12, height + 4, label, colour=colour, weight="600" if line.ours else "400")
        )
    return "\n".join([*parts, "</svg>", ""])


def _apart(heights: Sequence[float]) -> list[float]:
    """Move labels down until none stands on another."""
    placed = list(heights)
    for number, (above, below) in enumerate(pairwise(placed), start=1):
        placed[number] = max(below, above + LABEL_GAP, placed[number - 1] + LABEL_GAP)
    return placed


def _text(
    x: float, y: float, text: str, *, anchor: str = "start", colour: str = GREY, weight: str = "400"
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}" text-anchor="{anchor}" font-weight="{weight}">'
        f"{escape(text)}</text>"
    )
