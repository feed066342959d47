"""What a client asks of PostgreSQL, counted on the wire: nothing it does can go uncounted."""

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from sqlalchemy.engine import URL

_SYNC, _FLUSH, _QUERY, _PARSE, _BIND, _EXECUTE = b"S", b"H", b"Q", b"P", b"B", b"E"
_TERMINATED = b"\0"


@dataclass(slots=True)
class Asked:
    """What was asked since the last `clear`.

    Attributes:
        statements: The text of every statement carried out, begin and commit among them.
        round_trips: How often the client waited for the server.
    """

    statements: list[str] = field(default_factory=list)
    round_trips: int = 0

    def clear(self) -> None:
        """Count anew."""
        self.statements.clear()
        self.round_trips = 0

    def count(self, keyword: str) -> int:
        """Count the statements that begin with a keyword."""
        return sum(text.lstrip().upper().startswith(keyword) for text in self.statements)


@contextlib.asynccontextmanager
async def counted(url: URL) -> AsyncIterator[tuple[URL, Asked]]:
    """Give an address that leads to the same database, and what is asked through it."""
    asked = Asked()
    connected: set[asyncio.Task[None]] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        connected.add(task)
        up_reader, up_writer = await asyncio.open_connection(url.host, url.port or 5432)
        try:
            await asyncio.gather(
                _Requests(asked).forward(reader, up_writer),
                _forward(up_reader, writer),
                return_exceptions=True,
            )
        finally:
            connected.discard(task)
            for end in (writer, up_writer):
                end.close()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield url.set(host="127.0.0.1", port=server.sockets[0].getsockname()[1]), asked
    finally:
        server.close()
        for task in list(connected):
            task.cancel()
        await asyncio.gather(*connected, return_exceptions=True)
        await server.wait_closed()


async def _forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


class _Requests:
    """One connection's requests: prepared statements are counted when they are carried out."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._prepared: dict[bytes, str] = {}
        self._portals: dict[bytes, str] = {}
        self._executed = False

    async def forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # First come messages without a type: a wish for encryption, perhaps, and the start-up.
        with contextlib.suppress(asyncio.IncompleteReadError):
            while True:
                head = await reader.readexactly(4)
                body = await reader.readexactly(struct.unpack("!I", head)[0] - 4)
                writer.write(head + body)
                if struct.unpack("!I", body[:4])[0] >> 16 == 3:  # the protocol's version: the start-up itself
                    break
            while True:
                head = await reader.readexactly(5)
                body = await reader.readexactly(struct.unpack("!I", head[1:])[0] - 4)
                self._note(head[:1], body)
                writer.write(head + body)
                await writer.drain()
        writer.close()

    def _note(self, kind: bytes, body: bytes) -> None:
        if kind == _QUERY:
            self._asked.statements.append(body.rstrip(_TERMINATED).decode())
            self._asked.round_trips += 1
        elif kind == _PARSE:
            name, text, _ = body.split(_TERMINATED, 2)
            self._prepared[name] = text.decode()
        elif kind == _BIND:
            portal, name, _ = body.split(_TERMINATED, 2)
            self._portals[portal] = self._prepared[name]
        elif kind == _EXECUTE:
            self._asked.statements.append(self._portals[body.split(_TERMINATED, 1)[0]])
        elif kind in {_SYNC, _FLUSH}:
            self._asked.round_trips += 1
