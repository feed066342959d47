"""The order in which a relay publishes, pass by pass, over a real database and a broker of plain lists.

What a broker may do is done here on purpose: refuse before or after it took a batch, say nothing for a while,
lack a topic. Time passes only where a test says so.
"""

import asyncio
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal

import pytest
from aiokafka.errors import KafkaConnectionError, KafkaError, MessageSizeTooLargeError, UnknownError
from sqlalchemy.ext.asyncio import AsyncConnection
from structlog.testing import capture_logs

from producers.connection import KafkaUnreachable
from producers.delivery import Delivered
from producers.kafka_client import describe_error, partition_of
from producers.relay import Relay
from producers.relay_plan import TRIES_OF_UNKNOWN, Batch, Lane
from schemas.outcomes import Stream
from storage import outbox
from storage.database import Database
from storage.outbox import PendingRecord, shard_of
from storage.tables import outbox as outbox_table
from tests.integration.producers.relaying import decide, letter, numbers, outcome, pending

pytestmark = pytest.mark.parametrize("dialect", ["sqlite"])

PARTITIONS = 3
Fault = Literal["before", "after", "later"] | None


class Broker:
    """Topics as lists, and what happens to each batch."""

    def __init__(self, fault: Callable[[Batch], Fault] = lambda _batch: None) -> None:
        self.fault = fault
        self.absent: set[str] = set()
        self.too_large = 10**9
        self.error: KafkaError = KafkaConnectionError()
        self.log: list[tuple[Lane, PendingRecord]] = []
        self.told = asyncio.Event()  # what was sent and not answered is answered
        self.in_flight: dict[Lane, int] = {}

    def sent(self, stream: Stream = Stream.CREDITS) -> list[int]:
        return [record.outbox_id for lane, record in self.log if lane.stream is stream]

    def first_seen(self) -> dict[tuple[Stream, str], list[int]]:
        """Of each organization and topic the rows, in the order in which they first stand there."""
        found: dict[tuple[Stream, str], dict[int, None]] = {}
        for lane, record in self.log:
            found.setdefault((lane.stream, record.org_id), {})[record.outbox_id] = None
        return {line: list(of_line) for line, of_line in found.items()}


class Hand:
    """A relay's hand to the broker: what `Delivery` is to a real one."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self.spent = False
        self.renewed = 0

    async def ready(self) -> None: ...

    async def renew(self) -> None:
        self.renewed += 1
        self.spent = False

    async def close(self) -> None: ...

    async def look_up(self, topic: str) -> int:
        return self.partitions(topic)

    def partitions(self, topic: str) -> int:
        return 0 if topic in self._broker.absent else PARTITIONS

    async def send(self, batches: Sequence[Batch]) -> Delivered:
        broker, lane = self._broker, batches[0].lane
        broker.in_flight[lane] = broker.in_flight.get(lane, 0) + 1
        assert broker.in_flight[lane] == 1, "a lane has one batch in flight at most"
        try:
            return await self._send(batches)
        finally:
            broker.in_flight[lane] -= 1

    async def _send(self, batches: Sequence[Batch]) -> Delivered:
        broker = self._broker
        for index, batch in enumerate(batches):
            await asyncio.sleep(0)
            fault = broker.fault(batch)
            if fault == "later":
                await broker.told.wait()
            too_large = sum(len(record.value or b"") for record in batch.records) > broker.too_large
            if not too_large and fault != "before":
                broker.log += [(batch.lane, record) for record in batch.records]
            if too_large or fault in {"before", "after"}:
                self.spent = True
                error = MessageSizeTooLargeError() if too_large else broker.error
                return Delivered(batch.lane, batches[:index], batch, error)
        return Delivered(batches[0].lane, batches)


class Clock:
    """A monotonic clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def relay_on(database: Database, broker: Broker, clock: Clock, **options: Any) -> Relay:
    topics = {stream: stream.value for stream in Stream}
    options = {"patience_s": 0.001, "lease_s": 3600.0} | options
    relay = Relay(
        database, lambda: pytest.fail("never"), topics, monotonic=clock, jitter=lambda: 1.0, **options
    )
    relay._delivery = Hand(broker)  # type: ignore[assignment]
    return relay


