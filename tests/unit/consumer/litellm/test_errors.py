"""What LiteLLM's answers are taken to mean."""

import pytest

from consumer.litellm.errors import (
    AlreadyExists,
    Doubtful,
    Existing,
    LiteLLMError,
    NotFound,
    RateLimited,
    Rejected,
    Unauthorized,
    classify,
    upstream_message,
)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"error": {"message": "E", "type": "t", "param": None, "code": "400"}}, "E"),
        ({"detail": "D"}, "D"),
        ({"detail": {"error": "D"}}, "D"),
        ({"detail": [{"type": "missing", "loc": ["body"], "msg": "V"}, {"msg": "W"}]}, "V; W"),
        ({"error": "just a text"}, None),
        ({"message": "of another server"}, None),
        ([], None),
        (None, None),
        ("text", None),
    ],
)
def test_the_message_is_found_in_all_three_shapes(body: object, message: str | None) -> None:
    assert upstream_message(body) == message


@pytest.mark.parametrize(
    ("endpoint", "status", "message", "existing"),
    [
        ("/team/new", 400, "{'error': 'Team id = T1 already exists. Please use another'}", Existing.TEAM_ID),
        (
            "/team/new",
            400,
            "{'error': \"Team id = O'B already exists. Please use another\"}",
            Existing.TEAM_ID,
        ),
        ("/team/new", 500, "Unique constraint failed on the fields: (`team_id`)", Existing.UNIQUE_CONSTRAINT),
        ("/team/member_add", 400, "User already in team. Member: user_id=U", Existing.MEMBER),
        ("/user/new", 409, "{'error': 'User with id U already exists'}", Existing.USER_ID),
        ("/user/new", 409, "{'error': 'User with email a@b.c already exists'}", Existing.USER_EMAIL),
        ("/key/generate", 400, "Key with alias 'K' already exists. Unique key aliases", Existing.KEY_ALIAS),
        ("/key/update", 400, "Key with alias 'K' already exists. Unique key aliases", Existing.KEY_ALIAS),
    ],
)
def test_already_exists_comes_in_many_forms(
    endpoint: str, status: int, message: str, existing: Existing
) -> None:
    error = classify(endpoint, status, message)

    assert isinstance(error, AlreadyExists)
    assert error.existing is existing
    assert not error.retryable


def test_an_id_that_reads_like_a_message_is_not_taken_for_one() -> None:
    chosen = "User with email x already exists"

    error = classify("/user/new", 409, repr({"error": f"User with id {chosen} already exists"}))

    assert isinstance(error, AlreadyExists)
    assert error.existing is Existing.USER_ID
    assert isinstance(classify("/team/update", 400, chosen), Rejected)


@pytest.mark.parametrize(
    ("endpoint", "status", "message", "kind"),
    [
        ("/team/info", 401, "Authentication Error", Unauthorized),
        ("/team/info", 403, "not allowed", Unauthorized),
        ("/team/info", 404, "{'message': 'Team not found, passed team id: T.'}", NotFound),
        ("/team/member_delete", 400, "User not found in team", NotFound),
        ("/team/member_delete", 400, "Team id=T does not exist in db", NotFound),
        ("/team/info", 404, "Not Found", Doubtful),
        ("/team/info", 404, None, Doubtful),
        ("/team/new", 400, "max_budget must be a non-negative finite number", Rejected),
        ("/team/new", 422, "Field required", Rejected),
        ("/team/new", 408, "slow", Doubtful),
        ("/team/new", 429, "too many", RateLimited),
        ("/team/new", 500, "Internal server error", Doubtful),
        ("/team/new", 503, None, Doubtful),
        ("/team/new", 200, None, Doubtful),
        ("/team/new", 307, "moved", Doubtful),
        ("/key/update", 400, "Authentication Error, Can't reach database server at `db`:`5432`", Doubtful),
        ("/key/generate", 400, "No database connection", Doubtful),
    ],
)
def test_statuses(endpoint: str, status: int, message: str | None, kind: type[LiteLLMError]) -> None:
    error = classify(endpoint, status, message)

    assert type(error) is kind
    assert (error.endpoint, error.status) == (endpoint, status)


def test_only_a_doubt_may_have_been_applied() -> None:
    assert Doubtful("/team/new", "").may_have_applied
    for status, message in ((400, "no"), (401, "no"), (404, "gone"), (429, "later")):
        assert not classify("/team/new", status, message).may_have_applied


def test_no_text_of_ours_quotes_upstream() -> None:
    secret = "User already in team. Member: user_id=U, user_email=someone@example.org sk-secret"

    error = classify("/team/member_add", 400, secret)

    for shown in (str(error), repr(error), str(error.args)):
        assert "someone" not in shown
        assert "sk-secret" not in shown
    assert error.says("User already in team")
    assert str(error) == "LiteLLM /team/member_add answered 400: member exists already"
