"""What the proxy answers to one request: no network, no pause, so that nothing comes between."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from pydantic import ValidationError

from consumer.standin import chat, errors, keys, members, neighbours, teams, users
from consumer.standin.access import authenticate
from consumer.standin.errors import ApiError
from consumer.standin.outage import answer_without_database
from consumer.standin.requests import Request
from consumer.standin.routing import Route
from consumer.standin.state import State

ROUTES: Final = (
    *teams.ROUTES,
    *members.ROUTES,
    *users.ROUTES,
    *keys.ROUTES,
    *chat.ROUTES,
    *neighbours.ROUTES,
)


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as it came.

    Attributes:
        query: Its query.
        body: Its body, not parsed yet.
        authorization: The header of that name.
    """

    query: Mapping[str, str]
    body: bytes
    authorization: str | None


def answer(state: State, master_key: str, route: Route, asked: Asked) -> tuple[int, object]:
    """Carry a request out; give the status and the JSON that is answered."""
    try:
        caller = authenticate(state, master_key, asked.authorization, route.path, route.access)
        request = _read(route, asked)
        failure = None if state.database_up else answer_without_database(route.path)
        if failure is not None:
            raise failure
        return 200, route.answer(state, request, caller)
    except ApiError as error:
        return error.status, error.body


def _read(route: Route, asked: Asked) -> Request:
    if route.method == "GET":
        try:
            return route.request.model_validate(dict(asked.query))
        except ValidationError as problems:
            raise errors.invalid(problems, ("query",)) from None
    if not asked.body:
        raise errors.invalid_body("missing", ["body"], "Field required")
    try:
        body = json.loads(asked.body)
    except ValueError as error:
        position = error.pos if isinstance(error, json.JSONDecodeError) else 0
        raise errors.invalid_body("json_invalid", ["body", position], "JSON decode error") from None
    if not isinstance(body, dict):
        raise errors.crashed()
    try:
        return route.request.model_validate(body)
    except ValidationError as problems:
        raise errors.invalid(problems) from None
