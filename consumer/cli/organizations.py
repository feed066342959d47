"""`quartermaster org show`: what is known of one organization."""

# ruff: noqa: D301 - click reads \b itself: the lines below it stay as they are

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import click
from sqlalchemy.ext.asyncio import AsyncConnection

from consumer.cli.arguments import org_id_argument
from consumer.cli.command import CommandFailed, asynchronous, database_of_environment
from consumer.cli.output import json_option, print_facts, print_json, print_table, say
from schemas.event import from_stored
from schemas.timestamps import format_rfc3339
from storage import inbox, ledger, members, organizations
from storage.members import Member
from storage.organizations import OrgProfile, OrgState, OrgStatus

_SHOWN: Final = 20


@dataclass(frozen=True, slots=True)
class OrganizationView:
    """One organization as a command shows it."""

    state: OrgState
    profile: OrgProfile | None
    granted: int
    used: int
    members: list[Member]
    waiting: list[dict[str, Any]]

    def document(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "org_id": self.state.org_id,
            "status": self.state.status,
            "credits_granted": self.granted,
            "credits_used": self.used,
            "credits_balance": self.state.balance,
            "users": [
                {"user_id": member.user_id, "role": member.role, "key_hash": member.key_hash}
                for member in self.members
            ],
            "waiting": self.waiting,
        }


@click.group("org")
def org_group() -> None:
    """Look at organizations."""


@org_group.command("show")
@org_id_argument
@json_option
@asynchronous
async def show(org_id: str, *, as_json: bool) -> None:
    """Show what is known of ORG_ID: credits, members with the hashes of their keys, what waits and why.

    \b
    Example:
      quartermaster org show acme
      quartermaster org show acme --json | jq .credits_balance
    """
    async with database_of_environment() as database, database.reading() as tx:
        view = await find_organization(tx, org_id)
        waiting = [] if view is not None else await inbox.waiting_of(tx, org_id)
    if view is None:
        behind = f"; {len(waiting)} event(s) wait for its org.created" if waiting else ""
        raise CommandFailed(f"there is no organization {org_id!r}{behind}")
    if as_json:
        print_json(view.document())
    else:
        print_organization(view)


async def find_organization(tx: AsyncConnection, org_id: str) -> OrganizationView | None:
    """Read one organization; none where no `org.created` of it ever came."""
    state = (await organizations.read(tx, [org_id])).get(org_id)
    if state is None or state.status is OrgStatus.UNKNOWN:
        return None
    granted, used = await ledger.totals(tx, org_id)
    return OrganizationView(
        state=state,
        profile=await organizations.profile(tx, org_id),
        granted=granted,
        used=used,
        members=await members.of_org(tx, org_id),
        waiting=[_waiting(row) for row in await inbox.waiting_of(tx, org_id)],
    )


def print_organization(view: OrganizationView) -> None:
    """Show an organization to people."""
    profile = view.profile
    facts: list[tuple[str, object]] = [("organization", view.state.org_id), ("status", view.state.status)]
    if profile is not None:
        facts += [
            ("name", profile.name),
            ("owner", profile.owner_user_id),
            ("budget (USD)", profile.max_budget_usd or "no limit"),
            ("models", ", ".join(profile.models) or "all"),
        ]
    facts += [
        ("credits granted", view.granted),
        ("credits used", view.used),
        ("credits balance", view.state.balance),
    ]
    print_facts(facts)
    if view.members:
        say("")
        print_table(
            ("user", "role", "key hash"),
            [(member.user_id, member.role, member.key_hash) for member in view.members],
        )
    if view.waiting:
        say("")
        print_table(
            ("waiting", "source", "id", "reason", "since", "due at"),
            [tuple(one.values()) for one in view.waiting[:_SHOWN]],
        )
        if len(view.waiting) > _SHOWN:
            say(f"... and {len(view.waiting) - _SHOWN} more (--json shows all)")


def _waiting(row: inbox.InboxRow) -> dict[str, Any]:
    event = from_stored(row.event)
    return {
        "type": row.type,
        "source": event.source,
        "id": event.id,
        "reason": row.reason,
        "since": format_rfc3339(row.stored_at),
        "due_at": _or_none(row.due_at),
    }


def _or_none(moment: datetime | None) -> str | None:
    return None if moment is None else format_rfc3339(moment)
