"""`quartermaster org show` and `org list`: what is known of organizations."""

# ruff: noqa: D301 - click reads \b itself: the lines below it stay as they are

import functools
import shlex
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Final

import click
from sqlalchemy.ext.asyncio import AsyncConnection

from consumer.cli.arguments import Identifier, org_id_argument
from consumer.cli.command import CommandFailed, asynchronous, database_of_environment, no_organization
from consumer.cli.output import (
    brief,
    json_option,
    print_facts,
    print_json_list,
    print_json_with_list,
    print_table,
    say,
)
from consumer.cli.paging import MOST, limit_option, paged
from consumer.cli.waiting import failed_document, failing, named, waiting_document, waits_for
from schemas.timestamps import format_rfc3339
from storage import inbox, ledger, members, organizations
from storage.inbox import FailedSummary, InboxRow
from storage.members import Member
from storage.organizations import OrgProfile, OrgState, OrgStatus

_LISTED: Final = 100
_SHOWN: Final = 20
_PAGE: Final = 100
"""Waiting events read at once: each may have half a megabyte."""


@dataclass(frozen=True, slots=True)
class OrganizationView:
    """One organization as a command shows it; what waits is read apart, a page at a time."""

    state: OrgState
    profile: OrgProfile | None
    granted: int
    used: int
    members: list[Member]
    waiting: int
    failed: list[FailedSummary]

    def document(self) -> dict[str, Any]:
        """Return the JSON form, less the list of what waits."""
        return {
            "org_id": self.state.org_id,
            "status": self.state.status,
            "name": None if self.profile is None else self.profile.name,
            "credits_granted": self.granted,
            "credits_used": self.used,
            "credits_balance": self.state.balance,
            "users": [
                {"user_id": member.user_id, "role": member.role, "key_hash": member.key_hash}
                for member in self.members
            ],
            "failed": [failed_document(summary) for summary in self.failed],
            "waiting_total": self.waiting,
        }


@click.group("org")
def org_group() -> None:
    """Look at organizations."""


@org_group.command("list")
@click.option(
    "--status",
    type=click.Choice([status.value for status in OrgStatus]),
    help="Only these; unknown: something waits for it, and no org.created came.",
)
@limit_option(_LISTED)
@click.option("--after", type=Identifier(), help="Only those whose id comes after this one.")
@json_option
@asynchronous
async def list_(status: str | None, limit: int | None, after: str | None, *, as_json: bool) -> None:
    """List organizations by id, with their status and credits.

    \b
    Example:
      quartermaster org list
      quartermaster org list --status failed
      quartermaster org list --status provisioning --json | jq -r '.[].org_id'
    """
    read = functools.partial(organizations.page, status=None if status is None else OrgStatus(status))
    place = attrgetter("org_id")
    async with database_of_environment() as database:
        if as_json:
            states = paged(database, read, place, after=after or "", limit=limit)
            await print_json_list(_state_document(one) async for one in states)
            return
        limit = limit or _LISTED
        found = [one async for one in paged(database, read, place, after=after or "", limit=limit + 1)]
    if not found:
        say("There are no organizations like that.")
        return
    print_table(
        ("organization", "status", "credits", "waiting jobs", "failed at"),
        [
            (
                one.org_id,
                one.status,
                one.balance,
                one.waiting_jobs,
                brief(one.failed_at),
            )
            for one in found[:limit]
        ],
    )
    if len(found) > limit:
        say(f"... and more: --after {found[limit - 1].org_id} goes on")


@org_group.command("show")
@org_id_argument
@limit_option(_SHOWN)
@click.option(
    "--after", type=click.IntRange(0, MOST), default=0, help="Of what waits only that numbered beyond this."
)
@json_option
@asynchronous
async def show(org_id: str, limit: int | None, after: int, *, as_json: bool) -> None:
    """Show what is known of ORG_ID: credits, members with the hashes of their keys, what waits and why.

    What waits is in the order received. Its time is when it is tried next or, where it waits for its
    organization, when it is given up; without one it waits as long as it takes. What failed stays until
    `quartermaster replay --retry-failed` has it tried again.

    \b
    Example:
      quartermaster org show acme
      quartermaster org show acme --json | jq .credits_balance
      quartermaster org show acme --limit 100 --after 4711
    """
    async with database_of_environment() as database:
        async with database.reading() as tx:
            view = await find_organization(tx, org_id)
            if view is None:
                raise await _absence(tx, org_id)
        read = functools.partial(inbox.waiting_of, org_id=org_id)
        place = attrgetter("inbox_id")
        if as_json:
            waiting = paged(database, read, place, after=after, limit=limit, page=_PAGE)
            await print_json_with_list(
                view.document(), "waiting", (waiting_document(row) async for row in waiting)
            )
            return
        shown = limit or _SHOWN
        rows = [row async for row in paged(database, read, place, after=after, limit=shown + 1, page=_PAGE)]
    print_organization(view)
    _print_waiting(rows, shown, view)


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
        waiting=await inbox.count_waiting(tx, org_id),
        failed=await inbox.failures_of(tx, org_id),
    )


def print_organization(view: OrganizationView) -> None:
    """Show an organization to people, but for what waits."""
    profile = view.profile
    facts: list[tuple[str, object]] = [("organization", view.state.org_id), ("status", view.state.status)]
    if view.state.failed_at is not None:
        facts.append(("failed at", brief(view.state.failed_at)))
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
    if view.failed:
        say("")
        print_table(
            ("failed", "count", "why", "oldest since"),
            [
                (summary.type, summary.count, _why(summary), brief(summary.oldest_since))
                for summary in view.failed
            ],
        )


def _print_waiting(rows: list[InboxRow], shown: int, view: OrganizationView) -> None:
    if rows[:shown]:
        say("")
        print_table(
            ("waiting", "source", "id", "for", "since", "until", "tries", "last error"),
            [
                (
                    row.type,
                    *named(row),
                    waits_for(row),
                    brief(row.stored_at),
                    brief(row.due_at),
                    row.attempts,
                    None if (last := failing(row.failure)) is None else last.line,
                )
                for row in rows[:shown]
            ],
        )
        if len(rows) > shown:
            say(f"... of {view.waiting} that wait: --after {rows[shown - 1].inbox_id} goes on")
    if view.failed:
        say("")
        org_id = shlex.quote(view.state.org_id)
        say(f"Once the cause is mended: quartermaster replay --retry-failed --org {org_id}")


def _why(summary: FailedSummary) -> str | None:
    why = failing(summary.failure)
    return None if why is None else why.line


async def _absence(tx: AsyncConnection, org_id: str) -> CommandFailed:
    first = await inbox.waiting_of(tx, org_id, limit=1)
    if not first:
        return no_organization(org_id)
    waiting = await inbox.count_waiting(tx, org_id)
    until = f", the first until {brief(first[0].due_at)}" if first[0].due_at is not None else ""
    return CommandFailed(
        f"there is no organization {org_id!r}; {waiting} event(s) wait for its org.created{until}"
    )


def _state_document(state: OrgState) -> dict[str, object]:
    return {
        "org_id": state.org_id,
        "status": state.status,
        "credits_balance": state.balance,
        "waiting_jobs": state.waiting_jobs,
        "failed_at": None if state.failed_at is None else format_rfc3339(state.failed_at),
    }
