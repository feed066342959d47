"""A call as the stand-in sees it: a body or query that was checked, who calls, and an answer in JSON."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from consumer.standin.access import Access, Caller
from consumer.standin.requests import Request
from consumer.standin.state import State

RequestT = TypeVar("RequestT", bound=Request)


@dataclass(frozen=True, slots=True)
class Route:
    """One call.

    Attributes:
        method: GET (the request is the query) or POST (it is the body).
        path: Its path.
        request: What the query or body must be.
        answer: Carries it out at once, without a pause in which another call could come between.
        access: Which keys it takes.
    """

    method: str
    path: str
    request: type[Request]
    answer: Callable[[State, Any, Caller], object]
    access: Access


def get(
    path: str,
    request: type[RequestT],
    answer: Callable[[State, RequestT, Caller], object],
    access: Access = Access.ADMIN,
) -> Route:
    """Make a route that reads."""
    return Route("GET", path, request, answer, access)


def post(
    path: str,
    request: type[RequestT],
    answer: Callable[[State, RequestT, Caller], object],
    access: Access = Access.ADMIN,
) -> Route:
    """Make a route that writes."""
    return Route("POST", path, request, answer, access)
