"""Lists of any length, read a page at a time."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Final, Protocol, TypeVar

import click
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.database import Database

Item = TypeVar("Item")
Place = TypeVar("Place", int, str, tuple[str, int])

MOST: Final = 2**63 - 1
"""The largest number a row can have."""


class ReadPage(Protocol[Item, Place]):  # type: ignore[misc]
    """Reads the first `limit` items beyond `after`, in order."""

    def __call__(  # noqa: D102 - the class says it
        self, tx: AsyncConnection, *, after: Place, limit: int
    ) -> Awaitable[Sequence[Item]]: ...


def limit_option(people_see: int) -> Callable[[Callable[..., object]], Callable[..., object]]:
    """Make the option `--limit`; without it people see so many, and programs get all."""
    return click.option(
        "--limit",
        type=click.IntRange(1, MOST),
        help=f"At most so many. Without it people see {people_see:,}; programs get all.",
    )


async def paged(
    database: Database,
    read: ReadPage[Item, Place],
    place: Callable[[Item], Place],
    *,
    after: Place,
    limit: int | None = None,
    page: int = 500,
) -> AsyncIterator[Item]:
    """Give items one by one, each page read in a transaction of its own: whoever takes them may be slow.

    Args:
        database: Where they are.
        read: Reads a page.
        place: An item's place in the order.
        after: The place beyond which they begin.
        limit: How many at most; None: all.
        page: How many are read at once.
    """
    left = limit
    while left is None or left > 0:
        size = page if left is None else min(left, page)
        async with database.reading() as tx:
            items = await read(tx, after=after, limit=size)
        for item in items:
            yield item
        if len(items) < size:
            return
        after = place(items[-1])
        left = None if left is None else left - len(items)
