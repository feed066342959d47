import re
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from schemas.events import EventType
from schemas.outcomes import Origin
from storage import inbox, leases, members, resources
from storage.database import Database
from storage.inbox import InboxRow, InboxState, NewInboxRow, Phase, WaitReason
from storage.members import Member
from storage.organizations import OrgStatus
from storage.resources import Resource, ResourceKind
from tests.integration.storage.rows import (
    NOON,
    after,
    event,
    job_event,
    org_event,
    put_active_org,
    put_org,
)

Explain = Callable[[AsyncConnection, Callable[[], Awaitable[object]]], Awaitable[str]]
MINUTE = timedelta(seconds=60)


async def only(tx: AsyncConnection, row: NewInboxRow) -> InboxRow:
    found = await inbox.of_identity(tx, row.identity)
    assert found is not None
    return found


async def due(tx: AsyncConnection, org_id: str = "acme", seconds: float = 0, **given: Any) -> list[UUID]:
    return [row.identity for row in await inbox.due_rows(tx, org_id, after(seconds), 100, **given)]


async def runnable(tx: AsyncConnection, seconds: float = 0, limit: int = 10, **given: Any) -> list[str]:
    return await inbox.runnable_orgs(tx, after(seconds), limit=limit, **{"gate_open": True, **given})


# -- keeping --


async def test_an_event_is_read_as_it_was_kept(tx: AsyncConnection) -> None:
    new = org_event(
        "ö", event=b"\x00\xff", reason=WaitReason.LITELLM, origin=Origin.REPLAY, due_at=after(1.5)
    )
    await inbox.add(tx, [new])
    row = await only(tx, new)
    assert row == InboxRow(
        inbox_id=row.inbox_id,
        identity=new.identity,
        org_id="ö",
        type=EventType.ORG_CREATED,
        subject="",
        state=InboxState.WAITING,
        phase=Phase.PROVISIONING,
        reason=WaitReason.LITELLM,
        origin=Origin.REPLAY,
        round=1,
        stored_at=NOON,
        due_at=after(1.5),
        first_try_at=None,
        attempts=0,
        compensate_until=None,
        failure=None,
        event=b"\x00\xff",
    )
    assert await inbox.get(tx, row.inbox_id) == row
    await inbox.remove(tx, [row.inbox_id])
    await inbox.remove(tx, [])
    assert await inbox.get(tx, row.inbox_id) is None


async def test_the_longest_ids_fit_every_index(tx: AsyncConnection) -> None:
    org_id, user_id = "\U0001f3e2" * 255, "\U0001f464" * 255
    await put_active_org(tx, org_id)
    await inbox.add(tx, [event(org_id, subject=user_id), event(org_id, subject=user_id), org_event(org_id)])
    await inbox.add(tx, [job_event(org_id, "\U0001f4bc" * 255)])
    await members.add(tx, Member(org_id, user_id, "member", False, "h", "a", "default", NOON))
    await leases.acquire(tx, leases.org_scope(org_id), ttl=MINUTE, token=uuid4(), now=after(-60))
    await resources.save(tx, [Resource(org_id, ResourceKind.MEMBER, user_id, UUID(int=1))])
    assert await runnable(tx) == [org_id]


async def test_an_event_is_kept_once(database: Database) -> None:
    new = event()
    async with database.transaction() as tx:
        await inbox.add(tx, [new])
    with pytest.raises(IntegrityError):
        async with database.transaction() as tx:
            await inbox.add(tx, [replace(new, subject="u-2")])


async def test_progress_is_written(tx: AsyncConnection) -> None:
    new = event()
    await inbox.add(tx, [new])
    changed = replace(
        await only(tx, new),
        phase=Phase.COMPENSATING,
        reason=WaitReason.COMPENSATION,
        due_at=after(3),
        first_try_at=after(1),
        attempts=2,
        compensate_until=after(60),
        failure='{"step":"team"}',
    )
    await inbox.update(tx, changed)
    assert await only(tx, new) == changed


# -- one subject at a time --


