"""The checker finds what it is there to find: a good history spoiled in one place, each time another."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.checker.check import check
from tests.checker.history import Emitted, History, Key, LedgerEntry, Policy, Proxy, Team
from tests.checker.reading import outcome_id
from tests.unit.checker.histories import (
    CREDITS,
    LETTERS,
    POLICY,
    PROVISIONING,
    SOURCE,
    TIME,
    digest,
    envelope,
    good,
    is_about,
    retold,
    told,
)

Spoil = Callable[[History], History]

LATER = "2026-03-01T13:00:00.250000Z"
LATER_MS = 1_772_370_000_250


def test_a_good_history_shows_no_violation() -> None:
    assert check(good(), policy=POLICY) == []


def test_without_a_proxy_nothing_is_said_of_it() -> None:
    assert check(replace(good(), proxy=None), policy=POLICY) == []


# --- how a history is spoiled -----------------------------------------------------------------------------


def without(which: Callable[[Emitted], bool]) -> Spoil:
    return lambda history: replace(history, emitted=[one for one in history.emitted if not which(one)])


def with_record(which: Callable[[Emitted], bool], change: Callable[[Emitted], Emitted]) -> Spoil:
    """One more record behind all others, made from the first of those."""

    def spoil(history: History) -> History:
        template = next(one for one in history.emitted if which(one))
        return replace(history, emitted=[*history.emitted, change(replace(template, offset=99))])

    return spoil


def changed(which: Callable[[Emitted], bool], change: Callable[[Emitted], Emitted]) -> Spoil:
    return lambda history: replace(
        history, emitted=[change(one) if which(one) else one for one in history.emitted]
    )


def swapped(first: Callable[[Emitted], bool], second: Callable[[Emitted], bool]) -> Spoil:
    def spoil(history: History) -> History:
        offsets = {
            which: next(one for one in history.emitted if which(one)).offset for which in (first, second)
        }
        return replace(
            history,
            emitted=[
                replace(one, offset=offsets[second])
                if first(one)
                else replace(one, offset=offsets[first])
                if second(one)
                else one
                for one in history.emitted
            ],
        )

    return spoil


def with_data(type_: str, cause: str | None = None, **changes: Any) -> Spoil:
    return changed(is_about(type_, cause), lambda one: retold(one, **changes))


def of_ledger(change: Callable[[list[LedgerEntry]], list[LedgerEntry]]) -> Spoil:
    return lambda history: replace(history, ledger=change(list(history.ledger)))


def of_proxy(change: Callable[[Proxy], Proxy]) -> Spoil:
    def spoil(history: History) -> History:
        assert history.proxy is not None
        return replace(history, proxy=change(history.proxy))

    return spoil


def of_team(**changes: Any) -> Spoil:
    return of_proxy(lambda proxy: replace(proxy, teams={"acme": replace(proxy.teams["acme"], **changes)}))


def is_letter(reason: str) -> Callable[[Emitted], bool]:
    return lambda one: one.topic == LETTERS and ("qm-reason", reason.encode()) in one.headers


def received(value: bytes) -> Spoil:
    """One more inbound record that nothing came of."""

    def spoil(history: History) -> History:
        last = replace(history.published[-1], topic="job.completed", offset=99, value=value)
        return replace(history, published=[*history.published, last])

    return spoil


def job(id_: str, **more: Any) -> bytes:
    return envelope("job.completed", id_, {"org_id": "acme", "job_id": "j", "status": "completed", **more})


def all_of(*spoils: Spoil) -> Spoil:
    def spoil(history: History) -> History:
        for one in spoils:
            history = one(history)
        return history

    return spoil


BAD: dict[str, tuple[str, str, Spoil]] = {
    "an event without outcome": ("1", "no outcome of job.completed", received(job("lost"))),
    "an outcome lost": ("1", "no outcome of user.joined", without(is_about("user.provisioned", "u1"))),
    "a bad record without dead letter": ("1", "no dead letter of", without(is_letter("invalid_json"))),
    "an event still waiting": ("1", "1 events still wait", lambda history: replace(history, waiting=1)),
    "an outbox not empty": ("1", "2 records are still", lambda history: replace(history, outbox_pending=2)),
    "a conflict swallowed": ("2", "2 of 2 events under", without(is_letter("id_conflict"))),
    "two outcome ids for one event": (
        "2",
        "more than one outcome in a round",
        with_record(
            is_about("credits.deduction_skipped", "e2"), lambda one: retold(one, envelope_id="another")
        ),
    ),
    "an outcome of nothing published": (
        "2",
        "nobody published",
        with_data("credits.deducted", "e1", envelope_causationid="unheard"),
    ),
    "an outcome of another kind of event": (
        "2",
        "is no outcome of a user.joined",
        with_data("user.provisioned", "u2", envelope_type="org.provisioned"),
    ),
    "a second round unasked": (
        "2",
        "a round nobody asked for",
        with_record(
            is_about("credits.deduction_skipped", "e2"),
            lambda one: retold(one, envelope_id="another", envelope_round=2),
        ),
    ),
    "rounds with a gap": ("2", "the rounds of", with_data("credits.deducted", "e1", envelope_round=2)),
    "an id that is not derived": (
        "3",
        "not derived from its cause",
        with_data("credits.deducted", "e1", envelope_id="made up"),
    ),
    "a subject that is another": (
        "3",
        "subject of",
        with_data("credits.deducted", "e1", envelope_subject="other"),
    ),
    "an outcome about another organization": (
        "3",
        "is about 'other'",
        with_data("user.provisioned", "u1", org_id="other"),
    ),
    "an outcome of no cause": (
        "3",
        "follows from nothing",
        changed(
            is_about("user.provisioned", "u1"),
            lambda one: replace(one, value=(one.value or b"").replace(b"causationid", b"causeless")),
        ),
    ),
    "a repeat that differs": (
        "3",
        "repeats of",
        with_record(is_about("org.provisioned", "o1"), lambda one: retold(one, attempts=2)),
    ),
    "an outcome on another topic": (
        "3",
        f"stands on {CREDITS}",
        changed(is_about("user.provisioned", "u1"), lambda one: replace(one, topic=CREDITS, offset=98)),
    ),
    "an outcome under another key": (
        "3",
        "another key",
        changed(is_about("user.provisioned", "u1"), lambda one: replace(one, key=b"x")),
    ),
    "an outcome without its content type": (
        "3",
        "does not say what it is",
        changed(is_about("user.provisioned", "u1"), lambda one: replace(one, headers=())),
    ),
    "an organization on two partitions": (
        "3",
        "on partitions [0, 1]",
        changed(is_about("user.provisioned", "u1"), lambda one: replace(one, partition=1)),
    ),
    "something that is no outcome": (
        "3",
        "neither an outcome nor a dead letter",
        with_record(is_about("org.provisioned", "o1"), lambda one: replace(one, value=b"{")),
    ),
    "outcomes out of order": (
        "3",
        "expected",
        swapped(is_about("credits.deducted", "e1"), is_about("credits.deducted", "e4")),
    ),
    "a user told of before the organization": (
        "3",
        "the first outcome is not its creation",
        changed(is_about("user.provisioned", "u1"), lambda one: replace(one, offset=-1)),
    ),
    "what stands told of before its creation": (
        "3",
        "told of before it is created",
        all_of(
            with_data("org.provisioned", "o1", created=False),
            with_data("org.provisioned", "o2", created=True),
        ),
    ),
    "a balance that does not fit": (
        "3",
        "expected",
        with_data("credits.deduction_skipped", "e2", credits_balance=3),
    ),
    "a job refused though credits were there": (
        "3",
        "expected",
        with_data("credits.deduction_failed", "e6", available=1),
    ),
    "facts that changed on the way": (
        "3",
        "other facts",
        with_data("credits.deducted", "e1", usage={"avg_latency_ms": 1.25}),
    ),
    "a time that is none of the event's": (
        "3",
        "no time of its cause",
        with_data("credits.deducted", "e1", envelope_causationtime="2026-03-02T12:00:00Z"),
    ),
    "a job that occurred at another time": (
        "3",
        "occurred at another time",
        with_data("credits.deducted", "e1", occurred_at="2026-03-02T12:00:00Z"),
    ),
    "jobs charged in another order": (
        "4",
        "was decided after",
        lambda history: replace(
            history,
            published=[
                replace(one, offset=-1)
                if one.topic == "job.completed" and b'"e5"' in (one.value or b"")
                else one
                for one in history.published
            ],
        ),
    ),
    "a charge nobody is told of": (
        "6",
        "no outcome tells of the entry",
        of_ledger(lambda entries: [*entries, LedgerEntry("acme", "t", "charge", "secret", -1, -1, 4)]),
    ),
    "a negative balance": (
        "6",
        "the balance is negative",
        of_ledger(lambda entries: [*entries, LedgerEntry("acme", "t", "charge", "secret", -1, -1, 4)]),
    ),
    "a charge the ledger does not know": (
        "6",
        "does not know what is told",
        of_ledger(lambda all_: all_[:-1]),
    ),
    "a broken chain": (
        "6",
        "does not follow",
        of_ledger(lambda all_: [*all_[:-1], replace(all_[-1], balance_after=1)]),
    ),
    "a gap in the sequence": (
        "6",
        "is not numbered 3",
        of_ledger(lambda all_: [*all_[:-1], replace(all_[-1], sequence=4)]),
    ),
    "a kept balance that is no sum": (
        "6",
        "the balance kept is 7",
        lambda history: replace(history, balances={"acme": 7}),
    ),
    "a balance without entries": (
        "6",
        "without entries",
        lambda history: replace(history, balances={"acme": 0, "ghost": 5}),
    ),
    "a ledger in another order than told": (
        "3",
        "another order than the ledger's",
        of_ledger(lambda all_: [*all_[:-2], all_[-1], all_[-2]]),
    ),
    "a job charged twice": (
        "2",
        "job 'job 1' is charged twice",
        of_ledger(lambda entries: [*entries, LedgerEntry("acme", "t", "charge", "job 1", -1, -1, 4)]),
    ),
    "a transaction booked twice": (
        "2",
        "is booked twice",
        of_ledger(lambda entries: [*entries, entries[-1]]),
    ),
    "a grant given twice": (
        "2",
        "was granted 6 instead of 3",
        of_ledger(lambda entries: [replace(entries[0], transaction_id="again"), *entries]),
    ),
    "a ledger without an organization": (
        "2",
        "no organization was created",
        of_ledger(lambda entries: [*entries, LedgerEntry("ghost", "g", "grant", None, 0, 0, None)]),
    ),
    "an organization created twice": ("2", "created 2 times", with_data("org.provisioned", created=True)),
    "a user created twice": ("2", "created 1 times", with_data("user.provisioned", "u2", created=True)),
    "a name nobody asked for": (
        "2",
        "instead of ('ann', 'Acme')",
        with_data("org.provisioned", "o1", name="Other"),
    ),
    "two keys told of": (
        "2",
        "tell of 2 keys",
        with_data("user.provisioned", "u2", key={"name": "default", "alias": "qm-3", "hash": digest("x")}),
    ),
    "provisioning that failed for nothing": (
        "2",
        "though nothing was out of order",
        with_data("user.provisioned", "u1", envelope_type="user.provisioning_failed"),
    ),
    "a team that is not there": ("2", "has no team", of_proxy(lambda proxy: replace(proxy, teams={}))),
    "a team under another name": ("2", "is called 'X'", of_team(alias="X")),
    "a budget that is another": ("2", "has a budget of 5.0", of_team(max_budget=5.0)),
    "a member that is not there": ("2", "is a member 0 times", of_team(members=["ann"])),
    "a member twice": ("2", "is a member 2 times", of_team(members=["ann", "bob", "bob"])),
    "a user that is not there": (
        "2",
        "is no user",
        of_proxy(lambda proxy: replace(proxy, users=frozenset({"ann"}))),
    ),
    "a key that is not there": (
        "2",
        "does not exist",
        of_proxy(lambda proxy: replace(proxy, keys=proxy.keys[:1])),
    ),
    "a key that is another's": (
        "2",
        "is another one",
        of_proxy(lambda proxy: replace(proxy, keys=[proxy.keys[0], replace(proxy.keys[1], user_id="ann")])),
    ),
    "a second live key": (
        "2",
        "has 2 live keys",
        of_proxy(lambda proxy: replace(proxy, keys=[*proxy.keys, Key("c", "qm-4", "acme", "bob")])),
    ),
    "a key listed twice": (
        "2",
        "is listed 2 times",
        of_proxy(lambda proxy: replace(proxy, keys=[*proxy.keys, proxy.keys[0]])),
    ),
    "an orphaned key": (
        "5",
        "no outcome tells of Key",
        of_proxy(lambda proxy: replace(proxy, keys=[*proxy.keys, Key("c", "qm-4", "acme", "cid")])),
    ),
    "an orphaned team": (
        "5",
        "told of by no outcome",
        of_proxy(lambda proxy: replace(proxy, teams={**proxy.teams, "ghost": Team("Ghost", None, [])})),
    ),
    "an orphaned member": ("5", "is a member of", of_team(members=["ann", "bob", "cid"])),
    "a secret told": ("7", "a secret stands at", with_data("org.provisioned", "o1", name="sk-secret")),
    "a dead letter of a valid event": (
        "8",
        "was refused although its data is always the same",
        all_of(
            lambda history: replace(
                history, published=[one for one in history.published if b"job 5" not in (one.value or b"")]
            ),
            changed(
                is_letter("id_conflict"),
                lambda one: replace(
                    one,
                    headers=tuple(
                        (name, b"0" if name == "qm-original-offset" else value) for name, value in one.headers
                    ),
                ),
            ),
        ),
    ),
    "a dead letter of nothing": (
        "8",
        "of nothing at",
        lambda history: replace(history, published=[one for one in history.published if one.value != b"{"]),
    ),
    "another reason": (
        "8",
        "says invalid_data, not invalid_json",
        changed(
            is_letter("invalid_json"),
            lambda one: replace(one, headers=(*one.headers, ("qm-reason", b"invalid_data"))),
        ),
    ),
    "another value": (
        "8",
        "another value",
        changed(is_letter("invalid_json"), lambda one: replace(one, value=b"[")),
    ),
    "another key of a dead letter": (
        "8",
        "another key",
        changed(is_letter("invalid_json"), lambda one: replace(one, key=None)),
    ),
    "headers lost": (
        "8",
        "lost headers",
        changed(is_letter("invalid_json"), lambda one: replace(one, headers=one.headers[1:])),
    ),
    "headers added": (
        "8",
        "gained headers",
        changed(is_letter("invalid_json"), lambda one: replace(one, headers=(*one.headers, ("x", b"")))),
    ),
    "a repeated dead letter that differs": (
        "8",
        "repeats of the dead letter",
        with_record(
            is_letter("invalid_json"),
            lambda one: replace(one, headers=(*one.headers, ("qm-dead-lettered-at", b"later"))),
        ),
    ),
    "a later one of two events taken": (
        "2",
        "a later one was taken",
        changed(
            is_letter("id_conflict"),
            lambda one: replace(
                one,
                headers=tuple(
                    (name, b"0" if name == "qm-original-offset" else value) for name, value in one.headers
                ),
            ),
        ),
    ),
    "an event both taken and refused": (
        "2",
        "both taken and refused",
        lambda history: replace(
            history,
            published=[
                *history.published,
                *(
                    replace(one, offset=98)
                    for one in history.published
                    if one.value is not None and b"job 5" in one.value
                ),
            ],
        ),
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_the_checker_finds(name: str) -> None:
    guarantee, what, spoil = BAD[name]
    policy = replace(POLICY, secrets=frozenset({b"sk-secret"}))
    found = check(spoil(good()), policy=policy)
    assert [one for one in found if one.guarantee.startswith(f"{guarantee} ") and what in one.what], found


def test_a_conflict_within_one_topic_may_be_won_on_either_partition() -> None:
    """Nothing orders two partitions: whichever was read first was taken."""

    def elsewhere(history: History) -> History:
        return replace(
            history,
            published=[
                replace(one, partition=1) if b"job 5" in (one.value or b"") else one
                for one in history.published
            ],
            emitted=[
                replace(
                    one,
                    headers=tuple(
                        (name, b"1" if name == "qm-original-partition" else value)
                        for name, value in one.headers
                    ),
                )
                if is_letter("id_conflict")(one)
                else one
                for one in history.emitted
            ],
        )

    assert check(elsewhere(good()), policy=POLICY) == []


def test_an_event_without_time_has_that_of_either_of_its_records() -> None:
    """Whichever was read first was taken, and that record's timestamp stands in."""
    history = good()
    timeless = [
        replace(one, value=(one.value or b"").replace(f', "time": "{TIME}"'.encode(), b""))
        if b'"e3"' in (one.value or b"")
        else one
        for one in history.published
    ]
    first, second = (one for one in timeless if b'"e3"' in (one.value or b""))
    apart = [replace(one, partition=1, timestamp_ms=LATER_MS) if one is second else one for one in timeless]
    assert first.timestamp_ms != LATER_MS
    later = with_data("credits.deduction_skipped", "e3", envelope_causationtime=LATER, occurred_at=LATER)
    assert check(later(replace(history, published=apart)), policy=POLICY) == []
    neither = with_data("credits.deduction_skipped", "e3", envelope_causationtime=TIME + "0")
    assert check(neither(replace(history, published=apart)), policy=POLICY) != []


