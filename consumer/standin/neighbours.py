"""Calls beside the management of teams, users and keys: health, and what needs a licence."""

from consumer.standin import errors
from consumer.standin.access import Access, Caller
from consumer.standin.requests import Request
from consumer.standin.routing import get, post
from consumer.standin.state import State


def liveliness(_state: State, _request: Request, _caller: Caller) -> object:
    """Say that the process lives."""
    return "I'm alive!"


def readiness(state: State, _request: Request, _caller: Caller) -> object:
    """Say whether the database answers."""
    if not state.database_up:
        raise errors.ApiError(503, {"status": "healthy", "db": "disconnected"})
    return {"status": "healthy", "db": "connected"}


def regenerate(_state: State, _request: Request, _caller: Caller) -> object:
    """Refuse: Enterprise only."""
    message = "Regenerating Virtual Keys is an Enterprise feature, You must be a LiteLLM Enterprise user"
    raise errors.error(500, message)


def organizations(_state: State, _request: Request, _caller: Caller) -> object:
    """Refuse: Enterprise only."""
    raise errors.detail(403, "Organizations are only available for LiteLLM Enterprise users.")


ROUTES = (
    get("/health/liveliness", Request, liveliness, Access.PUBLIC),
    get("/health/readiness", Request, readiness, Access.PUBLIC),
    post("/key/regenerate", Request, regenerate),
    get("/organization/list", Request, organizations),
    post("/organization/new", Request, organizations),
)
