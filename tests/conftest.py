"""The parts the tests run on, and databases and topics of each test's own.

Where a part comes from is told in the run's header; `tests.parts.choice` says how it is chosen.
"""

import os
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.parts.choice import PARTS, POSTGRES, SERVERS, Part, required

# What belongs to the product is imported where a fixture needs it: a header and the choice of parts have
# to work, and plain unit tests to run, whatever is broken elsewhere.
if TYPE_CHECKING:
    from sqlalchemy.engine import URL

    from storage.database import Database
    from tests.parts.kafka import TopicFactory, Topics
    from tests.parts.litellm import Proxy
    from tests.parts.servers import OwnKafka, OwnPostgres


_REQUIRED = pytest.StashKey[frozenset[str]]()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "real(*parts): needs the named parts themselves (kafka, litellm), no embedded ones"
    )
    config.addinivalue_line(
        "markers", "on_real: set by itself on what leads to a part that is real in this run"
    )
    config.addinivalue_line(
        "markers",
        "again: set by itself on what leads to a real part with SQLite, where the same does with PostgreSQL",
    )
    config.addinivalue_line("markers", "proof: takes minutes of a core; `make test` leaves it to `.ci/run`")
    # The settings of whoever runs the tests are no part of any test.
    for variable in [
        name for name in os.environ if name.startswith("QM_") and not name.startswith("QM_TEST_")
    ]:
        del os.environ[variable]
    try:
        names = config.stash[_REQUIRED] = required()
    except ValueError as error:
        raise pytest.UsageError(str(error)) from None
    missing = [str(PARTS[name]) for name in sorted(names) if not PARTS[name].is_real]
    if missing:
        raise pytest.UsageError(f"required, but not there: {'; '.join(missing)}")


def pytest_report_header() -> list[str]:
    return [str(part) for part in PARTS.values()]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say why tests were skipped, a line for each reason instead of one for each test."""
    reasons = Counter(
        report.longrepr[2].removeprefix("Skipped: ")
        for report in terminalreporter.getreports("skipped")
        if isinstance(report.longrepr, tuple)
    )
    for reason, count in reasons.most_common():
        terminalreporter.write_line(f"{count} skipped: {reason}")


def _parts_of(item: pytest.Item) -> set[Part]:
    """The parts a test leads to, by its fixtures and its mark."""
    fixtures = set(getattr(item, "fixturenames", ()))
    named = {name for mark in item.iter_markers("real") for name in mark.args}
    parts = {part for part in PARTS.values() if part.name in named or part.fixtures & fixtures}
    callspec = getattr(item, "callspec", None)
    if callspec is not None and "postgresql" in callspec.params.values():
        parts.add(POSTGRES)
    return parts


@pytest.hookimpl(tryfirst=True)  # before `-m` chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    names = {item.nodeid for item in items}
    for item in items:
        if any(part.is_real for part in _parts_of(item)):
            item.add_marker("on_real")
            beside = item.nodeid.replace("sqlite", "postgresql")
            if POSTGRES.is_real and beside != item.nodeid and beside in names:
                item.add_marker("again")


def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers("real"):
        for name in mark.args:
            if not PARTS[name].is_real:
                pytest.skip(f"needs a real part, got {PARTS[name]}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    parts = {part.name for part in _parts_of(item)} & item.config.stash[_REQUIRED]
    if report.skipped and parts and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, although {', '.join(sorted(parts))} is required: {report.longrepr}"
    return report


# --- Kafka ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def kafka_address() -> Iterator[str]:
    """HOST:PORT of the broker, shared by all tests: use topics and group names of your own."""
    from tests.parts.kafka import kafka  # noqa: PLC0415

    with kafka() as address:
        yield address


@pytest.fixture
async def topic_factory(kafka_address: str) -> "AsyncIterator[TopicFactory]":
    """``await topic_factory.create("name", ..., partitions=6)``: topics of this test alone."""
    from tests.parts.kafka import TopicFactory  # noqa: PLC0415

    async with TopicFactory(kafka_address) as factory:
        yield factory


@pytest.fixture
async def topics(topic_factory: "TopicFactory") -> "Topics":
    """All six topics, six partitions each, of this test alone."""
    return await topic_factory.create_all()


# --- Databases ------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def postgres_url() -> "Iterator[URL]":
    """The server's maintenance database (an SQLAlchemy URL, asyncpg); skips where there is no server."""
    if not POSTGRES.is_real:
        pytest.skip(str(POSTGRES))
    from tests.parts.databases import postgres  # noqa: PLC0415

    with postgres() as url:
        yield url


