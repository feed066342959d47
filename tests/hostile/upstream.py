"""An upstream gone wrong: valid events of the three types, and everything that can be done to them.

All of it follows from one seed. What a record is meant to be is not said: that is the reference's to tell.
"""

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from tests.hostile.spelling import Loose, Members, Raw, spell

Header = tuple[str, bytes | None]

MAX_BYTES = 32_768
"""The size limit of a run: small, so that its bounds cost little."""

ACTIVE = (
    *(f"active-{number}" for number in range(30)),
    "a" * 255,
    "😀" * 255,
    "../../admin?x=1#y%2f@evil",
    "\u202eevil\u2066",
    "e\u0301",
    "\u00e9",
    "' or 1=1; drop table ledger_entries --",
    "{{7*7}} $(id) `id` \\u0000 %00",
    "\ufeff\u2028\u2029",
    "\U000e0001\uffff\U0010ffff",
)
"""Organizations that a run makes active before the first event."""

_TYPES = ("org.created", "user.joined", "job.completed", "job.completed", "job.completed")
_LENGTHS = (0, 1, 2, 254, 255, 256, 319, 320, 321, 499, 500, 501, 511, 512, 513, 1024, 1025)
_LETTERS = ("x", "é", "😀", "\u202e", " ", "\u00a0", "\u2028", "'")
_STRINGS = (
    "",
    " ",
    "a ",
    " a",
    "\t",
    "a\nb",
    "a\x7fb",
    "a\x9fb",
    "a\u00adb",
    "\x1b[2J\x1b]0;owned\x07",
    "\r\nHTTP/1.1 200 OK\r\n",
    "\u202e\u2066\u2028",
    "\ufeff",
    "null",
    "1.0",
    "completed",
    "COMPLETED",
    "member",
    "owner",
    "org.created",
    "../..//evil?#%2f@x",
    "__proto__",
    "a\\u0000b",
)
_TIMES = (
    "2026-01-02T03:04:05Z",
    "2026-01-02t03:04:05.123456789z",
    "2026-06-30T23:59:60Z",
    "2024-02-29T00:00:00+23:59",
    "2023-02-29T00:00:00Z",
    "0000-02-29T00:00:00Z",
    "0000-01-01T00:00:00-23:59",
    "9999-12-31T23:59:60-23:59",
    "2026-01-02 03:04:05Z",
    "2026-01-02T03:04:05",
    "2026-01-02T24:00:00Z",
    "2026-13-02T03:04:05Z",
    "2026-01-32T03:04:05Z",
    "2026-01-02T03:04:61Z",
    "2026-01-02T03:60:05Z",
    "2026-01-02T03:04:05+24:00",
    "2026-01-02T03:04:05.Z",
    "\u0662\u0660\u0662\u0666-01-02T03:04:05Z",
    "2026-01-02T03:04:05Z\n",
    "yesterday",
    "2026-01-02T03:04:05." + "1" * 234 + "Z",
    "2026-01-02T03:04:05." + "1" * 235 + "Z",
)
_INTEGERS = (0, 1, -1, 5, 2**31, 2**53 - 1, 2**53, -(2**53), 2**63, -(2**63) - 1, 2**64, 10**30)
_NUMBERS = (
    b"-0",
    b"0.0",
    b"-0.0",
    b"1.0",
    b"1e0",
    b"0e5",
    b"25.50",
    b"1.5e3",
    b"1E-12",
    b"1E-13",
    b"1e11",
    b"1e12",
    b"999999999999.999999999999",
    b"9999999999999",
    b"0.0000000000001",
    b"-1.5",
    b"1e999999",
    b"-1e-999999",
    b"1e999999999999999999",
    b"1e9999999999999999999999",
    b"0e9999999999999999999999",
    b"9007199254740991",
    b"9007199254740992",
    b"9007199254740991.0",
    b"18446744073709551616",
    b"1" * 4300,
    b"1" * 4301,
    b"1." + b"1" * 5000,
    b"01",
    b"+1",
    b".5",
    b"1.",
    b"1e",
    b"0x10",
    b"NaN",
    b"Infinity",
    b"-Infinity",
    b"-",
    b"1_000",
)
_AMOUNTS = (
    "25.00",
    "0",
    "-0",
    "-0.00",
    "-0.01",
    "1" * 12 + "." + "1" * 12,
    "1" * 13,
    "1." + "1" * 13,
    "1e3",
    "+1",
    ".5",
    "1.",
    " 1",
    "1\n",
    "NaN",
    "\u0661",
    "",
)
_BROKEN_TEXT = (
    b'"\\u0000"',
    b'"\\\\\\u0000"',
    b'"\\\\u0000"',
    b'"\\ud800"',
    b'"\\udc00\\ud800"',
    b'"\\ud83d\\ude00"',
    b'"\xff"',
    b'"\xc0\x80"',
    b'"\xed\xa0\x80"',
    b'"\xf4\x90\x80\x80"',
    b'"a\x00b"',
    b'"a\nb"',
    b'"\x7f"',
    b'"\\x41"',
    b'"\\u12"',
    b'"open',
    b"'a'",
    b"tru",
    b"nul",
    b"undefined",
    b"// c",
    b"/* */1",
    b"",
)
_UNKNOWN_TYPES = (
    "org.provisioned",
    "credits.deducted",
    "org.deleted",
    "",
    "ORG.CREATED",
    "org.created ",
    "x" * 600,
    "\x1b[31m\n",
)
_NAMES = (
    "org_id",
    "name",
    "owner_user_id",
    "owner_email",
    "initial_credits",
    "max_budget_usd",
    "models",
    "metadata",
    "user_id",
    "email",
    "role",
    "job_id",
    "job_type",
    "status",
    "usage",
    "started_at",
    "completed_at",
    "error_message",
    "team_id",
    "model_groups",
    "billing",
    "limits",
    "credits",
    "unheard_of",
)
_COUNTS = (
    "total_calls",
    "successful_calls",
    "failed_calls",
    "prompt_tokens",
    "completion_tokens",
    "total_tokens",
)
_STRUCTURED: Header = ("content-type", b"application/cloudevents+json")