async def test_of_one_subject_one_is_in_hand_and_the_others_stand_behind_it(tx: AsyncConnection) -> None:
    first, second, third, other = event(), event(), event(), event(subject="u-2")
    await inbox.add(tx, [first, second])
    await inbox.add(tx, [third, other])
    assert await due(tx) == [first.identity, other.identity]
    behind = await only(tx, third)
    assert (behind.reason, behind.due_at) == (WaitReason.BEHIND, None)

    for ended, following in ((first, second), (second, third)):
        await inbox.remove(tx, [(await only(tx, ended)).inbox_id])
        assert await inbox.release_next_behind(tx, "acme", EventType.USER_JOINED, "u-1", after(5))
        row = await only(tx, following)
        assert (row.reason, row.due_at) == (WaitReason.TURN, after(5))
    await inbox.fail(tx, await only(tx, third))
    assert not await inbox.release_next_behind(tx, "acme", EventType.USER_JOINED, "u-1", after(6))
    assert not await inbox.has_waiting(tx, "acme", EventType.USER_JOINED, "u-1")
    assert await inbox.has_waiting(tx, "acme", EventType.USER_JOINED, "u-2")


async def test_the_next_one_has_no_turn_while_one_is_in_hand(database: Database) -> None:
    async with database.transaction() as tx:
        await inbox.add(tx, [event(), event()])
    with pytest.raises(IntegrityError):
        async with database.transaction() as tx:
            await inbox.release_next_behind(tx, "acme", EventType.USER_JOINED, "u-1", NOON)


async def test_subjects_that_look_alike_are_kept_apart(tx: AsyncConnection) -> None:
    rows = [event("a", subject="b"), event("b", subject="a"), event("a", subject="a"), org_event("a")]
    await inbox.add(tx, rows)
    await inbox.add(tx, [event("b", subject="b"), org_event("b")])
    for org_id in ("a", "b"):
        assert all(row.reason is WaitReason.TURN for row in await inbox.waiting_of(tx, org_id))


# -- due --


async def test_the_organization_comes_before_its_users_and_they_as_they_came_due(tx: AsyncConnection) -> None:
    late, early, not_yet = (
        event(subject="late", due_at=after(2)),
        event(subject="early", due_at=after(1)),
        event(subject="later", due_at=after(11)),
    )
    org, job = org_event(due_at=after(5)), job_event(due_at=NOON)
    await inbox.add(tx, [late, early, not_yet, job, org, event("other")])
    assert await due(tx, seconds=10) == [org.identity, early.identity, late.identity]
    assert [row.subject for row in await inbox.due_rows(tx, "acme", after(10), 2)] == ["", "early"]


async def test_with_the_gate_closed_only_what_needs_no_litellm_is_due(tx: AsyncConnection) -> None:
    await put_active_org(tx, "active")
    await members.add(tx, Member("active", "member", "member", False, "h", "a", "default", NOON))
    await put_org(tx, "pending", status=OrgStatus.PROVISIONING)
    active = {
        "member": event("active", subject="member"),
        "new": event("active", subject="new"),
        "tried": event("active", subject="tried"),
        "given up": event("active", subject="given up"),
        "taking back": event("active", subject="taking back"),
        "taken back": event("active", subject="taken back"),
        "org": org_event("active"),
    }
    pending = {"org": org_event("pending"), "user": event("pending")}
    await inbox.add(tx, [*active.values(), *pending.values(), event("unknown")])
    for name, changes in {
        "tried": {"first_try_at": after(-10)},
        "given up": {"first_try_at": after(-100)},
        "taking back": {"phase": Phase.COMPENSATING, "compensate_until": after(1)},
        "taken back": {"phase": Phase.COMPENSATING, "compensate_until": NOON},
    }.items():
        await inbox.update(tx, replace(await only(tx, active[name]), **changes))  # type: ignore[arg-type]

    closed: dict[str, Any] = {"gate_open": False, "tried_before": after(-60)}
    found = {row.subject for row in await inbox.due_rows(tx, "active", NOON, 100, **closed)}
    assert found == {"", "member", "given up", "taken back"}
    assert await due(tx, "pending", **closed) == [pending["user"].identity]
    assert len(await due(tx, "active", gate_open=False)) == 3
    assert len(await due(tx, "active")) == 7
    assert await runnable(tx, **closed) == ["active", "pending", "unknown"]


