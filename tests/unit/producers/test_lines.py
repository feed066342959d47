import io
import json
from datetime import UTC, datetime
from itertools import count

import pytest

from producers.envelope import ReadyEvent
from producers.lines import BadLines, bounded, read_lines
from schemas.events import EventType

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
JOB = {"job_id": "j1", "org_id": "acme", "status": "completed"}


def read(*lines: str | bytes, max_bytes: int = 2000) -> list[ReadyEvent]:
    numbers = count(1)
    return read_lines(
        [line if isinstance(line, bytes) else line.encode() + b"\n" for line in lines],
        new_id=lambda: f"id-{next(numbers)}",
        now=lambda: NOW,
        max_bytes=max_bytes,
    )


def cloud_event(**changes: object) -> str:
    event = {"specversion": "1.0", "id": "e1", "source": "/up", "type": "job.completed", "data": JOB}
    return json.dumps({**event, **changes})


def test_a_short_form_is_completed() -> None:
    (ready,) = read(json.dumps({"type": "job.completed", "data": JOB}))

    assert json.loads(ready.value) == {
        "specversion": "1.0",
        "id": "id-1",
        "source": "/quartermaster/publish",
        "time": "2026-01-02T03:04:05.000000Z",
        "type": "job.completed",
        "data": JOB,
    }
    assert (ready.type, ready.key) == (EventType.JOB_COMPLETED, b"acme")


def test_a_short_form_keeps_what_it_gives() -> None:
    (ready,) = read(
        json.dumps({"type": "job.completed", "id": "mine", "source": "/mine", "time": None, "data": JOB})
    )

    assert (ready.event.source, ready.event.id) == ("/mine", "mine")


def test_a_cloud_event_goes_out_byte_for_byte() -> None:
    line = cloud_event(extra=[1.50]).replace(",", " ,\t")
    (ready,) = read(line + "\r")

    assert ready.value == line.encode()


def test_numbers_of_a_short_form_keep_their_digits() -> None:
    (ready,) = read('{"type":"org.created","data":{"org_id":"a","name":"A","owner_user_id":"o","x":2.50}}')

    assert b'"x":2.50' in ready.value


def test_blank_lines_and_a_byte_order_mark_are_passed_over() -> None:
    assert len(read(b"\xef\xbb\xbf" + cloud_event().encode(), "", "  \t", cloud_event(id="e2"))) == 2


def test_the_same_event_twice_is_no_mistake() -> None:
    assert len(read(cloud_event(), cloud_event())) == 2


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("{", "EOF while parsing an object at line 1 column 1"),
        ("[]", "must be one JSON object"),
        ('{"type":"job.completed","type":"x"}', None),
        (b'{"type":"\xff"}', None),
        (cloud_event(type="job.started"), "type: must be one of org.created, user.joined, job.completed"),
        (cloud_event(specversion="0.3"), 'invalid_envelope: specversion: must be "1.0"'),
        (cloud_event(id=""), "invalid_envelope: id: must be a string of 1 to 512 characters"),
        (cloud_event(data=None), "invalid_envelope: data: must be a JSON object"),
        (cloud_event(data={**JOB, "credits": 1}), None),
        ('{"type":"job.completed","data":{"org_id":"acme"}}', None),
        ('{"data":{}}', "invalid_envelope: type: is required and must be a string"),
        (cloud_event(extra="x" * 2000), None),
    ],
)
def test_a_bad_line_is_named(line: str | bytes, error: str | None) -> None:
    with pytest.raises(BadLines) as caught:
        read(cloud_event(), "", line, cloud_event(id="e3"))

    (bad,) = caught.value.lines
    assert bad.number == 3
    if error is not None:
        assert bad.error == error
        assert str(caught.value) == f"line 3: {error}"


def test_every_bad_line_is_named() -> None:
    with pytest.raises(BadLines) as caught:
        read("nonsense", cloud_event(), "[]")

    assert [bad.number for bad in caught.value.lines] == [1, 3]


def test_one_identity_with_two_sets_of_data_is_a_mistake() -> None:
    with pytest.raises(BadLines, match="line 2: id_conflict: the source and id of line 1 with other data"):
        read(cloud_event(), cloud_event(data={**JOB, "job_id": "j2"}))


def test_an_error_repeats_no_value() -> None:
    with pytest.raises(BadLines) as caught:
        read(cloud_event(data={**JOB, "status": "s3cret"}), '{"type": "s3cret"', cloud_event(type="s3cret"))

    assert "s3cret" not in str(caught.value)


class Counting(io.BytesIO):
    """A file that notes the longest piece it was asked for."""

    longest = 0

    def readline(self, size: int | None = -1, /) -> bytes:
        assert size is not None
        assert size >= 0
        self.longest = max(self.longest, size)
        return super().readline(size)


def test_a_line_without_end_is_never_held_in_memory() -> None:
    file = Counting(b"a" * 9 + b"\n" + b"b" * 10 + b"\n" + b"c" * 1000 + b"\n" + b"d" * 10)
    assert list(bounded(file, 10)) == [b"aaaaaaaaa\n", None, None, b"dddddddddd"]
    assert file.longest == 11
    assert list(bounded(io.BytesIO(b"e" * 11), 10)) == [None]
    assert list(bounded(io.BytesIO(b""), 10)) == []


def test_a_line_too_long_is_named() -> None:
    with pytest.raises(BadLines, match="line 2: too_large: the line is longer than the 2000 bytes allowed"):
        read_lines([cloud_event().encode(), None], new_id=str, now=lambda: NOW, max_bytes=2000)