@pytest.fixture(scope="session")
def _postgres_template(postgres_url: "URL") -> Iterator[str]:
    """A migrated database to copy: a copy takes a fraction of the migrations' time."""
    from tests.parts.databases import create_database, drop_database, migrated  # noqa: PLC0415
    from tests.parts.loops import run_apart  # noqa: PLC0415

    url = run_apart(create_database(postgres_url))
    try:
        run_apart(migrated(url.render_as_string(hide_password=False)))
        yield str(url.database)
    finally:
        run_apart(drop_database(url, postgres_url))


@pytest.fixture(scope="session")
def _sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated file to copy."""
    from tests.parts.databases import migrated  # noqa: PLC0415
    from tests.parts.loops import run_apart  # noqa: PLC0415

    path = tmp_path_factory.mktemp("template") / "quartermaster.db"
    run_apart(migrated(f"sqlite+aiosqlite:///{path}"))
    return path


@pytest.fixture(params=["sqlite", "postgresql"])
def dialect(request: pytest.FixtureRequest) -> str:
    """Each database in turn; ``@pytest.mark.parametrize("dialect", ["sqlite"])`` narrows a test to one."""
    return str(request.param)


@pytest.fixture
async def empty_database_url(
    dialect: str, request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[str]:
    """A database of this test alone, without any table."""
    if dialect == "sqlite":
        yield f"sqlite+aiosqlite:///{tmp_path / 'empty.db'}"
        return
    server = request.getfixturevalue("postgres_url")
    from tests.parts.databases import temporary_database  # noqa: PLC0415

    async with temporary_database(server) as url:
        yield url.render_as_string(hide_password=False)


@pytest.fixture
async def database_url(dialect: str, request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[str]:
    """A database of this test alone, migrated and empty; once on SQLite, once on PostgreSQL."""
    if dialect == "sqlite":
        path = tmp_path / "quartermaster.db"
        shutil.copyfile(request.getfixturevalue("_sqlite_template"), path)
        yield f"sqlite+aiosqlite:///{path}"
        return
    server, template = request.getfixturevalue("postgres_url"), request.getfixturevalue("_postgres_template")
    from tests.parts.databases import temporary_database  # noqa: PLC0415

    async with temporary_database(server, template=template) as url:
        yield url.render_as_string(hide_password=False)


@pytest.fixture
async def another_database_url(
    dialect: str, request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[str]:
    """One more database of this test alone, of the same kind as `database_url`, migrated and empty."""
    if dialect == "sqlite":
        path = tmp_path / "another.db"
        shutil.copyfile(request.getfixturevalue("_sqlite_template"), path)
        yield f"sqlite+aiosqlite:///{path}"
        return
    server, template = request.getfixturevalue("postgres_url"), request.getfixturevalue("_postgres_template")
    from tests.parts.databases import temporary_database  # noqa: PLC0415

    async with temporary_database(server, template=template) as url:
        yield url.render_as_string(hide_password=False)


@pytest.fixture
async def database(database_url: str) -> "AsyncIterator[Database]":
    """A connection to `database_url`, closed at the end."""
    from storage.database import Database  # noqa: PLC0415

    connected = await Database.connect(database_url)
    yield connected
    await connected.close()


# --- LiteLLM --------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def litellm() -> "Iterator[Proxy]":
    """LiteLLM's address and master key, shared by all tests: use ids of your own."""
    from tests.parts.litellm import litellm as start  # noqa: PLC0415

    with start() as proxy:
        yield proxy


# --- Servers to break -----------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def _own_kafka() -> "Iterator[OwnKafka]":
    if not SERVERS.is_real:
        pytest.skip(str(SERVERS))
    from tests.parts.servers import OwnKafka  # noqa: PLC0415

    with OwnKafka() as server:
        yield server


@pytest.fixture
def own_kafka(_own_kafka: "OwnKafka") -> "OwnKafka":
    """A cluster of three brokers that this test may stop, kill and hang; whole when it begins."""
    _own_kafka.start_again()
    return _own_kafka


@pytest.fixture(scope="session")
def _own_postgres() -> "Iterator[OwnPostgres]":
    if not SERVERS.is_real:
        pytest.skip(str(SERVERS))
    from tests.parts.servers import OwnPostgres  # noqa: PLC0415

    with OwnPostgres() as server:
        yield server


@pytest.fixture
def own_postgres(_own_postgres: "OwnPostgres") -> "OwnPostgres":
    """A server that this test may stop, kill and hang; it runs when the test begins."""
    _own_postgres.start_again()
    return _own_postgres
