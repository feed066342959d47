"""Model calls: what a key may ask for, what a call costs, and whose budget that ends."""

import uuid
from decimal import Decimal
from typing import Final

from consumer.standin import errors
from consumer.standin.access import Access, Caller
from consumer.standin.records import Key, Membership, Team
from consumer.standin.requests import Chat, Request
from consumer.standin.routing import get, post
from consumer.standin.state import State

_ALL: Final = frozenset({"all-proxy-models", "all-team-models"})
_USAGE: Final = {"completion_tokens": 20, "prompt_tokens": 10, "total_tokens": 30}


def chat(state: State, body: Chat, caller: Caller) -> object:
    """Answer, and charge key, membership, team and user."""
    for name, value in (("messages", body.messages), ("model", body.model)):
        if value is None:
            missing = f"/chat/completions: Missing required parameter: '{name}'."
            raise errors.error(400, missing, kind="invalid_request_error", param=name)
    assert body.model is not None
    team = None if caller.key is None or caller.key.team_id is None else state.teams[caller.key.team_id]
    if caller.key is not None:
        _check_model(caller.key, team, body.model)
        _check_budgets(state, caller.key, team)
    if body.model not in state.settings.models:
        raise errors.error(
            400,
            f"/chat/completions: Invalid model name passed in model={body.model}. "
            "Call `/v1/models` to view available models for your key.",
            kind="invalid_request_error",
        )
    if caller.key is not None:
        _charge(state, caller.key, team, state.settings.models[body.model])
    return {
        "id": f"chatcmpl-{uuid.uuid4()}",
        "created": int(state.now().timestamp()),
        "model": body.model,
        "object": "chat.completion",
        "choices": [{"finish_reason": "stop", "index": 0, "message": {"content": "hi", "role": "assistant"}}],
        "usage": dict(_USAGE),
    }


def models(state: State, _query: Request, caller: Caller) -> object:
    """List the models that the key may ask for."""
    names = list(state.settings.models)
    if caller.key is not None:
        team = None if caller.key.team_id is None else state.teams[caller.key.team_id]
        names = [name for name in names if _refusal(caller.key, team, name) is None]
    return {
        "data": [
            {"id": name, "object": "model", "created": 1677610602, "owned_by": "openai"} for name in names
        ],
        "object": "list",
    }


def _allows(allowed: list[str], model: str) -> bool:
    return not allowed or model in allowed or not _ALL.isdisjoint(allowed)


def _refusal(key: Key, team: Team | None, model: str) -> str | None:
    if team is not None and not _allows(team.models, model):
        return "team_model_access_denied"
    return None if _allows(key.models, model) else "key_model_access_denied"


def _check_model(key: Key, team: Team | None, model: str) -> None:
    kind = _refusal(key, team, model)
    if kind is not None:
        raise errors.error(
            403,
            f"The requested model '{model}' is not available for this API key, or the model name is invalid. "
            "Check the models available to you and try again.",
            kind=kind,
            param="model",
        )


def _check_budgets(state: State, key: Key, team: Team | None) -> None:
    # A team's budget of 0 lets a first call through; all others block at once.
    if team is not None and team.max_budget is not None and team.spend > Decimal(str(team.max_budget)):
        raise _exceeded(f"Team={team.team_id}", team.spend, team.max_budget)
    member = _membership(state, key)
    if member is not None and _is_spent(member.spend, member.max_budget):
        raise _exceeded(f"User={key.user_id} in Team={key.team_id}", member.spend, member.max_budget)
    if _is_spent(key.spend, key.max_budget):
        raise _exceeded(f"Key={key.key_alias} ({key.key_name})", key.spend, key.max_budget)
    user = state.users.get(key.user_id or "")
    if team is None and user is not None and _is_spent(user.spend, user.max_budget):
        over = f"over budget. Spend={user.spend}, Budget={user.max_budget}"
        raise errors.error(422, f"ExceededBudget: User={user.user_id} {over}", kind="budget_exceeded")


def _is_spent(spend: Decimal, max_budget: float | None) -> bool:
    return max_budget is not None and spend >= Decimal(str(max_budget))


def _exceeded(whose: str, spend: Decimal, max_budget: float | None) -> errors.ApiError:
    message = f"Budget has been exceeded! {whose} Current cost: {float(spend)}, Max budget: {max_budget}"
    return errors.error(422, message, kind="budget_exceeded")


def _membership(state: State, key: Key) -> Membership | None:
    return state.memberships.get((key.team_id or "", key.user_id or ""))


def _charge(state: State, key: Key, team: Team | None, cost: Decimal) -> None:
    for payer in (key, team, _membership(state, key), state.users.get(key.user_id or "")):
        if payer is not None:
            payer.spend += cost
    key.total_spend += cost


ROUTES = (
    post("/chat/completions", Chat, chat, Access.MODELS),
    post("/v1/chat/completions", Chat, chat, Access.MODELS),
    get("/v1/models", Request, models, Access.MODELS),
    get("/models", Request, models, Access.MODELS),
)