def lane(org_id: str, stream: Stream = Stream.CREDITS) -> Lane:
    return Lane(stream, stream.value, partition_of(org_id.encode(), PARTITIONS))


def of_each_lane() -> Iterator[str]:
    """An organization of each partition."""
    names = (f"org-{number}" for number in range(100))
    seen: set[Lane] = set()
    for name in names:
        if lane(name) not in seen:
            seen.add(lane(name))
            yield name


A, B, C = of_each_lane()


async def passes(relay: Relay, *, most: int = 200) -> int:
    """Passes until there is nothing to do at once."""
    done = 1
    while await relay._pass():
        done += 1
        assert done < most, "no end"
    return done


async def ids(database: Database) -> list[int]:
    async with database.reading() as tx:
        return [record.outbox_id for record in await outbox.pending(tx, range(outbox.SHARDS), limit=10_000)]


async def test_everything_is_published_in_order_page_by_page(database: Database) -> None:
    broker = Broker()
    await decide(database, [outcome(org, n) for n in range(7) for org in (A, B, C)])
    expected = await ids(database)
    published: list[tuple[Stream, int]] = []
    relay = relay_on(
        database, broker, Clock(), page_rows=4, on_published=lambda *told: published.append(told)
    )

    await passes(relay)

    assert numbers(Value(record) for _, record in broker.log) == {org: list(range(7)) for org in (A, B, C)}
    assert sorted(broker.sent()) == expected
    assert await pending(database) == 0
    assert sum(count for _, count in published) == relay.status().published == 21
    assert {stream for stream, _ in published} == {Stream.CREDITS}


class Value:
    """A record as `numbers` wants it."""

    def __init__(self, record: PendingRecord) -> None:
        self.value = record.value


@pytest.mark.parametrize("fault", ["before", "after"])
async def test_guarantee_3_after_a_failed_send_nothing_later_is_sent_before_its_pause_is_over(
    database: Database, fault: Fault
) -> None:
    broken = True
    broker = Broker(lambda batch: fault if broken and batch.lane == lane(A) else None)
    clock = Clock()
    failed: list[tuple[Stream, int]] = []
    relay = relay_on(database, broker, clock, on_failed=lambda *told: failed.append(told))
    await decide(database, [outcome(A, 0), outcome(B, 0)])
    first = await ids(database)

    await passes(relay)
    await decide(database, [outcome(A, 1), outcome(B, 1)])
    await passes(relay)

    assert broker.first_seen().get((Stream.CREDITS, A), []) == (first[:1] if fault == "after" else [])
    assert len(broker.first_seen()[Stream.CREDITS, B]) == 2
    assert failed == [(Stream.CREDITS, 1)]
    assert len(relay.status().troubles) == 1
    clock.now += 0.09
    await passes(relay)
    assert failed == [(Stream.CREDITS, 1)], "its pause is not over"
    assert relay.status().stalled_s == pytest.approx(0.09)

    broken = False
    clock.now += 0.02
    await passes(relay)

    assert broker.first_seen()[Stream.CREDITS, A] == sorted(broker.first_seen()[Stream.CREDITS, A])
    assert len(broker.first_seen()[Stream.CREDITS, A]) == 2
    assert await pending(database) == 0
    assert relay.status().troubles == ()


async def test_after_a_delivery_the_pauses_begin_anew(database: Database) -> None:
    broken = True
    broker = Broker(lambda _batch: "before" if broken else None)
    clock = Clock()
    failed: list[tuple[Stream, int]] = []
    relay = relay_on(database, broker, clock, on_failed=lambda *told: failed.append(told))
    await decide(database, [outcome(A, 0)])
    await passes(relay)
    broken = False
    clock.now += 0.11
    await passes(relay)
    assert (len(failed), await pending(database)) == (1, 0)

    broken = True
    await decide(database, [outcome(A, 1)])
    await passes(relay)
    clock.now += 0.11
    await passes(relay)

    assert len(failed) == 3, "a second failure in a row would have paused for twice as long"


