"""LiteLLM's three shapes of an error answer."""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Final

from pydantic import ValidationError

DATABASE_DOWN: Final = (
    "Can't reach database server at `127.0.0.1`:`5432`\n\n"
    "Please make sure your database server is running at `127.0.0.1`:`5432`."
)


class ApiError(Exception):
    """Ends a call with a status and a JSON body."""

    def __init__(self, status: int, body: object) -> None:
        super().__init__(status)
        self.status = status
        self.body = body


def error(
    status: int, message: str, *, kind: str = "internal_server_error", param: str | None = None
) -> ApiError:
    """Make the shape `{"error": {"message", "type", "param", "code"}}`."""
    return ApiError(
        status, {"error": {"message": message, "type": kind, "param": param, "code": str(status)}}
    )


def quoted(status: int, message: str, *, kind: str = "internal_server_error") -> ApiError:
    """Make the same shape with the message as the repr of a dict, which is how most refusals come."""
    return error(status, repr({"error": message}), kind=kind)


def authentication(status: int, message: str, *, kind: str = "auth_error", param: str = "None") -> ApiError:
    """Make the shape of everything that fails around authentication."""
    return error(status, f"Authentication Error, {message}", kind=kind, param=param)


def detail(status: int, message: str) -> ApiError:
    """Make the shape `{"detail": {"error": ...}}`."""
    return ApiError(status, {"detail": {"error": message}})


def invalid(problems: ValidationError, where: Sequence[str | int] = ("body",)) -> ApiError:
    """Make the shape `{"detail": [{"type", "loc", "msg"}]}` of a request that is not what the call takes."""
    return ApiError(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        {
            "detail": [
                {"type": problem["type"], "loc": [*where, *problem["loc"]], "msg": problem["msg"]}
                for problem in problems.errors()
            ]
        },
    )


def invalid_body(kind: str, location: Sequence[str | int], message: str) -> ApiError:
    """Make the same shape for a body that cannot be read at all."""
    return ApiError(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        {"detail": [{"type": kind, "loc": list(location), "msg": message}]},
    )


def crashed() -> ApiError:
    """Make the answer to an exception that nobody caught."""
    return ApiError(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        {"error": {"message": "Internal server error", "type": "internal_server_error"}},
    )


def database_down() -> ApiError:
    """Make the answer of most calls while the database is down."""
    return error(HTTPStatus.INTERNAL_SERVER_ERROR, DATABASE_DOWN)


def authentication_database_down() -> ApiError:
    """Make the answer where authentication or a cached read needs the database."""
    return error(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "Service Unavailable, the authentication database is temporarily unreachable. Please retry shortly.",
        kind="no_db_connection",
        param="None",
    )
