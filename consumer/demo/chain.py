"""The demo's chain: events in, outcomes out, the organization's books at the end."""

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from consumer.cli.ledger import ledger_document, print_ledger
from consumer.cli.organizations import OrganizationView, find_organization, print_organization
from consumer.cli.output import print_facts, print_json, say
from consumer.demo.display import Display
from consumer.demo.stage import PARTITIONS, Stage, check_alive, set_up
from consumer.demo.watch import Expectations, PublishedEvent, SeenOutcome, read_outcomes
from producers.publisher import Publisher
from producers.samples import Sample, SampleIds, samples
from storage import ledger
from storage.database import Database
from storage.ledger import LedgerEntry

ORGANIZATION: Final = SampleIds(org_id="acme", owner_user_id="ann", user_ids=("bob", "cleo"), prefix="demo")
_SOURCE: Final = "/quartermaster/demo"
#: Far more than the chain takes, also on a slow machine with a cold start.
_PATIENCE_S: Final = 60.0


class ChainBroken(Exception):  # noqa: N818 - says what happened
    """Not every expected outcome came; the message names what is missing."""


async def run_chain(display: Display, *, once: bool, as_json: bool) -> None:
    """Run the chain, and unless `once` stay up until cancelled; nothing is left running.

    Cancelled after the chain it returns as if it had been `once`.

    Raises:
        ChainBroken: an expected outcome is missing.
        ServiceEnded: the service gave up.
    """
    async with set_up() as stage:
        with display:
            played = await _play(stage, display)
        view, entries, problems = await _books(stage)
        unmet = [*played.expectations.unmet, *problems]
        if as_json:
            print_json(_document(played, unmet, view, entries))
        else:
            _print_books(view, entries, unmet)
        if not once:
            if not as_json:
                _invite(stage)
            await _stay(stage)
    if unmet:
        raise ChainBroken(f"not as expected: {'; '.join(unmet)}")


@dataclass(slots=True)
class _Played:
    """What went in, and what came out so far."""

    events: list[PublishedEvent]
    expectations: Expectations
    outcomes: list[SeenOutcome] = field(default_factory=list)


async def _play(stage: Stage, display: Display) -> _Played:
    story = samples(ORGANIZATION, source=_SOURCE, start=datetime.now(UTC))
    events = [PublishedEvent.of(sample) for sample in story]
    played = _Played(events, Expectations(events))
    await _publish(stage, story, events, display)
    watching = asyncio.ensure_future(_watch(stage, played, display))
    try:
        await asyncio.wait(
            [watching, stage.service], timeout=_PATIENCE_S, return_when=asyncio.FIRST_COMPLETED
        )
        if watching.done():
            await watching
        else:
            check_alive(stage)
    finally:
        watching.cancel()
        await asyncio.wait([watching])
    return played


async def _publish(
    stage: Stage, story: Sequence[Sample], events: Sequence[PublishedEvent], display: Display
) -> None:
    settings = stage.settings
    async with Publisher(
        settings.kafka, settings.event_topics, idempotent=settings.kafka_idempotence
    ) as publisher:
        for sample, event in zip(story, events, strict=True):
            # Unchecked, because one of them is broken on purpose.
            await publisher.publish_unchecked(sample.type, key=sample.key, value=sample.value)
            display.event(event)


async def _watch(stage: Stage, played: _Played, display: Display) -> None:
    """Show what comes out until everything expected has."""
    topics = list(dict.fromkeys(stage.settings.outbound_topics.values()))
    async with aclosing(read_outcomes(stage.settings.kafka, topics, partitions=PARTITIONS)) as outcomes:
        async for outcome in outcomes:
            played.outcomes.append(outcome)
            played.expectations.came(outcome)
            display.outcome(outcome)
            if played.expectations.complete:
                return


async def _books(stage: Stage) -> tuple[OrganizationView | None, list[LedgerEntry], list[str]]:
    """Read the organization as `org show` does, its ledger, and what `ledger verify` finds wrong."""
    database = await Database.connect(stage.settings.database_url.get_secret_value())
    try:
        async with database.reading() as tx:
            view = await find_organization(tx, ORGANIZATION.org_id)
            entries = await ledger.entries_of(tx, ORGANIZATION.org_id)
            return view, entries, (await ledger.verify(tx)).problems
    finally:
        await database.close()


def _print_books(view: OrganizationView | None, entries: list[LedgerEntry], unmet: list[str]) -> None:
    if view is not None:
        say("")
        print_organization(view)
    if entries:
        say("")
        print_ledger(entries)
    say("")
    say("Every expected outcome came, and the books balance." if not unmet else "Not as expected:")
    for line in unmet:
        say(f"  {line}")


def _document(
    played: _Played, unmet: list[str], view: OrganizationView | None, entries: list[LedgerEntry]
) -> dict[str, object]:
    return {
        "ok": not unmet,
        "missing": unmet,
        "events": [
            {"id": event.id, "type": event.type, "expected": event.expected} for event in played.events
        ],
        "outcomes": [
            {"event": outcome.cause, "type": outcome.type, "says": outcome.says}
            for outcome in played.outcomes
        ],
        "organization": None if view is None else view.document(),
        "ledger": [ledger_document(entry) for entry in entries],
    }


def _invite(stage: Stage) -> None:
    settings = stage.settings
    say("")
    print_facts(
        [
            ("HTTP", f"{stage.url}/readyz, {stage.url}/metrics"),
            ("Kafka", settings.kafka_bootstrap_servers),
            ("LiteLLM", f"{settings.litellm_url} (stand-in)"),
            ("log", stage.folder / "service.log"),
        ]
    )
    say("")
    say(f"Look around from another terminal (Ctrl-C here ends it): cd {stage.folder}")
    say(f"  quartermaster org show {ORGANIZATION.org_id}")
    say(f"  quartermaster keys show {ORGANIZATION.org_id}")
    say(f'  quartermaster credits add {ORGANIZATION.org_id} 10 --reason "more to see" --id first')


async def _stay(stage: Stage) -> None:
    """Return when cancelled; a service that ends by itself is a failure."""
    try:
        await asyncio.wait([stage.service])
    except asyncio.CancelledError:
        return
    check_alive(stage)
