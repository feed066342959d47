"""LiteLLM against the outcomes: one team, one membership, one live key, and nothing that no outcome names."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from tests.checker.history import Key, Proxy, Violation
from tests.checker.reading import Outcome, Reading

ONCE = "2 (effects happen once)"
ORDER = "3 (outcomes, stable and in order)"
ORPHANS = "5 (nothing is left behind)"

_FAILED = ("org.provisioning_failed", "user.provisioning_failed")


@dataclass(frozen=True, slots=True)
class _Seat:
    """A user's place in an organization, as outcomes tell of it."""

    org: str
    user: str


def provisioning_only_fails_with_reason(reading: Reading) -> Iterator[Violation]:
    for outcome in reading.outcomes.values():
        if (
            outcome.type in _FAILED
            and not reading.policy.may_fail
            and outcome.org not in reading.policy.doomed
        ):
            why = {name: outcome.data.get(name) for name in ("step", "error_code", "message")}
            yield Violation(ONCE, f"{outcome} though nothing was out of order: {why}")


def each_is_created_once(reading: Reading) -> Iterator[Violation]:
    """Of all outcomes about an organization or a user, the first says `created`, every other one not."""
    for org, outcomes in _provisioned(reading).items():
        subjects: dict[str, list[Outcome]] = {}
        for one in outcomes:
            # The owner is provisioned with the organization.
            subject = _user_of(one) if one.type == "user.provisioned" else ""
            subjects.setdefault(subject, []).append(one)
        owner = _user_of(subjects[""][0]) if "" in subjects else None
        for subject, of_subject in subjects.items():
            said = [bool(one.data.get("created")) for one in of_subject]
            who = f"{org!r} {subject!r}".removesuffix(" ''")
            if sum(said) != (subject != owner):
                yield Violation(
                    ONCE, f"{who} was created {sum(said)} times: {[str(one) for one in of_subject]}"
                )
            elif any(said[1:]):
                yield Violation(ORDER, f"{who}: what stands is told of before it is created")
        if outcomes[0].type != "org.provisioned" or not outcomes[0].data.get("created"):
            yield Violation(ORDER, f"{org!r}: the first outcome is not its creation but {outcomes[0]}")


def created_as_asked(reading: Reading) -> Iterator[Violation]:
    for outcomes in _provisioned(reading).values():
        for outcome in outcomes:
            cause = None if outcome.cause is None else reading.taken.get(outcome.cause)
            if cause is None:
                continue
            if outcome.type == "user.provisioned":
                wanted, found = cause.data["user_id"], outcome.data.get("user_id")
            elif outcome.data.get("created"):
                wanted = cause.data["owner_user_id"], cause.data["name"]
                found = _user_of(outcome), outcome.data.get("name")
            else:
                continue
            if found != wanted:
                yield Violation(ONCE, f"{outcome} tells of {found!r} instead of {wanted!r}")


def a_user_has_one_key(reading: Reading) -> Iterator[Violation]:
    keys: dict[_Seat, set[tuple[str, str]]] = {}
    for outcomes in _provisioned(reading).values():
        for one in outcomes:
            keys.setdefault(_seat_of(one), set()).add(_key_of(one))
    for seat, told in keys.items():
        if len(told) > 1:
            yield Violation(ONCE, f"outcomes tell of {len(told)} keys of {seat}")


def litellm_has_what_outcomes_tell(reading: Reading) -> Iterator[Violation]:
    proxy = reading.history.proxy
    if proxy is None:
        return
    live = {key.hash: key for key in proxy.keys}
    for org, outcomes in _provisioned(reading).items():
        team = proxy.teams.get(org)
        if team is None:
            yield Violation(ONCE, f"{org!r} has no team")
            continue
        created = outcomes[0].data
        if team.alias != created.get("name"):
            yield Violation(
                ONCE, f"the team of {org!r} is called {team.alias!r}, not {created.get('name')!r}"
            )
        if not _same_amount(team.max_budget, created.get("max_budget_usd")):
            wanted = created.get("max_budget_usd")
            yield Violation(ONCE, f"the team of {org!r} has a budget of {team.max_budget}, not {wanted}")
        for one in outcomes:
            yield from _stands(one, proxy, Counter(team.members), live)


def _stands(
    outcome: Outcome, proxy: Proxy, members: Counter[str], live: Mapping[str, Key]
) -> Iterator[Violation]:
    seat = _seat_of(outcome)
    if members[seat.user] != 1:
        yield Violation(ONCE, f"{seat} is a member {members[seat.user]} times")
    if seat.user not in proxy.users:
        yield Violation(ONCE, f"{seat} is no user")
    hash_, alias = _key_of(outcome)
    key = live.get(hash_)
    if key is None:
        yield Violation(ONCE, f"the key of {seat} does not exist")
    elif (key.alias, key.team_id, key.user_id) != (alias, seat.org, seat.user):
        yield Violation(ONCE, f"the key of {seat} is another one: {key}")


def litellm_has_nothing_else(reading: Reading) -> Iterator[Violation]:
    """No team, membership or key that no outcome names. Users stay: to delete one kills its other keys."""
    proxy = reading.history.proxy
    if proxy is None:
        return
    provisioned = _provisioned(reading)
    seats = {_seat_of(one) for outcomes in provisioned.values() for one in outcomes}
    told = {_key_of(one)[0] for outcomes in provisioned.values() for one in outcomes}
    for org, team in proxy.teams.items():
        if org not in provisioned:
            yield Violation(ORPHANS, f"the team {org!r} is told of by no outcome")
        for user in team.members:
            if _Seat(org, user) not in seats and user not in reading.policy.other_members:
                yield Violation(ORPHANS, f"{user!r} is a member of {org!r}, and no outcome says so")
    for key in proxy.keys:
        if key.hash not in told:
            yield Violation(ORPHANS, f"no outcome tells of {key}")


def litellm_has_no_key_twice(reading: Reading) -> Iterator[Violation]:
    proxy = reading.history.proxy
    if proxy is None:
        return
    for seat, count in Counter(_Seat(str(key.team_id), str(key.user_id)) for key in proxy.keys).items():
        if count > 1:
            yield Violation(ONCE, f"{seat} has {count} live keys")
    for hash_, count in Counter(key.hash for key in proxy.keys).items():
        if count > 1:
            yield Violation(ONCE, f"the key {hash_} is listed {count} times")


def _provisioned(reading: Reading) -> dict[str, list[Outcome]]:
    """What was provisioned for each organization, in the order told."""
    found: dict[str, list[Outcome]] = {}
    for org, outcomes in reading.of_org(reading.policy.provisioning_topic).items():
        if good := [one for one in outcomes if one.type in {"org.provisioned", "user.provisioned"}]:
            found[org] = good
    return found


def _user_of(outcome: Outcome) -> str:
    return str(_person(outcome).get("user_id"))


def _person(outcome: Outcome) -> Mapping[str, Any]:
    if outcome.type == "user.provisioned":
        return outcome.data
    owner: Mapping[str, Any] = outcome.data.get("owner") or {}
    return owner


def _seat_of(outcome: Outcome) -> _Seat:
    return _Seat(outcome.org, _user_of(outcome))


def _key_of(outcome: Outcome) -> tuple[str, str]:
    key = _person(outcome).get("key") or {}
    return str(key.get("hash")), str(key.get("alias"))


def _same_amount(found: float | None, told: str | None) -> bool:
    if found is None or told is None:
        return found is None and told is None
    return float(Decimal(told)) == found
