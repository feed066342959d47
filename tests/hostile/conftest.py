"""The commands' fixtures and the end-to-end world again, for hostile input."""

from tests.e2e.conftest import world
from tests.integration.cli.conftest import database_path, quartermaster, write

__all__ = ["database_path", "quartermaster", "world", "write"]