def test_failures_are_allowed_where_there_was_reason() -> None:
    """And then nothing may be left of what failed."""
    failed = all_of(
        changed(is_about("user.provisioned", "u1"), _failed),
        of_proxy(
            lambda proxy: Proxy(
                {"acme": replace(proxy.teams["acme"], members=["ann"])}, proxy.users, proxy.keys[:1]
            )
        ),
    )
    assert check(failed(good()), policy=replace(POLICY, may_fail=True)) == []


def _failed(one: Emitted) -> Emitted:
    type_ = "user.provisioning_failed"
    cause = told(one)["causationid"]
    return retold(one, envelope_type=type_, envelope_id=outcome_id((SOURCE, cause), type_, 1))


def test_bookings_by_command_belong_to_the_books() -> None:
    """A grant of an operator's is told of, and moves the balance that jobs find."""
    history = good()
    last = next(one for one in history.emitted if is_about("credits.deduction_failed", "e6")(one))
    granted = {"org_id": "acme", "transaction_id": "t", "credits": 2, "balance_before": 0, "balance_after": 2}
    outcome = told(last)
    for name in ("causationid", "causationsource", "causationtime"):
        del outcome[name]
    outcome |= {"type": "credits.granted", "id": "of a command", "data": granted}
    operated = replace(
        history,
        emitted=[*history.emitted, replace(last, offset=99, value=json.dumps(outcome).encode())],
        ledger=[*history.ledger, LedgerEntry("acme", "t", "grant", None, 2, 2, None)],
        balances={"acme": 2},
    )
    assert check(operated, policy=Policy(operated=True)) == []
    assert check(operated, policy=Policy()) != []


def test_topics_may_bear_other_names() -> None:
    """Which topic is which, the policy says."""
    renamed = {PROVISIONING: "p", CREDITS: "c", LETTERS: "d"}
    history = good()
    elsewhere = replace(history, emitted=[replace(one, topic=renamed[one.topic]) for one in history.emitted])
    policy = Policy(provisioning_topic="p", credits_topic="c", dead_letter_topic="d")
    assert check(elsewhere, policy=policy) == []