async def test_what_waits_for_nothing_but_litellm_says_so(tx: AsyncConnection) -> None:
    await put_active_org(tx, "active")
    await members.add(tx, Member("active", "member", "member", False, "h", "a", "default", NOON))
    await put_org(tx, "pending", status=OrgStatus.PROVISIONING)
    litellm, retry, turn = WaitReason.LITELLM, WaitReason.RETRY, WaitReason.TURN
    rows = {
        "new": (event("active", subject="new"), {}, litellm),
        "tried": (event("active", subject="tried"), {"first_try_at": after(-10)}, litellm),
        "pending": (org_event("pending"), {}, litellm),
        "first": (org_event("first"), {}, litellm),
        "later": (event("active", subject="later"), {"due_at": after(1)}, turn),
        "paused": (event("active", subject="paused"), {"reason": retry}, retry),
        "member": (event("active", subject="member"), {}, turn),
        "given up": (event("active", subject="given up"), {"first_try_at": after(-100)}, turn),
        "known": (org_event("active"), {}, turn),
        "user": (event("pending"), {}, turn),
        "behind": (event("active", subject="new"), {}, WaitReason.BEHIND),
        "job": (job_event("active", "job", reason=turn, due_at=NOON), {}, turn),
    }
    await inbox.add(tx, [row for row, _, _ in rows.values()])
    for row, changes, _ in rows.values():
        if changes:
            await inbox.update(tx, replace(await only(tx, row), **changes))  # type: ignore[arg-type]

    given: dict[str, Any] = {"tried_before": after(-60)}
    assert await inbox.has_unnoted(tx, NOON, **given)
    assert await inbox.note_litellm_down(tx, NOON, limit=3, **given) == 3
    assert await inbox.note_litellm_down(tx, NOON, **given) == 1
    assert not await inbox.has_unnoted(tx, NOON, **given)
    assert {name: (await only(tx, row)).reason for name, (row, _, _) in rows.items()} == {
        name: reason for name, (_, _, reason) in rows.items()
    }


# -- whose turn --


async def test_the_longest_due_organization_comes_first(tx: AsyncConnection) -> None:
    await inbox.add(
        tx, [event("b", due_at=after(1)), event("a", due_at=after(2)), event("c", due_at=after(9))]
    )
    assert await runnable(tx, 5) == ["b", "a"]
    assert await runnable(tx, 5, limit=1) == ["b"]
    assert await runnable(tx, 0) == []


async def test_one_that_was_served_goes_to_the_end(tx: AsyncConnection) -> None:
    await inbox.add(
        tx, [event("a", due_at=after(1)), event("b", due_at=after(2)), event("c", due_at=after(3))]
    )
    token = uuid4()
    await leases.acquire(tx, leases.org_scope("a"), ttl=MINUTE, token=token, now=after(4))
    assert await runnable(tx, 5) == ["b", "c"]
    await leases.release(tx, leases.org_scope("a"), token, after(6))
    assert await runnable(tx, 7) == ["b", "c", "a"]


async def test_a_lease_that_ran_out_keeps_nobody_away(tx: AsyncConnection) -> None:
    await inbox.add(tx, [event("a")])
    await leases.acquire(tx, leases.org_scope("a"), ttl=MINUTE, token=uuid4(), now=NOON)
    assert await runnable(tx, 59) == []
    assert await runnable(tx, 60) == ["a"]


async def many(tx: AsyncConnection, org_id: str, count: int) -> None:
    await inbox.add(tx, [event(org_id, subject=f"u-{number}", due_at=after(-100)) for number in range(count)])


async def test_an_organization_with_thousands_due_takes_one_turn_like_any_other(tx: AsyncConnection) -> None:
    await many(tx, "big", 3000)
    await inbox.add(
        tx, [event("b", due_at=after(1)), event("a", due_at=after(2)), event("c", due_at=after(99))]
    )
    assert await runnable(tx, 5) == ["big", "b", "a"]
    token = uuid4()
    await leases.acquire(tx, leases.org_scope("big"), ttl=MINUTE, token=token, now=after(5))
    assert await runnable(tx, 5) == ["b", "a"]
    await leases.release(tx, leases.org_scope("big"), token, after(6))
    assert await runnable(tx, 7) == ["b", "a", "big"]
    assert await runnable(tx, 7, limit=2) == ["b", "a"]


