"""What stands for an organization or a user that is provisioned, read for an outcome that says so again."""

from sqlalchemy.ext.asyncio import AsyncConnection

from consumer.provisioning.context import Moment
from consumer.provisioning.keys import KEY_NAME
from consumer.provisioning.outcomes import KeyFacts, OrganizationFacts, UserFacts
from storage import members, organizations, virtual_keys
from storage.members import Member
from storage.organizations import OrgProfile


async def profile_of(tx: AsyncConnection, org_id: str) -> OrgProfile:
    """Read what an active organization is."""
    profile = await organizations.profile(tx, org_id)
    assert profile is not None, "an active organization has a profile"
    return profile


async def standing_organization(moment: Moment) -> OrganizationFacts:
    """Read what stands for an active organization, its balance as of this place in its order."""
    tx, state = moment.tx, moment.state
    profile = await profile_of(tx, state.org_id)
    owner = await members.get(tx, state.org_id, profile.owner_user_id)
    assert owner is not None, "an active organization's owner is a member"
    return OrganizationFacts(
        org_id=state.org_id,
        name=profile.name,
        team_id=profile.team_id,
        adopted=profile.adopted,
        max_budget_usd=profile.max_budget_usd,
        models=profile.models,
        credits_balance=state.balance,
        owner_user_id=profile.owner_user_id,
        owner_email_set=owner.email_set,
        owner_key=await _standing_key(moment, owner),
    )


async def standing_user(moment: Moment, member: Member) -> UserFacts:
    """Read what stands for a member."""
    profile = await profile_of(moment.tx, member.org_id)
    return UserFacts(
        org_id=member.org_id,
        user_id=member.user_id,
        team_id=profile.team_id,
        email_set=member.email_set,
        key=await _standing_key(moment, member),
    )


async def _standing_key(moment: Moment, member: Member) -> KeyFacts:
    context, tx = moment.context, moment.tx
    encrypted = None
    if context.policy.delivery_jwk is not None:
        stored = await virtual_keys.live(tx, member.org_id, member.user_id, KEY_NAME)
        assert stored is not None, "a member has a live key"
        encrypted = context.deliver(context.vault.decrypt(stored.ciphertext))
    return KeyFacts(member.key_name, member.key_alias, member.key_hash, encrypted)