async def test_guarantee_3_while_a_batch_is_unanswered_its_lane_sends_nothing_and_the_others_go_on(
    database: Database,
) -> None:
    broker = Broker(lambda batch: "later" if batch.lane == lane(A) else None)
    relay = relay_on(database, broker, Clock())
    await decide(database, [outcome(A, 0), outcome(B, 0)])
    await passes(relay)
    await decide(database, [outcome(A, 1), outcome(B, 1)])
    await passes(relay)

    assert set(broker.first_seen()) == {(Stream.CREDITS, B)}
    assert await pending(database) == 2

    broker.told.set()
    await passes(relay)

    assert len(broker.sent()) == len(set(broker.sent())) == 4, "nothing was sent twice"
    assert broker.first_seen()[Stream.CREDITS, A] == sorted(broker.first_seen()[Stream.CREDITS, A])
    assert await pending(database) == 0


async def test_guarantee_3_what_becomes_visible_late_goes_before_what_was_decided_after_it(
    database: Database,
) -> None:
    """Places are given before commit: row 5 may become visible behind a reader that has reached row 12."""
    broker = Broker(lambda batch: "before" if batch.lane in {lane(B), lane(C)} else None)
    b, c, early, late = await outcomes_of(database, [outcome(org, 0) for org in (B, C, A, A)])
    await put(database, [(10, B, b), (11, C, c)])
    relay = relay_on(database, broker, Clock(), page_rows=2)
    await passes(relay)
    assert broker.log == []

    read = relay._read
    pages: list[int] = []

    async def read_and_be_overtaken(after: int) -> list[PendingRecord]:
        page = await read(after)
        if not pages:
            await put(database, [(5, A, early), (12, A, late)])
        pages.append(after)
        return page

    relay._read = read_and_be_overtaken  # type: ignore[method-assign]
    await passes(relay)

    assert pages[:2] == [0, 11], "the reader has passed the place of row 5 when it meets row 12"
    assert broker.sent() == [5, 12]


async def outcomes_of(database: Database, decided: Sequence[Any]) -> list[int]:
    """Keep outcomes that are not in the outbox yet; give their numbers."""
    before = await ids(database)
    await decide(database, decided)

    async def take_out(tx: AsyncConnection) -> list[int]:
        new = outbox_table.c.outbox_id.not_in(before)
        refs = list(await tx.scalars(outbox_table.select().where(new).with_only_columns(outbox_table.c.ref)))
        await tx.execute(outbox_table.delete().where(new))
        return refs

    return await database.run(take_out)


async def put(database: Database, rows: Iterable[tuple[int, str, int]]) -> None:
    async def insert(tx: AsyncConnection) -> None:
        for outbox_id, org_id, ref in rows:
            await tx.execute(
                outbox_table.insert().values(
                    outbox_id=outbox_id, shard=shard_of(org_id), stream="credits", org_id=org_id, ref=ref
                )
            )

    await database.run(insert)


async def test_a_topic_that_is_not_there_holds_back_no_other_and_is_looked_for_again(
    database: Database,
) -> None:
    broker = Broker()
    broker.absent.add("credits")
    clock = Clock()
    relay = relay_on(database, broker, clock)
    await decide(database, [outcome(A, 0), outcome(A, 1)])
    async with database.transaction() as tx:
        await outbox.append_dead_letters(tx, [letter(1)])

    await passes(relay)
    assert broker.sent(Stream.CREDITS) == []
    assert len(broker.sent(Stream.DEAD_LETTER)) == 1
    assert relay.status().troubles == ("topic credits is not there, or may not be seen",)

    broker.absent.clear()
    clock.now += 60
    await passes(relay)
    assert numbers(Value(record) for one, record in broker.log if one.stream is Stream.CREDITS) == {A: [0, 1]}
    assert relay.status().troubles == ()


async def test_a_record_refused_for_good_leaves_the_outbox_and_holds_back_none_behind_it(
    database: Database,
) -> None:
    broker = Broker()
    broker.too_large = 3000
    refused: list[Stream] = []
    relay = relay_on(database, broker, Clock(), on_refused=refused.append)
    await decide(database, [outcome(A, n, pad=4000 if n in {2, 5} else 0) for n in range(8)])

    everything = await ids(database)
    with capture_logs() as logs:
        await passes(relay)

    assert numbers(Value(record) for _, record in broker.log) == {A: [0, 1, 3, 4, 6, 7]}
    assert refused == [Stream.CREDITS, Stream.CREDITS]
    assert relay.status().refused == 2
    assert await pending(database) == 0
    assert [line for line in logs if line["log_level"] == "error"] == [
        {
            "log_level": "error",
            "event": "record_refused",
            "outbox_id": everything[number],
            "stream": "credits",
            "topic": "credits",
            "org_id": A,
            "error": describe_error(MessageSizeTooLargeError()),
            "consequence": "not published; kept in the database",
        }
        for number in (2, 5)
    ]


