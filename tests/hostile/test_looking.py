"""What upstream wrote steers no terminal and forges no line, wherever it is shown."""

import io
import json
import logging
import unicodedata
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from sqlalchemy.ext.asyncio import AsyncConnection

from consumer.__main__ import show_defect
from consumer.cli.command import CommandFailed
from consumer.cli.output import print_facts, print_json, print_table, say
from consumer.harmless import escaped, in_json, replaced
from consumer.ingest.batch import Received, RejectedRecord, apply_batch
from consumer.ingest.judging import IngestPolicy
from consumer.logging import configure_logging
from consumer.metrics import Metrics
from consumer.settings import IsolatedSettings
from schemas.dead_letters import DeadLetterReason
from schemas.decode import IncomingRecord, PassedOver, Rejected, decode
from schemas.event import InboundEvent
from schemas.outcomes import Origin
from storage import members, organizations, virtual_keys
from storage.virtual_keys import KeyState, KeyVault, NewKey
from tests.hostile.spelling import spell
from tests.integration.cli.conftest import FERNET, KEY, KEY_HASH, NOW, OWNER, PROFILE, Quartermaster

STEERING = (
    "\x00",
    "\x07",
    "\x08",
    "\x1b[2J",
    "\x1b]0;owned\x07",
    "\x7f",
    "\x9b31m",
    "\r",
    "\n",
    "\r\n2026-01-01T00:00:00Z [info] forged",
    "\u2028",
    "\u2029",
    "\x85",
    "\u202edesrever",
    "\u2066isolated",
    "\u200f",
    "\ufeff",
    "\u00ad",
    "\U000e0041",
)
EVERYTHING = "a" + "".join(STEERING) + "z"
IN_IDS = "\u202e\u2066\u200f\ufeff\u00ad\u2028\U000e0041"
"""What an id may hold: all but category Cc."""


def steering(text: str, *, lines: bool = True) -> set[str]:
    """What of a text steers something; ends of lines of our own making do not."""
    found = {
        character
        for character in text
        if unicodedata.category(character) in {"Cc", "Cf", "Cs", "Zl", "Zp"}
        and character not in "\u200c\u200d"
    }
    return found - {"\n"} if lines else found


# -- text -------------------------------------------------------------------------------------------------


@given(st.text())
def test_nothing_is_left_that_steers(text: str) -> None:
    assert not steering(escaped(text), lines=False)
    assert not steering(replaced(text), lines=False)
    assert not steering(escaped(text, keep="\n"))


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_json_means_the_same(text: str) -> None:
    document = {text: [text, 1, None]}
    shown = in_json(json.dumps(document, ensure_ascii=False, indent=2))
    assert json.loads(shown) == document
    assert not steering(shown)


