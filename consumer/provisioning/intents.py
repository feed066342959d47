"""Intents: what a try is going to make, written down before the first call that could make it."""

from collections.abc import Iterable
from typing import Final

from sqlalchemy.ext.asyncio import AsyncConnection

from consumer.provisioning.attempt import KeyIntent
from consumer.provisioning.claim import Claim
from consumer.provisioning.context import Context, Moment
from consumer.provisioning.footprint import Footprint, intended
from consumer.provisioning.keys import KEY_NAME, key_alias, key_hash, new_key
from storage import resources, virtual_keys
from storage.inbox import InboxRow
from storage.resources import Resource, ResourceKind, ResourceState
from storage.virtual_keys import KeyState, NewKey

_NOT_OURS_ALONE: Final = frozenset({ResourceState.KEPT, ResourceState.IN_USE})


def intent(
    moment: Moment, row: InboxRow, kind: ResourceKind, resource_id: str, standing: Resource | None
) -> Footprint:
    """Say what this event's try may make; it must be written down (`write_down`) before the first call.

    Args:
        moment: The organization.
        row: The event.
        kind: What it is.
        resource_id: LiteLLM's id of it.
        standing: What the database remembers of it.
    """
    wanted = Resource(row.org_id, kind, resource_id, made_by=row.identity)
    return intended(wanted, standing, moment.now, moment.context.policy.doubt_margin)


async def write_down(moment: Moment, *intents: Footprint) -> None:
    """Write down what may be made."""
    await resources.save(moment.tx, [one.resource for one in intents])


async def key_intent(moment: Moment, row: InboxRow, user_id: str) -> KeyIntent:
    """Decide on a user's key, once: later tries of the same round read it and send the same again.

    Its footprint must be written down before the first call. Once compensation has begun, a key is never sent
    again: the next one is of another generation.
    """
    context, tx = moment.context, moment.tx
    stored = await virtual_keys.latest(tx, row.org_id, user_id, KEY_NAME)
    standing = None  # of a key that nobody has heard of
    if stored is not None and stored.state is KeyState.INTENDED:
        standing = await resources.get(tx, row.org_id, ResourceKind.KEY, stored.key_hash)
    else:
        generation = 1 if stored is None else stored.generation + 1
        key = new_key(context.token_bytes)
        stored = await virtual_keys.intend(
            tx,
            NewKey(
                key_hash=key_hash(key),
                org_id=row.org_id,
                user_id=user_id,
                name=KEY_NAME,
                generation=generation,
                alias=key_alias(context.policy.our_source, row.org_id, user_id, KEY_NAME, generation),
                ciphertext=context.vault.encrypt(key),
                made_by=row.identity,
                created_at=moment.now,
            ),
        )
    footprint = intent(moment, row, ResourceKind.KEY, stored.key_hash, standing)
    key = context.vault.decrypt(stored.ciphertext)
    return KeyIntent(key, stored.key_hash, stored.alias, stored.generation, footprint)


class TryIntents:
    """Writes down what a try finds on its way that it has to make, and keeps the footprints of that.

    Args:
        context: What to work with.
        claim: The organization.
        row: The event.
    """

    def __init__(self, context: Context, claim: Claim, row: InboxRow) -> None:
        self._context = context
        self._claim = claim
        self._row = row
        self.found: list[Footprint] = []

    async def intend_anew(self, footprint: Footprint) -> None:
        """Write down that what others had, and is gone, may be made by this attempt."""
        footprint.anew()

        async def work(moment: Moment) -> None:
            await write_down(moment, footprint)

        await self._context.transaction(self._claim, work)

    async def intend_member(self, user_id: str) -> Footprint:
        """Write down a membership that surely is not there."""
        row = self._row

        async def work(moment: Moment) -> Footprint:
            standing = await resources.get(moment.tx, row.org_id, ResourceKind.MEMBER, user_id)
            footprint = intent(moment, row, ResourceKind.MEMBER, user_id, standing)
            footprint.anew()
            await write_down(moment, footprint)
            return footprint

        footprint = await self._context.transaction(self._claim, work)
        self.found.append(footprint)
        return footprint

    async def member_left(self, user_id: str) -> Footprint | None:
        """Take over a membership that earlier attempts made or may have made; None where there is none."""
        row = self._row

        async def work(moment: Moment) -> Footprint | None:
            standing = await resources.get(moment.tx, row.org_id, ResourceKind.MEMBER, user_id)
            if standing is None or standing.state in _NOT_OURS_ALONE:
                return None
            footprint = intent(moment, row, ResourceKind.MEMBER, user_id, standing)
            await write_down(moment, footprint)
            return footprint

        footprint = await self._context.transaction(self._claim, work)
        if footprint is not None:
            self.found.append(footprint)
        return footprint

    async def intend_leaving(self, user_id: str) -> None:
        """Write down that a member is taken out: joining again waits until no such call can come late."""
        row = self._row

        async def work(moment: Moment) -> None:
            settled_by = moment.now + moment.context.reach
            leaving = Resource(
                row.org_id,
                ResourceKind.MEMBER,
                user_id,
                made_by=row.identity,
                state=ResourceState.REMOVING,
                doubt_until=settled_by,
                due_at=settled_by,
            )
            await resources.save(moment.tx, [leaving])

        await self._context.transaction(self._claim, work)

    async def intend_next_key(self, user_id: str) -> KeyIntent:
        """Write down a key of the next generation: the last one's alias is held by a key that is not ours."""
        row = self._row

        async def work(moment: Moment) -> KeyIntent:
            tx = moment.tx
            latest = await virtual_keys.latest(tx, row.org_id, user_id, KEY_NAME)
            assert latest is not None
            await virtual_keys.mark(tx, latest.key_hash, KeyState.REMOVED)
            key = await key_intent(moment, row, user_id)
            await write_down(moment, key.footprint)
            return key

        key = await self._context.transaction(self._claim, work)
        self.found.append(key.footprint)
        return key


async def remember(tx: AsyncConnection, ends: Iterable[tuple[Footprint, Resource | None]]) -> None:
    """Replace intents by what is known after the try; None: nothing is there."""
    kept = []
    for footprint, end in ends:
        if end is None:
            await resources.forget(tx, footprint.resource)
        else:
            kept.append(end)
    await resources.save(tx, kept)