@pytest.mark.parametrize("dialect", ["postgresql"])
async def test_reading_whose_turn_it_is_does_not_read_all_that_is_due(
    tx: AsyncConnection, explain: Explain
) -> None:
    await many(tx, "big", 10_000)
    await inbox.add(tx, [event(f"org-{number}") for number in range(20)])
    await tx.execute(text("ANALYZE inbox"))
    plan = await explain(tx, lambda: runnable(tx))
    assert "Seq Scan on inbox" not in plan
    assert max(int(count) for count in re.findall(r"actual rows=(\d+)", plan)) <= 1_000


# -- waiting for the organization --


def waiting(org_id: str = "acme", seconds: float = 60, **given: Any) -> NewInboxRow:
    return event(org_id, **{"reason": WaitReason.ORGANIZATION, "due_at": after(seconds), **given})


async def test_dependents_wait_for_their_organization_without_a_deadline_while_it_is_in_hand(
    tx: AsyncConnection,
) -> None:
    user, retrying = waiting(), event(subject="u-2", reason=WaitReason.RETRY, due_at=after(60))
    job, elsewhere = job_event(due_at=after(60)), waiting("other")
    await inbox.add(tx, [user, retrying, job, elsewhere])

    await inbox.hold_dependents(tx, ["acme"])
    await inbox.hold_dependents(tx, [])
    dues = [(await only(tx, row)).due_at for row in (user, retrying, job, elsewhere)]
    assert dues == [None, after(60), None, after(60)]

    await inbox.start_dependents_wait(tx, "acme", after(120))
    dues = [(await only(tx, row)).due_at for row in (user, retrying, job, elsewhere)]
    assert dues == [after(120), after(60), after(120), after(60)]


async def test_its_users_have_their_turn_once_it_is_active(tx: AsyncConnection) -> None:
    user, second, job = waiting(), waiting(), job_event()
    await inbox.add(tx, [user, second, job])
    await inbox.hold_dependents(tx, ["acme"])
    await inbox.release_users(tx, "acme", after(5))
    assert await due(tx, seconds=5) == [user.identity]
    assert (await only(tx, second)).reason is WaitReason.BEHIND
    assert (await only(tx, job)).due_at is None


async def test_waiting_jobs_come_in_the_order_received(tx: AsyncConnection) -> None:
    jobs = [job_event(job_id=f"j-{number}", due_at=after(60 - number)) for number in range(5)]
    await inbox.add(tx, [*jobs, job_event("other"), event()])
    found = await inbox.waiting_jobs(tx, "acme", 3)
    assert [row.identity for row in found] == [row.identity for row in jobs[:3]]
    expired = await inbox.expired_jobs(tx, "acme", after(58), 10)
    assert [row.identity for row in expired] == [row.identity for row in jobs[2:]]


async def test_jobs_of_one_subject_do_not_stand_behind_each_other(tx: AsyncConnection) -> None:
    twice = [job_event(job_id="j"), job_event(job_id="j")]
    await inbox.add(tx, twice)
    assert len(await inbox.waiting_jobs(tx, "acme", 10)) == 2


async def test_which_organizations_jobs_can_be_decided(tx: AsyncConnection) -> None:
    for org_id, status in {
        "active": OrgStatus.ACTIVE,
        "unknown": OrgStatus.UNKNOWN,
        "failed": OrgStatus.FAILED,
        "in-hand": OrgStatus.PROVISIONING,
        "idle": OrgStatus.ACTIVE,
    }.items():
        await put_org(tx, org_id, status=status, waiting_jobs=0 if org_id == "idle" else 1)
    await inbox.add(
        tx,
        [
            job_event("failed", due_at=after(10)),
            job_event("in-hand", due_at=after(10)),
            job_event("unknown", due_at=after(5)),
            job_event("active"),
        ],
    )
    assert await inbox.drainable_orgs(tx, after(4), 10) == ["active"]
    assert await inbox.drainable_orgs(tx, after(5), 10) == ["unknown", "active"]
    assert await inbox.drainable_orgs(tx, after(10), 10) == ["failed", "unknown", "active"]
    assert await inbox.drainable_orgs(tx, after(10), 1) == ["failed"]


