"""A wire that can be cut or go dead: forwards TCP on loopback until told not to."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Self

from sqlalchemy.engine import make_url


class TcpProxy:
    """Forwards a free loopback port to another address.

    `cut` drops every connection and refuses new ones; `hang` takes new ones and forwards nothing on any; what
    hung goes on with `mend`. `lose` has the connections that stand hang for good, while new ones work.
    """

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._flows = asyncio.Event()
        self._flows.set()
        self._lost: list[asyncio.Event] = []
        self.port = 0

    async def __aenter__(self) -> Self:
        await self.mend()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.cut()
        for flows in (self._flows, *self._lost):
            flows.set()  # whoever waited for it finds the connection gone, and ends

    async def mend(self) -> None:
        """Forward (again), on the same port as before."""
        self._flows.set()
        if self._server is not None:
            return
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        """Drop what is connected; nobody can connect until `mend`."""
        if self._server is not None:
            self._server.close()
            for writer in list(self._writers):
                writer.transport.abort()
            await self._server.wait_closed()
            self._server = None

    async def hang(self) -> None:
        """Forward nothing, without a word to either side."""
        self._flows.clear()

    async def lose(self) -> None:
        """Forward nothing more on what is connected now, without a word to either side."""
        self._flows.clear()
        self._lost.append(self._flows)
        self._flows = asyncio.Event()
        self._flows.set()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection(*self._target)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, far_writer}
        flows = self._flows
        try:
            await asyncio.gather(_pump(reader, far_writer, flows), _pump(far_reader, writer, flows))
        finally:
            self._writers -= {writer, far_writer}


@contextlib.asynccontextmanager
async def wire_to(database_url: str) -> AsyncIterator[tuple[TcpProxy, str]]:
    """A wire to a PostgreSQL server, and the database's address through it."""
    url = make_url(database_url)
    async with TcpProxy(str(url.host), url.port or 5432) as wire:
        yield wire, url.set(host="127.0.0.1", port=wire.port).render_as_string(hide_password=False)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, flows: asyncio.Event) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            await flows.wait()
            if writer.is_closing():
                break
            writer.write(data)
            await writer.drain()
    writer.close()
