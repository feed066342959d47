"""Servers of a test's own, that it may stop, kill, hang and start again; `own_kafka` and `own_postgres`.

``QM_TEST_SERVERS`` names a folder with `kafka/up.sh` and `postgres/up.sh`: given a folder for the data, and
the port in ``KAFKA_PORT`` or ``POSTGRES_PORT``, each starts what does not run of its server, on the data it
has, and returns when it listens. ``QM_TEST_SERVERS_HOME`` names the folder that the data folders are made in
(default: the system's for temporary files); where Kafka is installed in its `kafka` folder (`libs-*`), no
cluster installs it again.

Every call blocks until it is done: from a coroutine use `asyncio.to_thread`. Whatever becomes of the test
run, nothing is left behind: a process that outlives it ends the servers and removes their data.
"""

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from sqlalchemy.engine import URL

from tests.parts import processes
from tests.parts.choice import SERVERS
from tests.parts.loops import run_apart
from tests.parts.ports import free_ports

HOME_VARIABLE: Final = "QM_TEST_SERVERS_HOME"
_START_WITHIN_S: Final = 180.0
_CLUSTER_WITHIN_S: Final = 180.0
# Half the processor time of a start, for brokers that live for minutes and carry little.
_QUICK_JAVA: Final = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
_CONTROLLERS: Final = 100
"""How far above a broker's port `up.sh` puts its controller."""


class _Server:
    """What both have in common: the script, the folder, the end."""

    def __init__(self, name: str, environment: Mapping[str, str]) -> None:
        self._script = Path(str(SERVERS.given)).resolve() / name / "up.sh"
        self._environment = {**os.environ, **environment}
        home = os.environ.get(HOME_VARIABLE)
        self.folder = Path(tempfile.mkdtemp(prefix=f"own-{name}-", dir=home)).resolve()
        self._guardian: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self._guardian = subprocess.Popen(
            [sys.executable, "-I", processes.__file__, str(self.folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            self._start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        guardian, self._guardian = self._guardian, None
        if guardian is not None:
            guardian.communicate()

    def _start(self) -> None:
        # A file, no pipe: the servers inherit it, and a pipe would only end with them.
        told = self.folder / "up.log"
        with told.open("ab") as sink:
            process = subprocess.run(
                [str(self._script), str(self.folder)],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                start_new_session=True,
                timeout=_START_WITHIN_S,
                check=False,
            )
        if process.returncode:
            raise RuntimeError(f"{self._script} failed: {told.read_text(errors='replace')[-3000:]}")


class OwnKafka(_Server):
    """A cluster: topics made with three replicas outlive one broker of three."""

    def __init__(self, brokers: int = 3) -> None:
        self.brokers = brokers
        self._port = free_ports(brokers, also=_CONTROLLERS)
        super().__init__(
            "kafka",
            {
                "KAFKA_PORT": str(self._port),
                "KAFKA_BROKERS": str(brokers),
                "JAVA_TOOL_OPTIONS": os.environ.get("JAVA_TOOL_OPTIONS", _QUICK_JAVA),
            },
        )
        home = os.environ.get(HOME_VARIABLE)
        for installed in Path(home, "kafka").resolve().glob("libs-*") if home else ():
            if installed.is_dir() and not installed.name.endswith(".part"):
                (self.folder / installed.name).symlink_to(installed)

    @property
    def address(self) -> str:
        """HOST:PORT of every broker, with commas between."""
        return ",".join(f"127.0.0.1:{self._port + number}" for number in range(self.brokers))

    @property
    def replicas(self) -> int:
        """How many replicas a topic should have."""
        return min(3, self.brokers)

    def _start(self) -> None:
        super()._start()
        run_apart(self._whole())

    async def _whole(self) -> None:
        """Return when the brokers know of one another and no replica lags: later than they listen."""
        async with asyncio.timeout(_CLUSTER_WITHIN_S):
            while not await self._is_whole():  # noqa: ASYNC110 - nobody tells us
                await asyncio.sleep(0.2)  # between two questions to another process

    async def _is_whole(self) -> bool:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.address, request_timeout_ms=5000)
        try:
            await admin.start()
            cluster = await admin.describe_cluster()
            topics = await admin.describe_topics()
        except (KafkaError, OSError):
            return False
        finally:
            await admin.close()
        return len(cluster["brokers"]) == self.brokers and all(
            len(partition["isr"]) == len(partition["replicas"])
            for topic in topics
            for partition in topic["partitions"]
        )

    def kill(self, number: int) -> None:
        """End broker `number` at once, as the kernel would."""
        self._do(processes.kill, number)
        # Were the number given to another process, the script would take that for the broker.
        self._pid_file(number).unlink(missing_ok=True)

    def kill_all(self) -> None:
        """End every broker at once."""
        for number in range(self.brokers):
            self.kill(number)

    def pause(self, number: int) -> None:
        """Have broker `number` hang: it takes connections and answers nothing."""
        self._do(processes.hang, number)

    def pause_all(self) -> None:
        """Have every broker hang."""
        for number in range(self.brokers):
            self.pause(number)

    def resume(self, number: int) -> None:
        """Let broker `number` go on."""
        self._do(processes.wake, number)

    def start_again(self) -> None:
        """Start every broker that does not run, let go on what hangs, and wait until all are one cluster."""
        for number in range(self.brokers):
            self.resume(number)
        self._start()

    def _do(self, what: Callable[[int], None], number: int) -> None:
        pid = processes.read_pid(self._pid_file(number))
        if pid is not None:
            what(pid)

    def _pid_file(self, number: int) -> Path:
        return self.folder / f"broker-{number}" / "pid"


class OwnPostgres(_Server):
    """A PostgreSQL server with synchronous commits; `environment` is what its processes find in theirs."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        self._port = free_ports(1)
        super().__init__("postgres", {"POSTGRES_PORT": str(self._port), **(environment or {})})

    @property
    def url(self) -> URL:
        """Its maintenance database, as a user who may create databases."""
        return URL.create("postgresql+asyncpg", "postgres", None, "127.0.0.1", self._port, "postgres")

    def stop(self) -> None:
        """Shut it down as an operator would, without waiting for its clients; then nobody listens."""
        self._do(lambda pid: processes.stop(pid, signal.SIGINT))

    def kill(self) -> None:
        """End all its processes at once, as the kernel would."""
        self._do(processes.kill)

    def hang(self) -> None:
        """Have all its processes hang: connections stay open, new ones are taken, none is answered."""
        self._do(processes.hang)

    def resume(self) -> None:
        """Let it go on."""
        self._do(processes.wake)

    def start_again(self) -> None:
        """Start it where it does not run, on the data it has, and let it go on where it hangs."""
        self.resume()
        self._start()

    def _do(self, what: Callable[[int], None]) -> None:
        pid = processes.read_pid(self.folder / "data" / "postmaster.pid")
        if pid is not None:
            what(pid)
