"""The end-to-end world again, for tests that break it."""

from tests.e2e.conftest import world

__all__ = ["world"]