# -- failed, and tried again --


async def test_a_failed_event_is_kept_until_it_is_tried_again(tx: AsyncConnection) -> None:
    new = event()
    await inbox.add(tx, [new])
    tried = replace(
        await only(tx, new),
        attempts=3,
        first_try_at=NOON,
        compensate_until=after(9),
        failure='{"step":"key"}',
    )
    await inbox.fail(tx, tried)
    failed = await only(tx, new)
    assert (failed.state, failed.due_at, failed.failure) == (InboxState.FAILED, None, '{"step":"key"}')
    assert await due(tx, seconds=99) == []
    assert await runnable(tx, 99) == []
    assert await inbox.waiting_of(tx, "acme") == []

    opened = await inbox.reopen(tx, failed, reason=WaitReason.TURN, due_at=after(100))
    assert opened == await only(tx, new)
    assert opened == replace(
        failed,
        state=InboxState.WAITING,
        reason=WaitReason.TURN,
        origin=Origin.RETRY,
        round=2,
        due_at=after(100),
        first_try_at=None,
        attempts=0,
        failure=None,
    )
    assert await inbox.reopen(tx, failed, reason=WaitReason.TURN, due_at=after(100)) is None


async def test_one_tried_again_stands_behind_the_one_in_hand(tx: AsyncConnection) -> None:
    first, second = event(), event()
    await inbox.add(tx, [first])
    await inbox.fail(tx, await only(tx, first))
    await inbox.add(tx, [second])
    assert await due(tx) == [second.identity]

    opened = await inbox.reopen(tx, await only(tx, first), reason=WaitReason.TURN, due_at=NOON)
    assert opened is not None
    assert (opened.reason, opened.due_at) == (WaitReason.BEHIND, None)
    await inbox.remove(tx, [(await only(tx, second)).inbox_id])
    assert await inbox.release_next_behind(tx, "acme", EventType.USER_JOINED, "u-1", NOON)
    assert await due(tx) == [first.identity]


async def test_failed_events_are_found_by_organization_event_and_when(tx: AsyncConnection) -> None:
    refused = [
        job_event(
            "acme",
            f"j-{number}",
            state=InboxState.FAILED,
            reason=WaitReason.FAILED,
            failure='{"reason":"insufficient_credits"}',
            stored_at=after(number),
        )
        for number in range(4)
    ]
    await inbox.add(
        tx, [*refused, job_event("acme", "waits"), replace(refused[0], org_id="b", identity=uuid4())]
    )
    found = await inbox.failed_rows(tx, org_id="acme")
    assert [row.identity for row in found] == [row.identity for row in refused]
    assert await inbox.failed_rows(tx, org_id="acme", after=found[0].inbox_id, limit=2) == found[1:3]
    assert await inbox.failed_rows(tx, identities=[refused[2].identity]) == [found[2]]
    assert await inbox.failed_rows(tx, stored_from=after(1), stored_to=after(3)) == found[1:3]
    assert len(await inbox.waiting_jobs(tx, "acme", 10)) == 1


# -- counted --


async def test_what_waits_is_counted_by_reason(tx: AsyncConnection) -> None:
    failed = replace(job_event(job_id="x"), state=InboxState.FAILED, reason=WaitReason.FAILED)
    await inbox.add(
        tx,
        [
            waiting(stored_at=after(5)),
            job_event(stored_at=after(3)),
            event(subject="u-2", reason=WaitReason.LITELLM, stored_at=after(4)),
            failed,
        ],
    )
    assert [(row.reason, row.count, row.oldest_since) for row in await inbox.waiting_summary(tx, NOON)] == [
        ("litellm", 1, after(4)),
        ("organization", 2, after(3)),
    ]


async def test_everything_of_an_organization_that_waits(tx: AsyncConnection) -> None:
    rows = [job_event(), event(), org_event(), event()]
    await inbox.add(tx, [*rows, event("other")])
    found = await inbox.waiting_of(tx, "acme")
    assert [row.identity for row in found] == [row.identity for row in rows]
    assert await inbox.waiting_of(tx, "acme", limit=2) == found[:2]
