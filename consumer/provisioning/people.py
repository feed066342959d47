"""LiteLLM's users: made with their e-mail where it is free, else used as they are."""

from dataclasses import dataclass
from decimal import Decimal

from consumer.litellm.errors import AlreadyExists, Existing, NotFound
from consumer.litellm.models import User
from consumer.provisioning.attempt import Attempt
from consumer.provisioning.failures import Conflict, ErrorCode, Step, Unsettled
from consumer.provisioning.footprint import Footprint


@dataclass(frozen=True, slots=True)
class Joining:
    """A team to join together with the making of the user."""

    team_id: str
    max_budget: Decimal | None
    member: Footprint


@dataclass(frozen=True, slots=True)
class Person:
    """What stands of a user.

    Attributes:
        email_set: Whether the e-mail given stands at LiteLLM for this user.
        joined: Whether the user was made as a member of the team.
    """

    email_set: bool
    joined: bool


async def make_user(attempt: Attempt, user_id: str, email: str, joining: Joining | None = None) -> Person:
    """Make a user with this e-mail, unless the user or the e-mail is there already.

    A user that exists is not changed; an e-mail that another user holds is left out, and the user is left to
    be made with the membership. The caller holds the e-mail's lease: LiteLLM, asked twice at once, would
    store it twice.

    Raises:
        Conflict: LiteLLM says that the user exists and cannot show it.
    """
    attempt.step = Step.USER
    client = attempt.client
    try:
        if joining is None:
            user = await attempt.call(lambda: client.user_new(user_id, user_email=email))
        else:
            member = joining.member
            before = member.fate
            user = await attempt.call(
                lambda: client.user_new(
                    user_id,
                    user_email=email,
                    team_id=joining.team_id,
                    max_budget_in_team=joining.max_budget,
                ),
                makes=member,
            )
            if joining.team_id not in user.teams:  # a 200 that joined nothing
                member.fate = before
    except AlreadyExists as error:
        return Person(await _email_stands(attempt, user_id, email, error.existing), joined=False)
    return Person(
        _same_email(user.user_email, email), joined=joining is not None and joining.team_id in user.teams
    )


async def _email_stands(attempt: Attempt, user_id: str, email: str, existing: Existing) -> bool:
    client = attempt.client
    try:
        user = await attempt.call(lambda: client.user_info(user_id))
    except NotFound:
        if existing is Existing.USER_EMAIL:
            return False
        if existing is not Existing.USER_ID:
            raise Unsettled("LiteLLM says that the user exists, and does not show it") from None
        user = await _look_again(attempt, user_id)
    return _same_email(user.user_email, email)


async def _look_again(attempt: Attempt, user_id: str) -> User:
    """Read a user that LiteLLM denied once: with its database down it denies what exists."""
    client = attempt.client
    await attempt.call(client.probe)
    try:
        return await attempt.call(lambda: client.user_info(user_id))
    except NotFound:
        raise Conflict(
            ErrorCode.USER_CONFLICT, "LiteLLM says that the user exists, and does not show it"
        ) from None


def _same_email(standing: str | None, given: str) -> bool:
    return standing is not None and standing.casefold() == given.casefold()