@dataclass(slots=True)
class Draft:
    """An event on its way to becoming a record."""

    attributes: dict[str, object]
    data: Any
    headers: list[Header] = field(default_factory=list)
    binary: bool = False


@dataclass(frozen=True, slots=True)
class Sent:
    """A record as a producer hands it over."""

    key: bytes | None
    value: bytes | None
    headers: tuple[Header, ...]
    timestamp_ms: int = 1_700_000_000_000


Mutation = Callable[["Upstream", Draft], None]


class Upstream:
    """Draws records, one after another, from a seed."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        self._recent: deque[Draft] = deque(maxlen=3000)
        self._sent: deque[Sent] = deque(maxlen=3000)
        self._number = 0

    def next(self) -> Sent:
        """Draw the next record."""
        roll = self._chance.random()
        if roll < 0.06 and self._sent:
            record = self._chance.choice(self._sent)
        elif roll < 0.14 and self._recent:
            record = self._encode(self._again())
        elif roll < 0.20 and self._sent:
            record = self._damaged(self._chance.choice(self._sent))
        elif roll < 0.21:
            record = self._nothing_like_it()
        else:
            record = self._encode(self._new(roll))
        self._sent.append(record)
        return record

    # -- events -------------------------------------------------------------------------------------------

    def _new(self, roll: float) -> Draft:
        draft = self._valid()
        self._recent.append(draft)
        if roll > 0.55:
            return draft
        mutated = Draft(dict(draft.attributes), _copied(draft.data), list(draft.headers), draft.binary)
        for _ in range(self._chance.choice((1, 1, 1, 2, 4))):
            self._chance.choices(_MUTATIONS, _WEIGHTS)[0](self, mutated)
        return mutated

    def _valid(self) -> Draft:
        chance = self._chance
        self._number += 1
        type_ = chance.choice(_TYPES)
        attributes: dict[str, object] = {
            "specversion": "1.0",
            "id": f"evt-{self._number}",
            "source": chance.choices(("/jobs", "urn:x:\x1b[0m", "s" * 512), (20, 5, 1))[0],
            "type": type_,
        }
        if chance.random() < 0.8:
            attributes["time"] = "2026-01-02T03:04:05.678Z"
        if chance.random() < 0.1:
            attributes["traceparent"] = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
            attributes["correlationid"] = "c" * chance.choice((1, 1024, 1025))
        draft = Draft(
            attributes, getattr(self, f"_{type_.replace('.', '_')}")(), binary=chance.random() < 0.25
        )
        if not draft.binary and chance.random() < 0.7:
            draft.headers.append(_STRUCTURED)
        return draft

    def _org(self) -> str:
        chance = self._chance
        return chance.choice(ACTIVE) if chance.random() < 0.7 else f"other-{chance.randrange(400)}"

    def _extras(self) -> dict[str, object]:
        chance = self._chance
        if chance.random() < 0.8:
            return {}
        return {
            "region": {"zone": [Loose(chance.randrange(100)), None, True, "é\u2028"], "weight": Loose(25)},
            "__proto__": {"credits": Loose(7)},
        }

    def _org_created(self) -> dict[str, object]:
        chance = self._chance
        data: dict[str, object] = {
            "org_id": self._org(),
            "name": chance.choice(("Acme", "n" * 500, "名前 \x1b[1m")),
            "owner_user_id": f"owner-{chance.randrange(50)}",
            **self._extras(),
        }
        optional = {
            "owner_email": "ann@example.com",
            "initial_credits": chance.choice((0, 1, 2**53 - 1)),
            "max_budget_usd": chance.choice(("25.00", None, 25, Raw(b"25.5"), "0", Raw(b"1e3"))),
            "models": chance.choice(([], ["gpt-x"], ["m" * 255])),
            "metadata": {"plan": "pro", "seats": Loose(5)},
        }
        data.update({name: value for name, value in optional.items() if chance.random() < 0.4})
        return data

    def _user_joined(self) -> dict[str, object]:
        chance = self._chance
        data: dict[str, object] = {
            "org_id": self._org(),
            "user_id": f"user-{chance.randrange(500)}",
            **self._extras(),
        }
        optional = {
            "email": "u@example.com",
            "role": chance.choice(("member", "admin", None)),
            "max_budget_usd": chance.choice(("5", 0, None, Raw(b"0.000000000001"))),
        }
        data.update({name: value for name, value in optional.items() if chance.random() < 0.5})
        return data

    def _job_completed(self) -> dict[str, object]:
        chance = self._chance
        data: dict[str, object] = {
            "org_id": self._org(),
            # A job may be named by several events.
            "job_id": f"job-{self._number if chance.random() < 0.8 else chance.randrange(1000)}",
            "status": chance.choice(("completed", "completed", "completed", "failed", "cancelled")),
            **self._extras(),
        }
        usage: dict[str, object] = {
            **{name: chance.choice(_INTEGERS[:2]) for name in _COUNTS},
            "total_cost_usd": chance.choice(("0.0123", Raw(b"0.0123"), "-1")),
            "avg_latency_ms": chance.choice((12, Raw(b"12.50"), Raw(b"1e999999"), Raw(b"9" * 400))),
        }
        optional = {
            "user_id": f"user-{chance.randrange(500)}",
            "job_type": chance.choice(("batch", "", "\x1b[31m\u202e")),
            "usage": {name: value for name, value in usage.items() if chance.random() < 0.5},
            "started_at": "2026-01-02T03:04:05Z",
            "completed_at": "2026-01-02T03:04:06.5+02:00",
            "error_message": "boom\n\x1b[2J",
            "metadata": {},
        }
        data.update({name: value for name, value in optional.items() if chance.random() < 0.4})
        return data

    def _again(self) -> Draft:
        """An event that was sent before: the same in other words, or with other data."""
        chance = self._chance
        draft = chance.choice(self._recent)
        again = Draft(dict(draft.attributes), _copied(draft.data), list(draft.headers), chance.random() < 0.5)
        again.headers = [] if again.binary else again.headers
        roll = chance.random()
        if roll < 0.4:
            again.attributes["time"] = "2027-01-01T00:00:00Z"  # no part of the data
        elif roll < 0.7:
            again.data[chance.choice(("unheard_of", "metadata", "credits"))] = chance.choice(
                (None, {}, Loose(1))
            )
        elif roll < 0.8:
            again.attributes["source"] = "/elsewhere"  # another identity, perhaps the same job
        return again

    # -- records ------------------------------------------------------------------------------------------

    def _encode(self, draft: Draft) -> Sent:
        chance = self._chance
        spelling = chance if chance.random() < 0.5 else None
        key = chance.choice((b"k", None, b"", b"\xff\xfe\x00"))
        headers = list(draft.headers)
        if not draft.binary:
            return Sent(key, spell({**draft.attributes, "data": draft.data}, spelling), tuple(headers))
        for name, value in draft.attributes.items():
            headers.append((f"ce_{name}", _header_value(value)))
        if spelling is not None:
            chance.shuffle(headers)
        return Sent(key, spell(draft.data, spelling), tuple(headers))

    def _damaged(self, sent: Sent) -> Sent:
        """Change bytes of a record that was sent before."""
        chance = self._chance
        headers = list(sent.headers)
        if headers and chance.random() < 0.2:
            place = chance.randrange(len(headers))
            name, value = headers[place]
            if chance.random() < 0.5:
                headers[place] = (name, self._bytes_changed(value or b""))
            else:
                headers[place] = (
                    chance.choice((name.upper(), name[1:], f"{name}\u00e9", "ce_", "ce_id")),
                    value,
                )
            return replace(sent, headers=tuple(headers))
        return replace(sent, value=self._bytes_changed(sent.value or b""))

    def _bytes_changed(self, value: bytes) -> bytes:
        chance = self._chance
        changed = bytearray(value)
        for _ in range(chance.choice((1, 1, 1, 2, 8))):
            at = chance.randrange(len(changed) + 1)
            match chance.randrange(5):
                case 0:
                    changed[at : at + 1] = bytes((chance.randrange(256),))
                case 1:
                    del changed[at : at + chance.choice((1, 1, 2, 20))]
                case 2:
                    changed[at:at] = chance.choice(_PIECES)
                case 3:
                    changed[at:at] = changed[at : at + chance.randrange(60)]
                case _:
                    if chance.random() < 0.2:
                        del changed[at:]
        return bytes(changed)

    def _nothing_like_it(self) -> Sent:
        chance = self._chance
        value = chance.choice(
            (
                None,
                b"",
                b" ",
                b"null",
                b"true",
                b"[]",
                b"{}",
                b'"text"',
                b"1",
                b"\xef\xbb\xbf{}",
                b"\xff\xfe{\x00}\x00",
                b"\x1f\x8b\x08",
                b"<xml/>",
                chance.randbytes(chance.randrange(64)),
                b"[" * chance.choice((64, 65, 5000)),
                b'{"a":' * chance.choice((64, 65, 5000)),
                b"[" * 64 + b"]" * 64,
                b"[" * 65 + b"]" * 65,
                b"1" * 20_000,
                b" " * MAX_BYTES,
                b" " * (MAX_BYTES + 1),
            )
        )
        headers: list[Header] = [
            header
            for header in (
                _STRUCTURED,
                ("ce_specversion", b"1.0"),
                ("ce_type", chance.choice((b"job.completed", b"unheard.of", b"\xff", None))),
                ("ce_id", b"a"),
                ("qm-reason", b"forged"),
                ("content-type", chance.choice((b"application/cloudevents-batch+json", None, b"\xff"))),
            )
            if chance.random() < 0.25
        ]
        return Sent(chance.choice((None, b"k")), value, tuple(headers), chance.choice(_TIMESTAMPS))


_TIMESTAMPS = (-1, 0, 1_700_000_000_000, 2**63 - 1, -(2**63))
_PIECES = (
    b'"',
    b"\\",
    b"\\u0000",
    b"\\ud800",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"\x00",
    b"\xff",
    b"\xef\xbb\xbf",
    b"null",
    b"1e999999",
    b'"credits":1,',
    b'"id":"x",',
)


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _copied(member) for name, member in value.items()}
    return [_copied(item) for item in value] if isinstance(value, list) else value


def _header_value(value: object) -> bytes | None:
    if value is None:
        return None
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    return value.text if isinstance(value, Raw) else spell(value)


# -- mutations ----------------------------------------------------------------------------------------------


def _place(self: Upstream, draft: Draft) -> dict[str, object]:
    """One of the objects that rules are about."""
    chance = self._chance
    usage = draft.data.get("usage") if isinstance(draft.data, dict) else None
    places = [draft.attributes]
    if isinstance(draft.data, dict):
        places += [draft.data] * 3
    if isinstance(usage, dict):
        places.append(usage)
    return chance.choice(places)


def _name(self: Upstream, place: dict[str, object]) -> str:
    chance = self._chance
    if place and chance.random() < 0.8:
        return chance.choice(list(place))
    return chance.choice((*_NAMES, *_COUNTS, "total_cost_usd", "avg_latency_ms", "time", "data_base64"))


def _drop(self: Upstream, draft: Draft) -> None:
    place = _place(self, draft)
    place.pop(_name(self, place), None)


def _other_type(self: Upstream, draft: Draft) -> None:
    place = _place(self, draft)
    others: tuple[object, ...] = (None, True, False, 0, -1, "", "x", [], {}, ["x"], {"a": 1}, Raw(b"1.5"))
    place[_name(self, place)] = self._chance.choice(others)


def _length(self: Upstream, draft: Draft) -> None:
    place = _place(self, draft)
    letter = self._chance.choice(_LETTERS)
    place[_name(self, place)] = letter * self._chance.choice(_LENGTHS)


def _string(self: Upstream, draft: Draft) -> None:
    place = _place(self, draft)
    place[_name(self, place)] = self._chance.choice(_STRINGS)


def _broken_text(self: Upstream, draft: Draft) -> None:
    place = _place(self, draft)
    place[_name(self, place)] = Raw(self._chance.choice(_BROKEN_TEXT))


def _integer(self: Upstream, draft: Draft) -> None:
    place = _place(self, draft)
    place[_name(self, place)] = self._chance.choice(_INTEGERS)


def _number(self: Upstream, draft: Draft) -> None:
    place = _place(self, draft)
    place[_name(self, place)] = Raw(self._chance.choice(_NUMBERS))


def _rule(self: Upstream, draft: Draft) -> None:
    """Go to the bound of the rule that a field has."""
    chance = self._chance
    if not isinstance(draft.data, dict):
        return
    usage = {
        chance.choice(_COUNTS): chance.choice((*_INTEGERS, *map(Raw, _NUMBERS))),
        "total_cost_usd": chance.choice((*_AMOUNTS, *map(Raw, _NUMBERS))),
        "avg_latency_ms": chance.choice((*_INTEGERS, *map(Raw, _NUMBERS))),
    }
    bounds: dict[str, object] = {
        "initial_credits": chance.choice((*_INTEGERS, *map(Raw, _NUMBERS))),
        "max_budget_usd": chance.choice((*_AMOUNTS, *map(Raw, _NUMBERS))),
        "models": ["m" * chance.choice((0, 1, 255, 256))] * chance.choice((0, 1, 1000, 1001)),
        "started_at": chance.choice(_TIMES),
        "completed_at": chance.choice(_TIMES),
        "role": chance.choice(("member", "admin", "owner", None, "")),
        "status": chance.choice(("completed", "failed", "cancelled", "done", None)),
        "usage": {name: value for name, value in usage.items() if chance.random() < 0.5},
    }
    names = [name for name in bounds if name in draft.data] or list(bounds)
    name = chance.choice(names)
    draft.data[name] = bounds[name]


def _time(self: Upstream, draft: Draft) -> None:
    draft.attributes["time"] = self._chance.choice(_TIMES)


def _reserved(self: Upstream, draft: Draft) -> None:
    if isinstance(draft.data, dict):
        name = self._chance.choice(("team_id", "model_groups", "billing", "limits", "credits"))
        draft.data[name] = self._chance.choice((None, "x", 0, False, {}))


def _deep(self: Upstream, draft: Draft) -> None:
    depth = self._chance.choice((60, 61, 62, 63, 64, 65, 66, 200, 5000))
    opening, closing = self._chance.choice(((b"[", b"]"), (b'{"a":', b"}")))
    inner = b"" if opening == b"[" else b"1"
    if isinstance(draft.data, dict):
        draft.data["unheard_of"] = Raw(opening * depth + inner + closing * depth)


def _twice(self: Upstream, draft: Draft) -> None:
    if isinstance(draft.data, dict) and draft.data:
        name = self._chance.choice(list(draft.data))
        pairs = (*draft.data.items(), (name, draft.data[name]))
        draft.data = Members(pairs)


def _unknown_type(self: Upstream, draft: Draft) -> None:
    draft.attributes["type"] = self._chance.choice(_UNKNOWN_TYPES)


def _version(self: Upstream, draft: Draft) -> None:
    draft.attributes["specversion"] = self._chance.choice(("0.3", "1.1", "1.0 ", 1, Raw(b"1.0"), None))


def _base64(self: Upstream, draft: Draft) -> None:
    draft.attributes["data_base64"] = self._chance.choice(("AA==", None, ""))


def _no_object(self: Upstream, draft: Draft) -> None:
    draft.data = self._chance.choice(([], "{}", 1, True, None, [draft.data]))


def _content_type(self: Upstream, draft: Draft) -> None:
    name = self._chance.choice(("content-type", "Content-Type", "CONTENT-TYPE", "content_type"))
    value = self._chance.choice(
        (
            b"application/cloudevents+json",
            b" Application/CloudEvents+JSON ; charset=utf-16",
            b"application/json",
            b"application/cloudevents-batch+json",
            b"application/cloudevents+json,application/json",
            b"\xff",
            b"",
            None,
        )
    )
    draft.headers.insert(self._chance.randrange(len(draft.headers) + 1), (name, value))


def _header(self: Upstream, draft: Draft) -> None:
    name = self._chance.choice(
        (
            "ce_specversion",
            "CE_specversion",
            "ce_id",
            "Ce_Id",
            "ce_type",
            "ce_",
            "ce_x",
            "qm-reason",
            "traceparent",
        )
    )
    value = self._chance.choice((b"1.0", b"a", b"\xff", b"a\x00b", b"", None, "\u202e".encode() * 300))
    draft.headers.append((name, value))


def _other_mode(_self: Upstream, draft: Draft) -> None:
    draft.binary = not draft.binary


def _flood(self: Upstream, draft: Draft) -> None:
    chance = self._chance
    if chance.random() < 0.9:
        draft.headers += [(f"x-{number}", b"v") for number in range(30)]
    elif chance.random() < 0.5:
        prefix = chance.choice(("x-", "ce_"))
        draft.headers += [(f"{prefix}{number}", b"v") for number in range(10_000)]
    else:
        draft.headers.append((chance.choice(("x-large", "ce_large", "ce_id")), b"v" * 1_000_000))


def _large(self: Upstream, draft: Draft) -> None:
    """Come close to the size limit, from both sides."""
    if isinstance(draft.data, dict):
        size = len(self._encode(draft).value or b"") if self._chance.random() < 0.5 else 400
        draft.data["unheard_of"] = "x" * max(0, MAX_BYTES - size - self._chance.randrange(40))


_TABLE: tuple[tuple[Mutation, float], ...] = (
    (_drop, 3),
    (_other_type, 3),
    (_length, 3),
    (_string, 3),
    (_broken_text, 2),
    (_integer, 2),
    (_number, 3),
    (_rule, 5),
    (_time, 1),
    (_reserved, 1),
    (_deep, 1),
    (_twice, 1),
    (_unknown_type, 2),
    (_version, 1),
    (_base64, 0.5),
    (_no_object, 1),
    (_content_type, 2),
    (_header, 2),
    (_other_mode, 0.5),
    (_flood, 0.2),
    (_large, 0.1),
)
_MUTATIONS = [mutation for mutation, _ in _TABLE]
_WEIGHTS = [weight for _, weight in _TABLE]