async def test_a_dead_letter_refused_for_good_goes_without_its_value(database: Database) -> None:
    broker = Broker()
    broker.too_large = 3000
    refused: list[Stream] = []
    relay = relay_on(database, broker, Clock(), on_refused=refused.append)
    async with database.transaction() as tx:
        await outbox.append_dead_letters(tx, [letter(1), letter(2, value=b"x" * 4000), letter(3)])
    everything = await ids(database)

    with capture_logs() as logs:
        await passes(relay)

    assert logs == [
        {
            "log_level": "warning",
            "event": "dead_letter_value_omitted",
            "outbox_id": everything[1],
            "stream": "dead_letter",
            "topic": "dead_letter",
            "org_id": "",
            "error": describe_error(MessageSizeTooLargeError()),
        }
    ]
    found = [record for _, record in broker.log]
    assert [record.value for record in found] == [b"{", None, b"{"]
    assert found[1].headers[-1] == ("qm-value-omitted", b"true")
    assert not any(state.omit_value for state in relay._lanes.values()), "what is gone is forgotten"
    assert refused == []
    assert await pending(database) == 0


async def test_a_dead_letter_refused_even_without_its_value_leaves_the_outbox_and_is_forgotten(
    database: Database,
) -> None:
    broker = Broker()
    broker.too_large = -1
    refused: list[Stream] = []
    relay = relay_on(database, broker, Clock(), on_refused=refused.append)
    async with database.transaction() as tx:
        await outbox.append_dead_letters(tx, [letter(1)])

    with capture_logs() as logs:
        await passes(relay)

    assert [line["event"] for line in logs] == [
        "dead_letter_value_omitted",
        "dead_letter_headers_omitted",
        "record_refused",
    ]
    assert {line["outbox_id"] for line in logs} == {1}
    assert broker.log == []
    assert refused == [Stream.DEAD_LETTER]
    assert await pending(database) == 0
    [state] = relay._lanes.values()
    assert state.omit_value == state.omit_rest == set()


async def test_what_is_deleted_is_not_deleted_again(database: Database) -> None:
    relay = relay_on(database, Broker(), Clock())
    await decide(database, [outcome(A, 0)])
    await relay._pass()
    assert len(relay._done) == 1

    await relay._acknowledge()

    assert relay._done == set()
    assert await pending(database) == 0


async def test_a_spent_producer_is_replaced_once_nothing_of_it_is_in_flight(database: Database) -> None:
    broker = Broker(lambda batch: "later" if batch.lane == lane(A) else "before")
    relay = relay_on(database, broker, Clock())
    hand: Any = relay._delivery
    await decide(database, [outcome(A, 0), outcome(B, 0)])

    await relay._pass()

    assert hand.renewed == 1
    assert broker.in_flight == {lane(A): 0, lane(B): 0}, "what was unanswered was given up"
    assert await pending(database) == 2


async def test_only_what_the_broker_has_taken_leaves_the_outbox(database: Database) -> None:
    taken = 0

    def fault(batch: Batch) -> Fault:
        nonlocal taken
        taken += len(batch.records)
        return "before" if taken > 3 else None

    broker = Broker(fault)
    relay = relay_on(database, broker, Clock())
    relay._state(lane(A)).batch_bytes = 1  # a record a batch
    await decide(database, [outcome(A, n) for n in range(6)])
    everything = await ids(database)

    await passes(relay)
    await relay._acknowledge()

    assert broker.sent() == everything[:3]
    assert await ids(database) == everything[3:]


async def test_a_relay_without_leases_sends_nothing_and_still_deletes_what_it_had_sent(
    database: Database,
) -> None:
    broker = Broker()
    clock = Clock()
    first, second = relay_on(database, broker, clock), relay_on(database, broker, clock)
    await decide(database, [outcome(A, 0)])
    assert await first._pass()
    assert await second._pass() is False
    assert second.status().standing_by
    assert len(broker.log) == 1
    assert await pending(database) == 1

    clock.now += 4000  # the lease is over, by its own clock; the database gives it to nobody anew
    first._leases._token = second._leases._token  # as if another had it now
    await first._pass()
    assert await pending(database) == 0


