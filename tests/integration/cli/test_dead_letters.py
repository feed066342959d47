"""Dead letters at the operator's desk: found, looked at, mended and sent through again."""

import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from consumer.ingest.batch import dead_letter_of
from schemas.dead_letters import DeadLetterReason
from schemas.decode import IncomingRecord, Rejected
from schemas.outcomes import Origin
from schemas.timestamps import format_rfc3339
from storage import outbox
from storage.dead_letters import DeadLetter
from tests.integration.cli.conftest import NOW, Quartermaster

AT = format_rfc3339(NOW)

Write = Callable[[Callable[[AsyncConnection], Awaitable[Any]]], Any]


def event(job_id: str, *, id_: str = "e-7", status: str = "completed") -> bytes:
    data = {"org_id": "acme", "job_id": job_id, "status": status}
    envelope = {"specversion": "1.0", "id": id_, "source": "/up", "type": "job.completed", "data": data}
    return json.dumps(envelope).encode()


def dead(offset: int, value: bytes | None, reason: str = "invalid_data", **given: Any) -> DeadLetter:
    record = IncomingRecord(
        "job.completed", 3, offset, 1_772_366_400_000, b"acme", value, (("trace", b"\xff"), ("tenant", b"a"))
    )
    refused = Rejected(
        DeadLetterReason(reason), "data.status: must be one of ...", "e-7", "/up", "job.completed"
    )
    return replace(dead_letter_of(record, refused, origin=Origin.LIVE, now=NOW), **given)


@pytest.fixture
def letters(write: Write, acme: None) -> None:
    """Four dead letters, numbered 1 to 4: mendable, of another topic, binary, and a value known by now."""

    async def work(tx: AsyncConnection) -> None:
        for letter in (
            dead(1, event("job-7", status="done\x1b[2J")),
            dead(2, b"{", "invalid_json", topic="org.created", dead_lettered_at=NOW + timedelta(days=1)),
            dead(3, b"\xff\x00\x01" * 2000, "invalid_json", key=None),
            dead(4, event("job-1", id_="e-new")),
        ):
            await outbox.append_dead_letters(tx, [letter])

    write(work)


pytestmark = pytest.mark.usefixtures("letters")


def ids(quartermaster: Quartermaster, *arguments: str) -> list[int]:
    answer = quartermaster("dead-letters", "list", *arguments, "--json")
    assert answer.code == 0, answer.err
    return [one["id"] for one in answer.json]


def test_they_are_listed_as_the_contract_says(quartermaster: Quartermaster) -> None:
    first = quartermaster("dead-letters", "list", "--limit", "1", "--json").json[0]

    assert {name: first[name] for name in ("id", "reason", "error", "topic", "partition", "offset")} == {
        "id": 1,
        "reason": "invalid_data",
        "error": "data.status: must be one of ...",
        "topic": "job.completed",
        "partition": 3,
        "offset": 1,
    }
    assert first["redriven"] is False
    assert (first["event_id"], first["dead_lettered_at"], first["redriven_at"]) == ("e-7", AT, None)


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ((), [1, 2, 3, 4]),
        (("--reason", "invalid_json"), [2, 3]),
        (("--topic", "job.completed"), [1, 3, 4]),
        (("--reason", "invalid_json", "--topic", "job.completed"), [3]),
        (("--org", "acme"), [1, 2, 4]),
        (("--since", "2026-03-02"), [2]),
        (("--until", "2026-03-02T00:00:00Z"), [1, 3, 4]),
        (("--after", "2"), [3, 4]),
        (("--after", "1", "--limit", "2"), [2, 3]),
        (("--redriven",), []),
        (("--all",), [1, 2, 3, 4]),
    ],
)
def test_they_are_found_by_what_is_known_of_them(
    quartermaster: Quartermaster, arguments: tuple[str, ...], found: list[int]
) -> None:
    assert ids(quartermaster, *arguments) == found


def test_people_see_how_to_go_on(quartermaster: Quartermaster) -> None:
    answer = quartermaster("dead-letters", "list", "--limit", "2")
    assert "--after 2 goes on" in answer.out
    assert "job.completed" in answer.out
    assert "goes on" not in quartermaster("dead-letters", "list", "--limit", "4").out
    assert "no dead letters like that" in quartermaster("dead-letters", "list", "--after", "4").out


