"""Observations as a hostile or broken producer sends them, from a seed: bytes, key, headers, and what must become of
each. The generator knows what it did to a record, so nothing of the product is asked whether a record is well-formed.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from streams.ids import item_id_of
from streams.records import Reason

SOURCE: Final = "file"
SPACING: Final = timedelta(seconds=30)
"""Between two honest items; the generator's clock goes on by it."""
LIMIT_BYTES: Final = 1_048_576

Headers = list[tuple[str, bytes | None]]
Fields = dict[str, Any]

_ANY: Final = frozenset(Reason)


@dataclass(frozen=True, slots=True)
class Sent:
    """One message, and what must become of it: stored under ``item_id``, or a dead letter with one of ``reasons``."""

    case: str
    trend_id: str
    """Of the record, as far as it has one: decides the partition that an honest producer would take."""
    value: bytes | None
    key: bytes | None
    headers: Headers = field(default_factory=list)
    item_id: str = ""
    """Of a well-formed observation; empty for one that must be refused."""
    reasons: frozenset[Reason] = frozenset()
    deletes: bool = False
    astray: bool = False
    """Whether it is to be sent to a partition that is not its trend's."""

    @property
    def good(self) -> bool:
        return bool(self.item_id)


class Hostile:
    """An endless, seeded mix: half of it honest items, a quarter strange but well-formed, a quarter refused.

    Args:
        seed: equal seeds give equal messages.
        begin: when the first honest item was observed.
        large: whether records near the size limit (1 MiB each) may be among them.
    """

    def __init__(self, seed: int, begin: datetime, *, large: bool = True, honest: float = 0.5) -> None:
        self._random = random.Random(seed)
        self._prefix = f"fuzz-{seed}"
        self.now = begin
        self._number = 0
        self._known: list[Fields] = []
        self._large = large
        self._honest = honest
        self._strange: list[Callable[[Fields], Sent]] = [
            self._time,
            self._engagement,
            self._text,
            self._identity,
            self._trend,
            self._repeat,
            self._deletion,
            self._unknown_fields,
            self._addressing,
            self._lists,
        ]
        self._refused: list[Callable[[Fields], Sent]] = [
            self._no_json,
            self._no_text,
            self._wrong_type,
            self._missing,
            self._wrong_value,
            self._wrong_time,
            self._wrong_number,
            self._nul,
            self._deep,
            self._schema,
            self._nothing,
            self._stolen_identity,
        ]

    def messages(self, count: int) -> Iterator[Sent]:
        """The next messages."""
        for _ in range(count):
            yield self.message()

    def message(self) -> Sent:
        """The next message."""
        rng = self._random
        fields = self._plain()
        roll = rng.random()
        if roll < self._honest:
            self.now += SPACING
            self._remember(fields)
            return self._good("honest", fields)
        if roll < self._honest + (1.0 - self._honest) / 2:
            if self._large and rng.random() < 0.004:
                return self._large_one(fields)
            return rng.choice(self._strange)(fields)
        if self._large and rng.random() < 0.004:
            return self._too_large(fields)
        return rng.choice(self._refused)(fields)

    # ------------------------------------------------------------------------------------------------ well-formed

    def _plain(self) -> Fields:
        rng = self._random
        self._number += 1
        external_id = f"{self._prefix}-{self._number}"
        story = rng.randrange(400)
        at = self.now.isoformat()
        return {
            "item_id": item_id_of(SOURCE, external_id),
            "source": SOURCE,
            "external_id": external_id,
            "kind": "post",
            "title": f"Quellmark {story} harbour strike number{story} {rng.choice(('grows', 'ends', 'spreads'))}",
            "observed_at": at,
            "published_at": at,
            "trend_id": f"term:quellmark{story % 40}",
            "publisher": f"site{rng.randrange(60)}.example",
            "engagement": {"points": rng.randrange(40), "comments": rng.randrange(10)},
        }

    def _remember(self, fields: Fields) -> None:
        self._known.append(fields)
        if len(self._known) > 500:
            self._known.pop(self._random.randrange(len(self._known)))

    def _good(self, case: str, fields: Fields, value: bytes | None = None, **more: Any) -> Sent:
        trend = fields["trend_id"]
        return Sent(
            case,
            trend,
            value or dump(fields),
            more.pop("key", trend.encode()),
            item_id=fields["item_id"],
            deletes=fields["kind"] == "deleted",
            **more,
        )

    def _time(self, fields: Fields) -> Sent:
        name, changes = self._random.choice(
            (
                ("last second", {"observed_at": "9999-12-31T23:59:59.999999Z"}),
                ("last year", {"observed_at": "9999-06-01T00:00:00Z", "published_at": "9999-06-01T00:00:00Z"}),
                ("published in the future", {"published_at": "2999-01-01T00:00:00Z"}),
                ("2106", {"observed_at": "2106-02-07T06:28:16Z", "published_at": "2106-02-07T06:28:16Z"}),
                ("year 1", {"observed_at": "0001-01-01T00:00:00Z", "published_at": "0001-01-01T00:00:00Z"}),
                ("published in year 1", {"published_at": "0001-01-01T00:00:00Z"}),
                ("1969", {"observed_at": "1969-12-31T23:59:59.5Z", "published_at": "1969-12-31T23:59:59Z"}),
                ("1900", {"observed_at": "1900-01-01T00:00:00Z", "published_at": "1900-01-01T00:00:00Z"}),
                ("another offset", {"observed_at": self.now.isoformat()[:-6] + "+23:59"}),
                ("nanoseconds", {"observed_at": self.now.isoformat()[:19] + ".123456789Z"}),
                ("a year ahead", {"observed_at": (self.now + timedelta(days=366)).isoformat()}),
                (
                    "a week ahead",
                    {
                        "observed_at": (self.now + timedelta(days=7)).isoformat(),
                        "published_at": (self.now + timedelta(days=7)).isoformat(),
                    },
                ),
            )
        )
        return self._good(f"time: {name}", fields | changes)

    def _engagement(self, fields: Fields) -> Sent:
        most = 2**53
        return self._good(
            "engagement",
            fields
            | {
                "engagement": {
                    name: self._random.choice((-1, -most, most, 0, 7))
                    for name in ("points", "comments", "shares", "stars", "views")
                }
            },
        )

    def _text(self, fields: Fields) -> Sent:
        rng = self._random
        title = rng.choice(
            (
                "",
                " \t\n ",
                "x",
                "\x01\x02\x1b[31mred\x07",
                "\u202edesrever\u202c",
                "a" * 10_000,
                "word " * 2_000,
                "&amp;" * 900,
                "<b>" * 900,
                "&lt;script&gt;alert(1)&lt;/script&gt;",
                "😀" * 500,
                "\ufffe\uffff\U0010ffff",
                "ﷺ" * 900,
                "e\u0301" * 900,
                "- | - | - | " * 90,
                "[pdf] " * 160,
                "(2014) " * 140,
                "日本語の見出し" * 40,
                "'; DROP TABLE items; --",
                "\\u0000 spelled out",
                "a-b" * 300,
                "1,000" * 200,
                "\u2028\u2029",
            )
        )
        body = rng.choice(("", "b" * 5_000, "<p>" * 3_000, "&" * 4_000, "One. Two! Three? " * 400, "\x0b\x0c"))
        return self._good(
            "text", fields | {"title": title, "body": body, "author": rng.choice((None, "", "\x01", "a"))}
        )

    def _identity(self, fields: Fields) -> Sent:
        odd = self._random.choice(("x" * 480, "/../..", "\x1f", "ü/ü ", "cover:", "%00", "a\nb"))
        external_id = odd + fields["external_id"]
        return self._good("identity", fields | {"external_id": external_id, "item_id": item_id_of(SOURCE, external_id)})

    def _trend(self, fields: Fields) -> Sent:
        trend = self._random.choice(
            (
                "t" * 200,
                "ü" * 200,
                "cover:raw.file/0",
                "cover:",
                " ",
                "\n",
                "\x01",
                "a/b/c",
                "😀" * 200,
                "term:" + "\u202e",
                "c:engine",
                "i:x",
                "null",
                "__proto__",
            )
        )
        return self._good("trend", fields | {"trend_id": trend, "mentions": [trend, "m" * 200, "cover:x/1"]})

    def _repeat(self, fields: Fields) -> Sent:
        """An item that is known: again, with other engagement, edited, or earlier than what is known of it."""
        if not self._known:
            return self._good("honest", fields)
        known = dict(self._random.choice(self._known))
        kind = self._random.randrange(4)
        if kind == 1:
            known |= {"observed_at": self.now.isoformat(), "engagement": {"points": self._random.randrange(-5, 500)}}
        elif kind == 2:
            known |= {"observed_at": self.now.isoformat(), "title": known["title"] + " corrected"}
        elif kind == 3:
            known |= {"observed_at": (self.now - timedelta(days=3)).isoformat()}
        return self._good(("repeat", "update", "edit", "late")[kind], known)

    def _deletion(self, fields: Fields) -> Sent:
        if self._known and self._random.random() < 0.7:
            fields = dict(self._random.choice(self._known))
        return self._good("deletion", fields | {"kind": "deleted", "observed_at": self.now.isoformat()})

    def _unknown_fields(self, fields: Fields) -> Sent:
        value = dump(fields)
        extra = self._random.choice(
            (
                b',"x":' + b"[" * 500 + b"]" * 500,
                b',"x":' + b'{"a":' * 300 + b"1" + b"}" * 300,
                b',"x":1e300',
                b',"title":"' + fields["title"].encode() + b'"',
                b',"x":"\\u0000"',
                b',"":null',
            )
        )
        return self._good("unknown fields", fields, value[:-1] + extra + b"}")

    def _addressing(self, fields: Fields) -> Sent:
        rng = self._random
        headers: Headers = rng.choice(
            (
                [],
                [("schema", b"observation"), ("schema-version", b"1")],
                [("x", b"\xff\xfe"), ("", b""), ("n", None)],
                [("trace", b"t" * 60_000)],
                [(f"h{i}", b"\x01") for i in range(3_000)],
            )
        )
        key = rng.choice((None, b"", b"\xff\xfe", b"another trend", b"k" * 10_000))
        return self._good("addressing", fields, key=key, headers=headers, astray=True)

    def _lists(self, fields: Fields) -> Sent:
        return self._good(
            "lists",
            fields
            | {
                "tags": ["t" * 512] * 100,
                "mentions": [f"m{i}" for i in range(10)],
                "lang": "x" * 512,
                "url": self._random.choice(
                    (
                        "http://[::1",
                        "javascript:alert(1)",
                        "x" * 8_192,
                        "//",
                        "?",
                        "https://a.example/\x01",
                        "http://a.example:99999/",
                    )
                ),
            },
        )

    def _large_one(self, fields: Fields) -> Sent:
        """Exactly as large as a record may be, and nothing that a compressor could make small."""
        room = LIMIT_BYTES - len(dump(fields | {"body": ""}))
        return self._good("at the limit", fields | {"body": self._noise(room)})

    def _noise(self, chars: int) -> str:
        return self._random.randbytes(chars // 2 + 1).hex()[:chars]

    # ---------------------------------------------------------------------------------------------------- refused

    def _bad(
        self, case: str, fields: Fields, value: bytes | None, *reasons: Reason, headers: Headers | None = None
    ) -> Sent:
        return Sent(
            case, fields["trend_id"], value, fields["trend_id"].encode(), headers or [], reasons=frozenset(reasons)
        )

    def _no_json(self, fields: Fields) -> Sent:
        whole = dump(fields)
        value = self._random.choice(
            (
                b"",
                b"x",
                whole[: self._random.randrange(1, len(whole))],
                whole + b"}",
                whole + b" x",
                b"\xef\xbb\xbf" + whole,
                whole.decode().encode("utf-16"),
                self._random.randbytes(200) + b"\x80",
                b"\x00" * 100,
                whole.replace(b'"', b"'"),
                b"<?xml version='1.0'?><!DOCTYPE l [<!ENTITY a 'ha'><!ENTITY b '&a;&a;'>]><l>&b;</l>",
                b"[" * 100_000,
            )
        )
        return self._bad("no JSON", fields, value, Reason.NOT_JSON, Reason.WRONG_TYPE, Reason.INVALID_VALUE)

    def _no_text(self, fields: Fields) -> Sent:
        bad = self._random.choice(
            (b"\xff", b"\xc3\x28", b"\xed\xa0\x80", b"\\ud800", b"\\udfff\\ud800", b"\x01", b"\\x41")
        )
        return self._bad("no UTF-8", fields, dump(fields | {"title": "HERE"}).replace(b"HERE", bad), Reason.NOT_JSON)

    def _wrong_type(self, fields: Fields) -> Sent:
        name = self._random.choice(
            ("title", "item_id", "kind", "observed_at", "tags", "engagement", "body", "trend_id")
        )
        value = self._random.choice((5, [5], {"a": {"b": []}}, True, 1.5, [[[]]]))
        if (name, value) in (("tags", [5]), ("engagement", {"a": {"b": []}})):
            value = 5
        return self._bad("wrong type", fields, dump(fields | {name: value}), Reason.WRONG_TYPE, Reason.INVALID_VALUE)

    def _missing(self, fields: Fields) -> Sent:
        name = self._random.choice(("item_id", "source", "external_id", "kind", "title", "observed_at", "trend_id"))
        return self._bad("missing", fields, dump({k: v for k, v in fields.items() if k != name}), Reason.MISSING_FIELD)

    def _wrong_value(self, fields: Fields) -> Sent:
        changes = self._random.choice(
            (
                {"kind": "sonnet"},
                {"external_id": ""},
                {"external_id": "x" * 513},
                {"title": "x" * 10_001},
                {"trend_id": ""},
                {"trend_id": "t" * 201},
                {"tags": ["t"] * 101},
                {"tags": ["t" * 513]},
                {"mentions": ["m"] * 11},
                {"url": "u" * 8_193},
                {"source": "s" * 201},
                {"publisher": "p" * 513},
                {"item_id": "x" * 600},
            )
        )
        return self._bad("wrong value", fields, dump(fields | changes), Reason.INVALID_VALUE)

    def _wrong_time(self, fields: Fields) -> Sent:
        time = self._random.choice(
            (
                "0000-01-01T00:00:00Z",
                "0001-01-01T00:00:00+05:00",
                "9999-12-31T23:59:59-05:00",
                "10000-01-01T00:00:00Z",
                "2026-02-30T00:00:00Z",
                "2026-01-01T25:00:00Z",
                "2026-01-01T00:00:00",
                "-0001-01-01T00:00:00Z",
                "yesterday",
                "",
                "2026-01-01T00:00:61Z",
                "2026-01-01T00:00:00+99:00",
            )
        )
        name = self._random.choice(("observed_at", "published_at"))
        return self._bad("wrong time", fields, dump(fields | {name: time}), Reason.INVALID_VALUE)

    def _wrong_number(self, fields: Fields) -> Sent:
        number = self._random.choice(
            (
                b"NaN",
                b"Infinity",
                b"-Infinity",
                b"1e400",
                b"1" * 400,
                b"9007199254740993",
                b"-9007199254740993",
                b"1.5",
                b"1e3",
                b"0x10",
                b"01",
                b"+1",
                b'"7"',
                b"null",
                b"true",
                b"1" * 100_000,
            )
        )
        value = dump(fields | {"engagement": {"points": 4711}}).replace(b"4711", number)
        return self._bad("wrong number", fields, value, Reason.NOT_JSON, Reason.WRONG_TYPE, Reason.INVALID_VALUE)

    def _nul(self, fields: Fields) -> Sent:
        changes = self._random.choice(
            ({"title": "a\x00b"}, {"tags": ["\x00"]}, {"body": "\x00" * 9}, {"publisher": "\x00"})
        )
        return self._bad("NUL", fields, dump(fields | changes), Reason.NUL_CHARACTER)

    def _deep(self, fields: Fields) -> Sent:
        depth = self._random.choice((2_000, 50_000))
        opening, closing = self._random.choice(((b"[", b"]"), (b'{"a":', b"}")))
        value = dump(fields)[:-1] + b',"x":' + opening * depth + b"1" + closing * depth + b"}"
        return self._bad("deep", fields, value, Reason.INVALID_VALUE, Reason.NOT_JSON)

    def _schema(self, fields: Fields) -> Sent:
        headers: Headers = self._random.choice(
            (
                [("schema", b"mention")],
                [("schema", b"observation"), ("schema-version", b"2")],
                [("schema-version", b"999999")],
                [("schema", b"\xff")],
                [("schema", None)],
                [("schema-version", b"")],
                [("schema", b"s" * 50_000)],
            )
        )
        return self._bad("schema", fields, dump(fields), Reason.UNKNOWN_SCHEMA, headers=headers)

    def _nothing(self, fields: Fields) -> Sent:
        return self._bad("nothing", fields, None, Reason.MISSING_FIELD)

    def _stolen_identity(self, fields: Fields) -> Sent:
        item_id = self._random.choice((item_id_of(SOURCE, "someone else"), fields["item_id"].upper(), "1", "../etc"))
        return self._bad("stolen identity", fields, dump(fields | {"item_id": item_id}), Reason.INVALID_VALUE)

    def _too_large(self, fields: Fields) -> Sent:
        room = LIMIT_BYTES - len(dump(fields | {"body": ""}))
        more = self._random.choice((1, 1_000, 60_000, 500_000 - 1_000))
        return self._bad("too large", fields, dump(fields | {"body": self._noise(room + more)}), Reason.TOO_LARGE)


def dump(fields: Fields) -> bytes:
    """JSON, with the characters as they are."""
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()


def begin_of(records: int) -> datetime:
    """When honest items begin, so that the last of so many messages lies in the past."""
    return datetime.now(UTC).replace(microsecond=0) - SPACING * records - timedelta(days=1)