@pytest.mark.parametrize("seed", range(4))
async def test_guarantee_3_first_appearances_stand_in_the_order_decided_whatever_the_broker_does(
    database: Database, seed: int
) -> None:
    chance = random.Random(seed)
    calm = False

    def fault(_batch: Batch) -> Fault:
        return None if calm else chance.choice(["before", "after", None, None, None])

    broker = Broker(fault)
    clock = Clock()
    relay = relay_on(database, broker, clock, page_rows=chance.choice([2, 3, 7]))
    orgs = [f"org-{n}" for n in range(6)]
    decided: dict[str, list[int]] = {org: [] for org in orgs}
    for _ in range(25):
        for _ in range(chance.randint(1, 6)):
            org = chance.choice(orgs)
            decided[org].append(len(decided[org]))
            await decide(database, [outcome(org, decided[org][-1], pad=chance.choice([0, 900]))])
        clock.now += chance.choice([0, 0.05, 1])
        await relay._pass()
        if chance.random() < 0.2:
            relay._state(lane(chance.choice(orgs))).batch_bytes = 1500
    calm = True
    while await pending(database):
        clock.now += 20
        await passes(relay)

    assert numbers(Value(record) for _, record in broker.log) == {
        org: of_org for org, of_org in decided.items() if of_org
    }
    assert len(
        {(record.outbox_id, record.key, record.value, record.headers) for _, record in broker.log}
    ) == (sum(map(len, decided.values()))), "a repeat is byte-identical"


async def test_guarantee_3_no_page_overtakes_the_one_before_it_however_soon_its_lane_is_open_again(
    database: Database,
) -> None:
    broker = Broker(
        lambda batch: "before" if batch.records[0].outbox_id == everything[0] and broken else None
    )
    clock = Clock()
    relay = relay_on(database, broker, clock, page_rows=3)
    await decide(database, [outcome(A, number) for number in range(5)])
    everything = await ids(database)
    broken = True
    read = relay._read
    pages: list[tuple[int, int]] = []

    async def read_later(after: int) -> list[PendingRecord]:
        clock.now += 10.0
        page = await read(after)
        pages.append((after, len(page)))
        return page

    relay._read = read_later  # type: ignore[method-assign]
    for _ in range(2):  # at first it is not known that nothing earlier can appear behind the first page
        await relay._pass()
    assert pages == [(0, 3), (everything[2], 2)] * 2
    assert broker.sent() == [], "what is on the second page waits for the first"

    broken = False
    await passes(relay)
    assert broker.sent() == everything


async def test_a_page_behind_what_was_just_sent_is_read_from_its_beginning(database: Database) -> None:
    """Rows that are gone are deleted with the next look, which begins anew."""
    broker = Broker()
    relay = relay_on(database, broker, Clock(), page_rows=2)
    await decide(database, [outcome(A, number) for number in range(5)])
    sizes: list[int] = []
    read = relay._read

    async def noted(after: int) -> list[PendingRecord]:
        page = await read(after)
        sizes.append(len(page))
        return page

    relay._read = noted  # type: ignore[method-assign]
    await passes(relay)
    assert sizes == [2, 2, 1, 0]


async def test_a_broker_that_is_away_is_told_until_it_is_back(database: Database) -> None:
    away = True
    broker = Broker()
    relay = relay_on(database, broker, Clock())
    await decide(database, [outcome(A, 0)])

    async def ready() -> None:
        if away:
            raise KafkaUnreachable("no broker answers")

    relay._delivery.ready = ready  # type: ignore[method-assign]
    assert not await relay._try_pass()
    assert relay.status().troubles == ("no broker answers",)
    away = False
    assert await relay._try_pass()
    assert (len(broker.log), relay.status().troubles) == (1, ())


