"""What stands in the end: the books, LiteLLM, and what was told, without what may differ from run to run."""

from dataclasses import dataclass
from typing import Any

import orjson

from tests.simulation.world import OUTBOUND, World

_MAY_DIFFER = frozenset({"attempts", "duration_ms", "decided_at", "hash", "alias"})


@dataclass(frozen=True, slots=True)
class Facts:
    """Compared as values; `differences` says in words."""

    ledger: tuple[Any, ...]
    organizations: tuple[Any, ...]
    members: tuple[Any, ...]
    failed: tuple[Any, ...]
    proxy: dict[str, Any]
    outcomes: dict[str, Any]
    order: dict[tuple[str, str], tuple[str, ...]]
    dead_letters: tuple[Any, ...]

    def differences(self, other: "Facts") -> list[str]:
        """In words, what became of what stood here."""
        found = []
        for name in self.__dataclass_fields__:
            mine, theirs = getattr(self, name), getattr(other, name)
            if isinstance(mine, dict):
                found += [
                    f"{name} {key}: {mine.get(key)!r} became {theirs.get(key)!r}"
                    for key in sorted({*mine, *theirs})
                    if mine.get(key) != theirs.get(key)
                ]
            elif mine != theirs:
                found.append(f"{name}: {mine!r} became {theirs!r}")
        return found


def facts_of(world: World) -> Facts:
    outcomes: dict[str, Any] = {}
    order: dict[tuple[str, str], list[str]] = {}
    letters: set[Any] = set()
    for topic in OUTBOUND:
        for record in world.broker.log(topic):
            if topic == "quartermaster.dead-letters":
                headers = dict(record.headers)
                letters.add((headers["qm-reason"], headers["qm-original-topic"], record.value))
                continue
            envelope = orjson.loads(record.value)
            if envelope["id"] not in outcomes:
                outcomes[envelope["id"]] = (envelope["type"], envelope["round"], _stable(envelope["data"]))
                if topic == "credits.outcomes":
                    order.setdefault((topic, envelope["subject"]), []).append(envelope["id"])
    state = world.proxy.state
    return Facts(
        ledger=tuple(
            world.rows(
                "select org_id, entry, kind, credits, balance_after, sequence, job_id"
                " from ledger_entries order by 1, 2"
            )
        ),
        organizations=tuple(
            world.rows("select org_id, status, balance, charges, waiting_jobs from organizations order by 1")
        ),
        members=tuple(world.rows("select org_id, user_id, role, email_set from members order by 1, 2")),
        failed=tuple(world.rows("select identity, type, state, round from inbox order by 1")),
        proxy={
            "teams": {
                team.team_id: (
                    team.team_alias,
                    team.max_budget,
                    team.blocked,
                    tuple(team.models),
                    tuple(sorted(member.user_id for member in team.members)),
                )
                for team in state.teams.values()
            },
            "users": sorted(state.users),
            "memberships": sorted((*pair, row.max_budget) for pair, row in state.memberships.items()),
            "keys": sorted((key.team_id, key.user_id) for key in state.keys.values()),
        },
        outcomes=outcomes,
        order={key: tuple(ids) for key, ids in order.items()},
        dead_letters=tuple(sorted(letters)),
    )


def _stable(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _stable(one) for name, one in value.items() if name not in _MAY_DIFFER}
    return value
