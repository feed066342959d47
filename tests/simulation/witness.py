"""A simulated world's history, as the checker wants it."""

from uuid import UUID

from tests.checker.history import Emitted, History, Key, LedgerEntry, Proxy, Published, Team
from tests.simulation.world import INBOUND, OUTBOUND, World


def history_of(world: World) -> History:
    """Everything that went in and came out, and what stands."""
    state = world.proxy.state
    ledger = world.rows(
        "select org_id, transaction_id, kind, job_id, credits, balance_after, sequence from ledger_entries"
        " order by org_id, entry"
    )
    ((waiting, pending),) = world.rows(
        "select (select count(*) from inbox where state = 'waiting'), (select count(*) from outbox)"
    )
    return History(
        published=[
            Published(topic, one.partition, one.offset, one.key, one.value, tuple(one.headers), one.timestamp)
            for topic in INBOUND
            for one in world.broker.log(topic)
        ],
        emitted=[
            Emitted(topic, one.partition, one.offset, one.key, one.value, tuple(one.headers))
            for topic in OUTBOUND
            for one in world.broker.log(topic)
        ],
        ledger=[LedgerEntry(org, str(UUID(id_)), *rest) for org, id_, *rest in ledger],
        balances=dict(world.rows("select org_id, balance from organizations")),
        waiting=waiting,
        outbox_pending=pending,
        proxy=Proxy(
            teams={
                team.team_id: Team(
                    team.team_alias, team.max_budget, [member.user_id for member in team.members]
                )
                for team in state.teams.values()
            },
            users=frozenset(state.users),
            keys=[Key(key.hash, key.key_alias, key.team_id, key.user_id) for key in state.keys.values()],
        ),
    )
