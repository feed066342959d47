"""How a command runs: settings, database, and expected failures as one line on standard error."""

import asyncio
import contextlib
import functools
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, Final, ParamSpec, TypeVar

import click

from consumer.harmless import replaced
from consumer.litellm.errors import LiteLLMError
from consumer.settings import Settings, SettingsError, load_settings
from producers.connection import KafkaUnreachable, describe_error
from storage.database import Database, DatabaseUnavailable, DataRefused
from storage.migrations import is_current

P = ParamSpec("P")
T = TypeVar("T")

_EXPECTED = (SettingsError, DataRefused, LiteLLMError)
_MORE: Final = "`quartermaster doctor` looks at everything that is needed"


class CommandFailed(click.ClickException):
    """The command could not do its work: its message goes to standard error, and the exit code is 1."""

    def format_message(self) -> str:
        """Keep it one line that steers no terminal, whatever others put into it."""
        return replaced(" ".join(self.message.split()))


def asynchronous(command: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, T]:
    """Run a coroutine function as a click command; expected failures become `CommandFailed`."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        with failures_in_one_line():
            return asyncio.run(command(*args, **kwargs))

    return run


@contextlib.contextmanager
def failures_in_one_line() -> Iterator[None]:
    """Turn what may go wrong outside the program into `CommandFailed`; defects keep their traceback."""
    try:
        yield
    except (DatabaseUnavailable, KafkaUnreachable) as error:
        raise CommandFailed(f"{error} ({_MORE})") from error
    except _EXPECTED as error:
        raise CommandFailed(str(error)) from error
    except Exception as error:
        if not _is_of_kafka(error):
            raise
        raise CommandFailed(f"Kafka: {describe_error(error)} ({_MORE})") from error


def _is_of_kafka(error: Exception) -> bool:
    """Whether Kafka's client raised it. Most commands never load that client, and then it did not."""
    errors = sys.modules.get("aiokafka.errors")
    return errors is not None and isinstance(error, errors.KafkaError)


@contextlib.asynccontextmanager
async def opened_database(settings: Settings) -> AsyncIterator[Database]:
    """Open the database of the settings for one command.

    Raises:
        CommandFailed: it lacks migrations; so does a SQLite file that is not there, and none is made.
        DatabaseUnavailable: it does not answer.
    """
    path = settings.sqlite_path
    if path is not None and not path.exists():
        raise CommandFailed(f"there is no database {path}: run `quartermaster db upgrade` first")
    database = await Database.connect(settings.database_url.get_secret_value())
    try:
        if not await is_current(database):
            raise CommandFailed("the database is not up to date: run `quartermaster db upgrade` first")
        yield database
    finally:
        await database.close()


@contextlib.asynccontextmanager
async def database_of_environment() -> AsyncIterator[Database]:
    """Open the database that the environment names; see `opened_database`."""
    async with opened_database(load_settings()) as database:
        yield database


def no_organization(org_id: str) -> CommandFailed:
    """Make the failure that says that an organization is not there, and where to look."""
    return CommandFailed(
        f"there is no organization {org_id!r}: `quartermaster org list` shows which there are"
    )