def test_they_are_counted_by_reason_and_topic(quartermaster: Quartermaster) -> None:
    assert quartermaster("dead-letters", "list", "--counts", "--json").json == [
        {"reason": "invalid_data", "topic": "job.completed", "count": 2, "oldest": AT},
        {"reason": "invalid_json", "topic": "job.completed", "count": 1, "oldest": AT},
        {
            "reason": "invalid_json",
            "topic": "org.created",
            "count": 1,
            "oldest": format_rfc3339(NOW + timedelta(days=1)),
        },
    ]
    assert "4 in all" in quartermaster("dead-letters", "list", "--counts").out
    assert "no dead letters" in quartermaster("dead-letters", "list", "--counts", "--redriven").out


def test_one_is_shown_readable_and_harmless(quartermaster: Quartermaster) -> None:
    out = quartermaster("dead-letters", "show", "1").out

    assert "\x1b" not in out
    assert '"job_id": "job-7"' in out
    assert "\\u001b[2J" in out
    assert "0xff" in out
    assert "partition      3" in out


def test_one_that_is_no_text_is_cut_with_a_word_about_the_rest(quartermaster: Quartermaster) -> None:
    short, full = (
        quartermaster("dead-letters", "show", "3").out,
        quartermaster("dead-letters", "show", "3", "--full").out,
    )

    assert "value, 6000 bytes, not UTF-8, in hexadecimal:" in short
    assert "dead-letters show 3 --full" in short
    assert "cut" not in full
    assert len(full.splitlines()) > len(short.splitlines()) + 300


def test_programs_get_it_whole(quartermaster: Quartermaster) -> None:
    shown = quartermaster("dead-letters", "show", "1", "--json").json
    assert json.loads(shown["value"])["data"]["status"] == "done\x1b[2J"
    assert shown["headers"] == [
        {"name": "trace", "value": None, "value_hex": "ff"},
        {"name": "tenant", "value": "a"},
    ]
    assert shown["key"] == "acme"
    assert quartermaster("dead-letters", "show", "3", "--json").json["value_hex"] == "ff0001" * 2000


def test_the_very_bytes_come_out(quartermaster: Quartermaster, tmp_path: Path) -> None:
    assert quartermaster("dead-letters", "show", "1", "--raw").raw == event("job-7", status="done\x1b[2J")
    answer = quartermaster("dead-letters", "show", "3", "--output", "value.bin")
    assert answer.out == "6000 bytes written to value.bin.\n"
    assert (tmp_path / "value.bin").read_bytes() == b"\xff\x00\x01" * 2000
    missing = quartermaster("dead-letters", "show", "3", "--output", "no/such/folder")
    assert (missing.code, missing.err) == (
        1,
        "Error: no/such/folder can't be written: No such file or directory\n",
    )


def test_one_is_mended_and_charged_once(quartermaster: Quartermaster, tmp_path: Path) -> None:
    (tmp_path / "mended.json").write_bytes(event("job-7"))

    bad = quartermaster("dead-letters", "redrive", "1")
    assert bad.code == 1
    assert "1 still bad" in bad.out
    assert "dead letter 1: invalid_data: data.status: must be one of" in bad.err
    assert "dead-letters redrive ID --value FILE" in bad.err

    dry = quartermaster("dead-letters", "redrive", "1", "--value", "mended.json", "--dry-run", "--json").json
    assert (dry["dry_run"], dry["applied"], dry["redriven"]) == (True, 1, 0)
    assert 1 in ids(quartermaster)

    done = quartermaster("dead-letters", "redrive", "1", "--value", "mended.json")
    assert (done.code, done.out) == (0, "1 taken\n")
    assert quartermaster("job", "show", "acme", "job-7", "--json").json["credits"] == 1
    assert ids(quartermaster) == [2, 3, 4]
    assert ids(quartermaster, "--redriven") == [1]

    again = quartermaster("dead-letters", "redrive", "1", "--value", "mended.json")
    assert again.code == 1
    assert "it is not sent a second time" in again.err
    assert quartermaster("org", "show", "acme", "--json").json["credits_balance"] == 8


def test_a_mended_value_comes_from_a_pipe_too(quartermaster: Quartermaster) -> None:
    answer = quartermaster("dead-letters", "redrive", "1", "--value", "-", stdin=event("job-7").decode())
    assert (answer.code, answer.out) == (0, "1 taken\n")