async def test_a_topics_trouble_is_told_and_ends_with_its_next_delivery(database: Database) -> None:
    failing = {Stream.CREDITS, Stream.DEAD_LETTER}
    broker = Broker(lambda batch: "before" if batch.lane.stream in failing else None)
    clock = Clock()
    relay = relay_on(database, broker, clock)
    await decide(database, [outcome(A, 0)])
    async with database.transaction() as tx:
        await outbox.append_dead_letters(tx, [letter(1)])

    await passes(relay)
    why = describe_error(KafkaConnectionError())
    assert set(relay.status().troubles) == {f"topic credits: {why}", f"topic dead_letter: {why}"}

    failing.remove(Stream.CREDITS)
    clock.now += 1.0
    await passes(relay)
    assert relay.status().troubles == (f"topic dead_letter: {why}",)


async def handed_over(database: Database, relay: Relay, number: int) -> bytes:
    """Decide an outcome, and hand over a value that shows where it came from."""
    value = outcome(A, number, pad=10).value
    async with database.transaction() as tx:
        [at] = await outbox.append_outcomes(tx, [outcome(A, number)])
    relay.wake({at: value})
    return value


async def test_what_was_handed_over_is_sent_whether_or_not_something_is_to_be_deleted(
    database: Database,
) -> None:
    async with database.transaction():
        pass  # the connection is there before anything is handed over
    broker = Broker()
    relay = relay_on(database, broker, Clock())
    values = [await handed_over(database, relay, 0)]
    assert await relay._pass()
    assert relay._done
    values.append(await handed_over(database, relay, 1))
    await passes(relay)

    assert [record.value for _, record in broker.log] == values


async def test_what_was_handed_over_before_the_last_connection_was_opened_is_read(database: Database) -> None:
    async with database.transaction():
        pass
    broker = Broker()
    relay = relay_on(database, broker, Clock())
    await handed_over(database, relay, 0)
    await database._writer.dispose()
    await database.ping()
    async with database.transaction():
        pass  # opens a connection, to a server that may have taken over
    await passes(relay)
    value = await handed_over(database, relay, 1)
    await passes(relay)

    assert [record.value for _, record in broker.log] == [outcome(A, 0).value, value]


async def test_what_another_relay_has_published_is_no_trouble_of_ours(database: Database) -> None:
    broker = Broker(lambda _batch: "before")
    relay = relay_on(database, broker, Clock())
    await decide(database, [outcome(A, 0)])
    await passes(relay)
    assert relay.status().troubles != ()

    async with database.transaction() as tx:
        await tx.execute(outbox_table.delete())
    await passes(relay)
    assert relay.status().troubles == ()


async def test_a_lane_that_came_on_is_looked_at_again_at_once(database: Database) -> None:
    broker = Broker(lambda batch: "before" if batch.records[0].outbox_id == everything[1] else None)
    relay = relay_on(database, broker, Clock())
    relay._state(lane(A)).batch_bytes = 1
    await decide(database, [outcome(A, 0), outcome(A, 1)])
    everything = await ids(database)

    assert await relay._pass(), "the first of its batches was taken"
    assert not await relay._pass()
    assert broker.sent() == everything[:1]


async def test_a_record_without_a_key_is_refused_for_good_after_so_many_refusals_without_a_name(
    database: Database,
) -> None:
    broker = Broker(lambda _batch: "before")
    broker.error = UnknownError()
    failed: list[tuple[Stream, int]] = []
    refused: list[Stream] = []
    clock = Clock()
    relay = relay_on(
        database, broker, clock, on_failed=lambda *told: failed.append(told), on_refused=refused.append
    )
    async with database.transaction() as tx:
        await outbox.append_dead_letters(tx, [letter(1, key=None, value=None)])

    while not refused:
        await passes(relay)
        clock.now += 3600.0
    assert len(failed) == TRIES_OF_UNKNOWN
    assert refused == [Stream.DEAD_LETTER]


async def test_a_dead_letter_that_goes_without_its_headers_is_forgotten_too(database: Database) -> None:
    broker = Broker()
    relay = relay_on(database, broker, Clock())
    async with database.transaction() as tx:
        await outbox.append_dead_letters(tx, [letter(1)])
    [number] = await ids(database)
    of = Lane(Stream.DEAD_LETTER, "dead_letter", partition_of(b"k", PARTITIONS))
    relay._state(of).omit_rest.add(number)

    await passes(relay)
    assert [record.headers[-1][0] for _, record in broker.log] == ["qm-headers-omitted"]
    assert not relay._state(of).omit_rest