@pytest.mark.parametrize(
    "text",
    ["plain", "Zoë", "名前", "👩\u200d🚀", "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "\u00a0"],
)
def test_what_people_write_stays(text: str) -> None:
    assert escaped(text) == replaced(text) == in_json(text) == text


# -- logs -------------------------------------------------------------------------------------------------


@pytest.fixture
def restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    logging.captureWarnings(capture=False)
    root.handlers = handlers
    root.setLevel(level)
    structlog.reset_defaults()


class Odd:
    def __repr__(self) -> str:
        return EVERYTHING


@pytest.mark.usefixtures("restored")
@pytest.mark.parametrize("style", ["json", "console"])
def test_every_line_of_the_log_is_one_of_ours(style: str) -> None:
    stream = io.StringIO()
    configure_logging(IsolatedSettings.model_validate({"log_format": style}), stream=stream)
    log = structlog.get_logger("test")

    log.info("told", value=EVERYTHING, nested={EVERYTHING: [EVERYTHING]}, odd=Odd(), **{EVERYTHING: 1})
    log.warning(EVERYTHING)
    logging.getLogger("aiokafka").error("no topic %s", EVERYTHING)
    try:
        try:
            raise ValueError(EVERYTHING)  # noqa: TRY301
        except ValueError as cause:
            raise RuntimeError(EVERYTHING) from cause
    except RuntimeError:
        log.exception("failed", about=EVERYTHING)
        logging.getLogger("asyncio").exception("Task exception was never retrieved")

    text = stream.getvalue()
    assert not steering(text)
    lines = text.splitlines()
    if style == "json":
        told = [json.loads(line) for line in lines]
        assert len(told) == 5
        assert told[0]["value"] == told[1]["event"] == EVERYTHING
        assert told[0]["nested"] == {EVERYTHING: [EVERYTHING]}
    else:
        # A line that begins a new entry begins with a time; all others are indented.
        assert sum(line.startswith("20") for line in lines) == 5
        assert all(line.startswith(("20", "    ")) for line in lines)


def test_a_defect_is_printed_without_what_it_quotes_steering_anything(
    capsys: pytest.CaptureFixture[str],
) -> None:
    error = RuntimeError(EVERYTHING)
    show_defect(RuntimeError, error, None)
    assert not steering(capsys.readouterr().err)


def test_a_metric_shows_a_types_name_without_its_controls() -> None:
    metrics = Metrics(CollectorRegistry())
    metrics.passed_over(PassedOver("unknown_type", EVERYTHING))
    assert not steering(generate_latest(metrics.registry).decode())


# -- commands ---------------------------------------------------------------------------------------------


def test_nothing_that_is_printed_steers(capsys: pytest.CaptureFixture[str]) -> None:
    say(EVERYTHING)
    print_facts([("name", EVERYTHING)])
    print_table(("name", "other"), [(EVERYTHING, 1)], title=EVERYTHING)
    print_json({EVERYTHING: EVERYTHING})
    CommandFailed(EVERYTHING).show()
    shown = capsys.readouterr()
    assert not steering(shown.out)
    assert not steering(shown.err)


ORG, USER, JOB = f"org{IN_IDS}x", f"user{IN_IDS}x", f"job{IN_IDS}x"
SOURCE, ID = f"/source{EVERYTHING[2:]}", f"id{EVERYTHING[2:]}"  # U+0000 can't be in an event
POLICY = IngestPolicy(our_source="/q", credits_per_job=0, dependency_wait=PROFILE.provisioned_at - NOW)

Write = Callable[[Callable[[AsyncConnection], Awaitable[Any]]], Any]


@pytest.fixture
def hostile(write: Write) -> None:
    """An organization whose every text is hostile: a member, a charged job, a user who waits."""

    async def work(tx: AsyncConnection) -> None:
        state = (await organizations.lock(tx, [ORG]))[ORG]
        profile = replace(
            PROFILE, org_id=ORG, name=EVERYTHING[2:], owner_user_id=USER, models=(EVERYTHING[2:],)
        )
        state = await organizations.activate(tx, state, profile)
        await members.add(tx, replace(OWNER, org_id=ORG, user_id=USER))
        key = NewKey(
            key_hash=KEY_HASH,
            org_id=ORG,
            user_id=USER,
            name="default",
            generation=1,
            alias="qm-1",
            ciphertext=KeyVault([FERNET]).encrypt(KEY),
            made_by=next(iter(_events())).event.identity,
            created_at=NOW,
        )
        await virtual_keys.intend(tx, key)
        await virtual_keys.mark(tx, KEY_HASH, KeyState.LIVE)
        await apply_batch(
            tx, list(_events()), [_refused()], policy=POLICY, origin=Origin.LIVE, now=datetime.now(UTC)
        )

    write(work)


def _refused() -> RejectedRecord:
    """A dead letter whose every part is hostile."""
    value = spell({EVERYTHING[2:]: EVERYTHING[2:], "specversion": "1.0"})
    raw = EVERYTHING.encode()
    record = IncomingRecord("in", 0, 9, 0, raw, value, ((EVERYTHING, raw), (f"{EVERYTHING}2", b"\xff\x1b")))
    refused = Rejected(DeadLetterReason.INVALID_ENVELOPE, "type: is required", ID, SOURCE, EVERYTHING[2:])
    return RejectedRecord(refused, record)


def _events() -> Iterator[Received]:
    for number, (type_, data) in enumerate(
        (
            (
                "job.completed",
                {"org_id": ORG, "job_id": JOB, "status": "completed", "job_type": EVERYTHING[2:]},
            ),
            ("user.joined", {"org_id": ORG, "user_id": USER}),
        )
    ):
        envelope = {
            "specversion": "1.0",
            "id": f"{ID}{number}",
            "source": SOURCE,
            "type": type_,
            "data": data,
        }
        record = IncomingRecord("in", 0, number, 0, None, spell(envelope), ())
        event = decode(record, max_bytes=10_000)
        assert isinstance(event, InboundEvent), event
        yield Received(event, record)


@pytest.mark.usefixtures("hostile")
@pytest.mark.parametrize("as_json", [False, True], ids=["text", "json"])
@pytest.mark.parametrize(
    ("command", "told"),
    [
        (("org", "show", ORG), (ORG, USER, SOURCE, f"{ID}1")),
        (("org", "list"), (ORG,)),
        (("dead-letters", "list"), (ID, SOURCE, EVERYTHING[2:])),
        (("dead-letters", "show", "1"), (EVERYTHING, ID, SOURCE)),
        (("job", "show", ORG, JOB), (ORG, JOB, SOURCE, f"{ID}0")),
        (("ledger", "show", ORG), (JOB, SOURCE, f"{ID}0")),
        (("ledger", "verify"), ()),
        (("keys", "show", ORG, USER), (ORG, USER)),
        (("keys", "show", ORG), (ORG, USER)),
        (
            ("credits", "add", ORG, "5", "--reason", f"r{IN_IDS}x", "--id", f"i{IN_IDS}x"),
            (ORG, f"r{IN_IDS}x"),
        ),
    ],
    ids=lambda value: (
        "-".join(value[:2]) if value and isinstance(value[0], str) and value[0].islower() else ""
    ),
)
def test_commands_show_hostile_ids_without_being_steered(
    quartermaster: Quartermaster, command: tuple[str, ...], told: tuple[str, ...], *, as_json: bool
) -> None:
    answer = quartermaster(*command, *(["--json"] * as_json))
    assert answer.code == 0, answer
    assert not steering(answer.out)
    assert not answer.err
    if as_json:
        texts = list(_texts(answer.json))
        assert all(one in texts for one in told)


@pytest.mark.usefixtures("hostile")
@pytest.mark.parametrize(
    "command",
    [
        ("org", "show", f"absent{IN_IDS}x"),
        ("job", "show", ORG, f"absent{IN_IDS}x"),
        ("ledger", "show", f"absent{IN_IDS}x"),
        ("keys", "show", ORG, f"absent{IN_IDS}x"),
        ("credits", "add", f"absent{IN_IDS}x", "5", "--reason", "r", "--id", "i"),
    ],
    ids=lambda command: "-".join(command[:2]),
)
def test_what_is_not_there_is_told_without_being_steered(
    quartermaster: Quartermaster, command: tuple[str, ...]
) -> None:
    answer = quartermaster(*command)
    assert answer.code == 1
    assert not answer.out
    assert not steering(answer.err)


@pytest.mark.usefixtures("hostile")
def test_a_dead_letter_that_is_still_bad_is_told_without_steering(quartermaster: Quartermaster) -> None:
    answer = quartermaster("dead-letters", "redrive", "--all")
    assert answer.code == 1
    assert not steering(answer.out + answer.err)


def test_publish_names_bad_lines_without_being_steered(quartermaster: Quartermaster) -> None:
    bad = [
        {"type": EVERYTHING[2:], "data": {}},
        {"type": "job.completed", "data": {EVERYTHING[2:]: 1, "org_id": EVERYTHING[2:]}},
        {"type": "job.completed", EVERYTHING[2:]: 1, "data": {"org_id": ["\u202e"]}},
        {"specversion": "\u202e", "type": "job.completed", "id": EVERYTHING[2:], "data": None},
    ]
    raw = [
        b'{"\x1b[2J\\u202e": 1, "\x1b[2J\\u202e": 1}',
        b'{"a\\u0000": tru\x1b}',
        "{\u202e}".encode(),
        b"\x1b[2J",
    ]
    lines = b"\n".join([*map(spell, bad), *raw])
    answer = quartermaster("publish", "-", "--dry-run", stdin=lines.decode())
    assert answer.code == 1
    assert len(answer.err.splitlines()) == 9
    assert not steering(answer.err)


@pytest.mark.usefixtures("hostile")
def test_the_doctor_is_not_steered_by_a_setting(
    quartermaster: Quartermaster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QM_KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1\u202e")
    monkeypatch.setenv("QM_LITELLM_URL", "http://127.0.0.1:1/\u202e")
    monkeypatch.setenv("QM_LITELLM_MASTER_KEY", "sk-1234")
    answer = quartermaster("doctor")
    assert answer.code == 1
    assert not steering(answer.out + answer.err)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        value = [*value, *value.values()]
    if isinstance(value, list):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, str):
        yield value