def test_all_are_sent_through_and_what_is_still_bad_stays(quartermaster: Quartermaster) -> None:
    dry = quartermaster("dead-letters", "redrive", "--all", "--dry-run", "--json")
    assert (dry.code, dry.json["applied"], dry.json["still_bad"]) == (1, 1, 3)

    answer = quartermaster("dead-letters", "redrive", "--all", "--json")

    assert answer.code == 1
    assert answer.json == {
        "dry_run": False,
        "redriven": 1,
        "applied": 1,
        "duplicate": 0,
        "passed_over": 0,
        "still_bad": 3,
        "gone": 0,
        "bad": [
            {"id": 1, "reason": "invalid_data", "error": answer.json["bad"][0]["error"]},
            {"id": 3, "reason": "invalid_json", "error": answer.json["bad"][1]["error"]},
            {"id": 2, "reason": "invalid_json", "error": answer.json["bad"][2]["error"]},
        ],
    }
    assert ids(quartermaster, "--all") == [1, 2, 3, 4]
    assert ids(quartermaster) == [1, 2, 3]
    # The job was charged before, by another event: that is what its outcome says.
    assert quartermaster("org", "show", "acme", "--json").json["credits_balance"] == 9


def test_conditions_say_which_are_sent(quartermaster: Quartermaster) -> None:
    answer = quartermaster("dead-letters", "redrive", "--reason", "invalid_json", "--topic", "org.created")
    assert answer.code == 1
    assert "dead letter 2" in answer.err
    none = quartermaster("dead-letters", "redrive", "--all", "--topic", "nowhere")
    assert (none.code, none.out) == (0, "There are no dead letters like that to be sent through.\n")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("redrive",), "give the ID of one dead letter, or --all"),
        (("redrive", "1", "--all"), "an ID excludes --all"),
        (("redrive", "1", "--reason", "invalid_json"), "an ID excludes --all"),
        (("redrive", "--all", "--value", "-"), "--value mends one dead letter: give its ID"),
        (("redrive", "x"), "is not a valid integer"),
        (("redrive", "1", "--value", "/no/such/file"), "No such file"),
        (("list", "--redriven", "--all"), "exclude each other"),
        (("list", "--reason", "bad"), "is not one of"),
        (("list", "--since", "yesterday"), "must be a date (2026-03-01) or a time"),
        (("list", "--since", "2026-02-30"), "must be a date (2026-03-01) or a time"),
        (("show", "0"), "is not in the range"),
        (("show", str(2**63)), "is not in the range"),
        (("show", "1", "--raw", "--json"), "--json excludes"),
    ],
)
def test_wrong_use_is_said(quartermaster: Quartermaster, arguments: tuple[str, ...], line: str) -> None:
    answer = quartermaster("dead-letters", *arguments)
    assert answer.code == 2
    assert line in answer.err


@pytest.mark.parametrize("command", [("show", "99"), ("redrive", "99")])
def test_one_that_is_not_there_says_where_to_look(
    quartermaster: Quartermaster, command: tuple[str, ...]
) -> None:
    answer = quartermaster("dead-letters", *command)
    assert (answer.code, answer.out) == (1, "")
    assert "there is no dead letter 99: `quartermaster dead-letters list --all`" in answer.err


def test_one_without_a_value_says_so(quartermaster: Quartermaster, write: Write) -> None:
    write(lambda tx: outbox.append_dead_letters(tx, [dead(9, None, "too_large")]))

    assert "no value" in quartermaster("dead-letters", "show", "5").out
    assert "has no value" in quartermaster("dead-letters", "show", "5", "--raw").err
    redriven = quartermaster("dead-letters", "redrive", "5")
    assert redriven.code == 1
    assert "was too large to be kept" in redriven.err


def test_more_than_a_page_is_listed_and_sent_through(quartermaster: Quartermaster, write: Write) -> None:
    async def many(tx: AsyncConnection) -> None:
        unknown = b'{"specversion":"1.0","type":"other","id":"%d","source":"/up","data":{}}'
        await outbox.append_dead_letters(tx, [dead(n, unknown % n, topic="many") for n in range(1_201)])

    write(many)

    assert len(ids(quartermaster)) == 1_205
    assert len(ids(quartermaster, "--limit", "700")) == 700
    answer = quartermaster("dead-letters", "redrive", "--topic", "many", "--json")
    assert (answer.code, answer.json["passed_over"]) == (0, 1_201)
    assert len(ids(quartermaster)) == 4
