"""How the versions are applied: by Alembic, in a transaction that is handed in."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection


def upgrade(connection: Connection, to: str = "head") -> None:
    """Apply the versions that the database lacks, up to `to`."""
    options = config()
    options.attributes["connection"] = connection
    command.upgrade(options, to)


def config() -> Config:
    """Alembic's configuration; there is no alembic.ini."""
    options = Config()
    # A percent sign in the path would be taken for an interpolation.
    options.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    options.set_main_option("path_separator", "os")
    return options
