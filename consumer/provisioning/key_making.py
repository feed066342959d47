"""Making a key stand at LiteLLM: the one decided on beforehand, never a second."""

from typing import Final

from consumer.litellm.errors import AlreadyExists, Existing, NotFound
from consumer.litellm.models import Key
from consumer.provisioning.attempt import Attempt, KeyIntent
from consumer.provisioning.failures import Conflict, ErrorCode, Step, Unsettled

_MOST_GENERATIONS: Final = 20
"""How many aliases held by others one attempt passes by."""


async def make_key(attempt: Attempt, intent: KeyIntent, *, team_id: str, user_id: str) -> KeyIntent:
    """Have LiteLLM store the key intended; what it stored is for the caller to read back.

    Returns:
        The intent that stands: another generation's where the alias was held by a key that is not ours and
        existing things are to be adopted.

    Raises:
        Conflict: The alias is held by a key whose value the database does not know.
    """
    attempt.step = Step.KEY
    client = attempt.client
    for _ in range(_MOST_GENERATIONS):
        if intent.footprint.may_be_ours and await find_key(attempt, intent) is not None:
            return intent
        key, alias = intent.key, intent.alias
        try:
            await attempt.call(
                lambda key=key, alias=alias: client.key_generate(  # type: ignore[misc]
                    key, key_alias=alias, team_id=team_id, user_id=user_id
                ),
                makes=intent.footprint,
            )
        except AlreadyExists as error:
            if await find_key(attempt, intent) is not None:
                return intent
            if error.existing is not Existing.KEY_ALIAS:
                raise Unsettled("LiteLLM says that the key exists, and does not show it") from None
            if not attempt.policy.adopt_existing:
                raise Conflict(
                    ErrorCode.KEY_CONFLICT, f"the alias {alias} is held by a key that is not ours"
                ) from None
            intent = await attempt.intents.intend_next_key(user_id)
        else:
            return intent
    raise Unsettled("every alias for the key is held by keys that are not ours")


async def find_key(attempt: Attempt, intent: KeyIntent) -> Key | None:
    """Read the key intended as LiteLLM stores it; None where it has none.

    Of a key LiteLLM denies nothing while its database is down: it says that it cannot tell.
    """
    try:
        key = await attempt.call(lambda: attempt.client.key_info(intent.hash))
    except NotFound:
        return None
    if key.deleted:
        return None
    intent.footprint.made()
    return key
