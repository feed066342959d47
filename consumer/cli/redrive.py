"""`quartermaster dead-letters redrive`: dead letters through our own ingest once more."""

# ruff: noqa: D301 - click reads \b itself: the lines below it stay as they are

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import BinaryIO, Final, NoReturn
from uuid import UUID

import click

from consumer.cli.command import CommandFailed, asynchronous, opened_database
from consumer.cli.letter_filters import letter_filters
from consumer.cli.output import brief, complain, json_option, print_json, say
from consumer.cli.paging import MOST
from consumer.cli.progress import shown_progress
from consumer.ingest.judging import IngestPolicy
from consumer.redrive import Candidate, Fate, Fated, Redriver, batches, candidate, foresee, known_to
from consumer.settings import Settings, load_settings
from schemas.event import InboundEvent
from storage import dead_letters
from storage.database import Database, DatabaseUnavailable
from storage.dead_letters import StoredDeadLetter, Wanted

_NAMED: Final = 20
_NAMED_IN_JSON: Final = 1000
"""Of those that are still bad so many are named; the list shows all."""


@click.command("redrive")
@click.argument("number", metavar="[ID]", type=click.IntRange(1, MOST), required=False)
@click.option("--all", "every", is_flag=True, help="All that meet the conditions given.")
@letter_filters
@click.option(
    "--value",
    type=click.File("rb"),
    help="A mended value for ID in place of its own (- for standard input); headers and key stay.",
)
@click.option("--dry-run", is_flag=True, help="Say what would come of it, and change nothing.")
@json_option
@click.pass_context
@asynchronous
async def redrive(
    ctx: click.Context,
    wanted: Wanted,
    *,
    number: int | None,
    every: bool,
    value: BinaryIO | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Send dead letter ID, or --all that meet the conditions, through ingest again.

    Each takes effect as if it were read from its topic now, once, however often and by however many this
    command is given. What is taken, known already or of a type unknown to us is not offered again. What is
    still bad stays listed, and the command exits 1; nothing is written to the dead-letter topic.

    \b
    Example:
      quartermaster dead-letters redrive 17
      quartermaster dead-letters redrive 17 --value mended.json
      quartermaster dead-letters show 17 --raw | jq '.data.initial_credits = 0' \\
        | quartermaster dead-letters redrive 17 --value -
      quartermaster dead-letters redrive --all --reason unprocessable --dry-run
    """
    settings = load_settings()
    filtered = wanted != Wanted()
    if number is not None and (every or filtered):
        raise click.UsageError("an ID excludes --all and the conditions")
    if number is None and not (every or filtered):
        raise click.UsageError("give the ID of one dead letter, or --all")
    if number is None and value is not None:
        raise click.UsageError("--value mends one dead letter: give its ID")
    tally = _Tally(_NAMED_IN_JSON if as_json else _NAMED)
    async with opened_database(settings) as database:
        if number is not None:
            mended = None if value is None else value.read()
            await _redrive_one(database, settings, number, mended, tally, dry_run=dry_run)
        else:
            await _redrive_all(database, settings, wanted, tally, dry_run=dry_run)
    if as_json:
        print_json(tally.document(dry_run=dry_run))
    else:
        _print_tally(tally, dry_run=dry_run)
    if tally.count(Fate.STILL_BAD) or (number is not None and tally.count(Fate.GONE)):
        ctx.exit(1)


async def stored_letter(database: Database, number: int) -> StoredDeadLetter:
    """Read a dead letter, or fail with where to find which there are."""
    async with database.reading() as tx:
        found = await dead_letters.load(tx, [number])
    if not found:
        raise CommandFailed(
            f"there is no dead letter {number}: `quartermaster dead-letters list --all` shows which there are"
        )
    return found[0]


@dataclass(slots=True)
class _Tally:
    """What came of the dead letters, and the first few that are still bad."""

    named_at_most: int
    fates: Counter[Fate] = field(default_factory=Counter)
    still_bad: list[Fated] = field(default_factory=list)

    def add(self, fates: Sequence[Fated]) -> None:
        for fated in fates:
            self.fates[fated.fate] += 1
            if fated.fate is Fate.STILL_BAD and len(self.still_bad) < self.named_at_most:
                self.still_bad.append(fated)

    def count(self, *fates: Fate) -> int:
        return sum(self.fates[fate] for fate in fates)

    def document(self, *, dry_run: bool) -> dict[str, object]:
        return {
            "dry_run": dry_run,
            "redriven": 0 if dry_run else self.count(Fate.APPLIED, Fate.DUPLICATE, Fate.PASSED_OVER),
            **{fate.value: self.fates[fate] for fate in Fate},
            "bad": [
                {
                    "id": fated.dead_letter_id,
                    "reason": None if fated.why is None else fated.why.reason,
                    "error": None if fated.why is None else fated.why.error,
                }
                for fated in self.still_bad
            ],
        }


async def _redrive_one(
    database: Database,
    settings: Settings,
    number: int,
    value: bytes | None,
    tally: _Tally,
    *,
    dry_run: bool,
) -> None:
    stored = await stored_letter(database, number)
    if stored.redriven_at is not None:
        raise CommandFailed(
            f"dead letter {number} was sent through again at {brief(stored.redriven_at)}:"
            " it is not sent a second time"
        )
    one = candidate(stored, max_bytes=settings.max_event_bytes, value=value)
    if dry_run:
        async with database.reading() as tx:
            tally.add(foresee([one], await known_to(tx, [one])))
    else:
        tally.add(await _redriver(database, settings).redrive([one]))


async def _redrive_all(
    database: Database, settings: Settings, wanted: Wanted, tally: _Tally, *, dry_run: bool
) -> None:
    wanted = replace(wanted, redriven=False)
    async with database.reading() as tx:
        count, last = await dead_letters.extent(tx, wanted)
    wanted = replace(wanted, last=last)
    redriver = _redriver(database, settings)
    foreseen: dict[UUID, bytes] = {}
    done = 0
    with shown_progress("Looking" if dry_run else "Redriving", "dead letters") as shown:
        try:
            async for letters in batches(database, wanted):
                candidates = [candidate(one, max_bytes=settings.max_event_bytes) for one in letters]
                if dry_run:
                    await _foresee(database, candidates, foreseen, tally)
                else:
                    tally.add(await redriver.redrive(candidates))
                done += len(letters)
                shown.update(done, count, f"{tally.fates[Fate.STILL_BAD]:,} still bad")
        except DatabaseUnavailable as error:
            _broken_off(error, tally)


async def _foresee(
    database: Database, candidates: Sequence[Candidate], foreseen: dict[UUID, bytes], tally: _Tally
) -> None:
    async with database.reading() as tx:
        known = await known_to(tx, candidates)
    # What an earlier one of this look would have taken is known to a later one.
    fates = foresee(candidates, foreseen | known)
    tally.add(fates)
    for one, fated in zip(candidates, fates, strict=True):
        if fated.fate is Fate.APPLIED and isinstance(one.meaning, InboundEvent):
            foreseen[one.meaning.identity] = one.meaning.fingerprint


def _redriver(database: Database, settings: Settings) -> Redriver:
    return Redriver(database=database, policy=IngestPolicy.of(settings))


def _broken_off(error: DatabaseUnavailable, tally: _Tally) -> NoReturn:
    done = sum(tally.fates.values())
    raise CommandFailed(f"{error}; {done} were dealt with: the same command goes on with the rest") from error


def _print_tally(tally: _Tally, *, dry_run: bool) -> None:
    would = "would be " if dry_run else ""
    lines = (
        (Fate.APPLIED, f"{would}taken"),
        (Fate.DUPLICATE, "known already: no further effect"),
        (Fate.PASSED_OVER, "of a type unknown to us: passed over"),
        (Fate.GONE, "sent through by somebody else meanwhile"),
        (Fate.STILL_BAD, "still bad: nothing was changed"),
    )
    shown = [(tally.fates[fate], words) for fate, words in lines if tally.fates[fate]]
    if not shown:
        say("There are no dead letters like that to be sent through.")
    for count, words in shown:
        say(f"{count} {words}")
    for fated in tally.still_bad:
        assert fated.why is not None
        complain(f"dead letter {fated.dead_letter_id}: {fated.why.reason}: {fated.why.error}")
    if tally.fates[Fate.STILL_BAD] > len(tally.still_bad):
        complain(f"... and {tally.fates[Fate.STILL_BAD] - len(tally.still_bad)} more")
    if tally.still_bad:
        complain(
            "See one with `quartermaster dead-letters show ID`, mend its value, and give it with"
            " `quartermaster dead-letters redrive ID --value FILE`."
        )
