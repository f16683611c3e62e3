"""Dead letters on a real broker: what our own code fails on, what is sent again, what is purged."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from typer.testing import CliRunner

from streams.codec import decode
from streams.config import KafkaConfig
from streams.dead_letters import WHOLE_BYTES, letter_of, now_utc, unsent_letter
from streams.errors import ExitCode
from streams.io import Addresser, Outgoing
from streams.letters import HEADER_PURGED_BY, LetterBox, Selection
from streams.records import DeadLetter, LetterStatus, Reason
from streams.table import DEAD_LETTERS
from tests.integration.counting import GENERATION, IN
from tests.integration.test_pair import (  # noqa: F401  (fixtures)
    PARTITIONS,
    Flow,
    assert_exact,
    done,
    flow,
    own,
    read,
    send,
    send_bytes,
    until,
)
from trends.cli import build

NOBODY = ("nobody", b"\xff \x00")
"""A header that no text can carry."""


def letters(kafka: KafkaConfig) -> dict[str, DeadLetter]:
    return {letter.letter_id: letter for letter in LetterBox(kafka, GENERATION).select(Selection())}


def messages(kafka: KafkaConfig, name: str, count: int) -> list[Any]:
    with closing(Consumer(kafka.client(**{"group.id": "look", "enable.partition.eof": True}))) as consumer:
        consumer.assign([TopicPartition(name, p, 0) for p in range(count)])
        found, ended = [], 0
        while ended < count:
            for message in consumer.consume(1_000, 1.0):
                if message.error():
                    ended += 1
                else:
                    found.append(message)
        return found


def test_a_failure_of_ours_is_found_without_losing_a_neighbour_and_redriven_once_mended(
    own: KafkaConfig,  # noqa: F811
    flow: Flow,  # noqa: F811
) -> None:
    send(own, 3_000)
    bad = [700, 701, 2_222]
    process = flow.start("a", "--bad", *map(str, bad))
    until(done(own))
    assert process.poll() is None, "it goes on with the others"
    assert_exact(own, 3_000 - len(bad))
    first = letters(own)
    assert {letter.reason for letter in first.values()} == {Reason.OUR_FAILURE}
    assert sorted(int(letter.error.rsplit(" ", 1)[1]) for letter in first.values()) == bad

    # Not mended yet, for one of them: it fails again, and its letter knows the way back.
    process.send_signal(signal.SIGTERM)
    assert process.wait(15) == ExitCode.OK
    box = LetterBox(own, GENERATION)
    still_bad = next(letter for letter in first.values() if letter.error.endswith(" 701"))
    assert box.redrive(Selection(ids=frozenset({still_bad.letter_id}))).done == 1
    process = flow.start("a", "--bad", "701")
    until(done(own))
    again = next(letter for letter in letters(own).values() if letter.attempts == 2)
    assert again.redriven_from == again.first_letter == still_bad.letter_id
    assert again.first_failed_at == still_bad.failed_at
    assert letters(own)[still_bad.letter_id].status is LetterStatus.REDRIVEN
    process.send_signal(signal.SIGTERM)
    assert process.wait(15) == ExitCode.OK

    # Mended: all that is open goes, each once, whoever asks twice.
    open_ones = Selection(statuses=frozenset({LetterStatus.OPEN}))
    assert box.redrive(open_ones, dry_run=True).done == 3
    assert box.redrive(Selection()).done == 3
    assert box.redrive(Selection()).done == 0
    flow.start("a")
    until(done(own))
    assert_exact(own, 3_000)
    assert {letter.status for letter in letters(own).values()} == {LetterStatus.REDRIVEN}


def test_redriving_sends_bytes_key_and_headers_as_they_were_to_the_partition_of_the_trend(own: KafkaConfig) -> None:  # noqa: F811
    name, address = IN.physical(own, GENERATION), Addresser(own, GENERATION)
    value = b'{"trend_id": "k1", "title": "x", "version": 1, "updated_at": "2026-01-01T00:00:00Z"}'
    producer = Producer(own.client())
    producer.produce(name, value, b"\xff\x00key", 3, headers=[NOBODY, ("a", b"b"), ("none", None)])
    producer.produce(name, b"no json", None, 2)
    producer.produce(name, None, b"k2", 1)
    producer.flush()
    sent = messages(own, name, PARTITIONS)
    made = [letter_of(m, Reason.OUR_FAILURE, "why", "count") for m in sent]
    write(own, address.dead_letters(made))
    box = LetterBox(own, GENERATION)
    assert box.redrive(Selection(), dry_run=True).done == 3
    assert len(messages(own, name, PARTITIONS)) == 3, "a dry run sends nothing"
    assert box.redrive(Selection()).done == 3
    before = {(m.value(), m.key()): m for m in sent}
    after = [m for m in messages(own, name, PARTITIONS) if any(n == "redriven-from" for n, _ in m.headers() or ())]
    assert len(after) == 3
    for message in after:
        original = before[message.value(), message.key()]
        kept = [h for h in message.headers() if h[0] in ("nobody", "a", "none")]
        assert kept == (original.headers() or [])
        # IN is no stream of the platform's own, so nobody can tell its trend: it goes where it was.
        assert message.partition() == original.partition()


def write(kafka: KafkaConfig, records: list[Outgoing]) -> None:
    producer = Producer(kafka.client(**{"message.max.bytes": 3_000_000}))
    for r in records:
        producer.produce(r.stream, r.value, r.key, r.partition, headers=r.headers)  # type: ignore[arg-type]
    producer.flush()


def some_letters(count: int, **changes: object) -> list[DeadLetter]:
    made = [
        unsent_letter("raw.file", f"{n}", "k", b"{}", Reason.NOT_JSON, f"error {n % 7} of [red]many\x1b[31m", "collect")
        for n in range(count)
    ]
    return [msgspec.structs.replace(letter, **changes) for letter in made]


def test_repeats_collapse_and_a_selection_takes_bounded_memory(own: KafkaConfig) -> None:  # noqa: F811
    address = Addresser(own, GENERATION)
    write(own, address.dead_letters([*some_letters(300), *some_letters(300, reason=Reason.WRONG_TYPE)]))
    box = LetterBox(own, GENERATION, pass_letters=64)  # ten passes
    overview = box.overview(Selection(), 5)
    assert (overview.letters, len(overview.newest), len(overview.groups)) == (300, 5, 1)
    assert overview.groups[0].reason is Reason.WRONG_TYPE
    assert box.overview(Selection(text="ERROR 3"), 0).letters == len([n for n in range(300) if n % 7 == 3])
    assert box.overview(Selection(reasons=frozenset({Reason.NOT_JSON})), 0).letters == 0
    assert box.overview(Selection(streams=frozenset({"raw.file"}), until=now_utc()), 0).letters == 300
    assert box.overview(Selection(streams=frozenset({"raw.rss"})), 0).letters == 0
    assert box.purge(Selection(text="error 3")).done == 43
    left = box.overview(Selection(), 0)
    assert (left.letters, left.purged) == (257, 43)
    tombstone = next(m for m in messages(own, DEAD_LETTERS.physical(own, GENERATION), 4) if m.value() is None)
    assert dict(tombstone.headers())[HEADER_PURGED_BY] == b"text=error 3"


def test_what_was_cut_says_that_it_cannot_be_redriven(own: KafkaConfig) -> None:  # noqa: F811
    large = unsent_letter("raw.file", "1", "k", b"x" * (WHOLE_BYTES + 1), Reason.TOO_LARGE, "too large", "collect")
    write(own, Addresser(own, GENERATION).dead_letters([large]))
    outcome = LetterBox(own, GENERATION).redrive(Selection())
    assert outcome.done == 0
    assert any("cut" in why for why in outcome.skipped)


def test_a_letter_always_fits_its_stream_however_small_records_are(own: KafkaConfig) -> None:  # noqa: F811
    small = replace(own, max_record_bytes=16_384)
    for key, value in (("k", b"\x00" * 81_000), ("k" * 60_000, b"x" * 90_000)):
        letter = unsent_letter("raw.file", "1", key, value, Reason.OUR_FAILURE, "e", "embed")
        (out,) = Addresser(small, GENERATION).dead_letters([letter])
        assert len(out.value or b"") <= 2 * 16_384
        assert not decode(DeadLetter, out.value).whole


@pytest.fixture
def cli(own: KafkaConfig, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:  # noqa: F811
    monkeypatch.setenv("TRENDS_KAFKA_BOOTSTRAP", own.bootstrap)
    monkeypatch.setenv("TRENDS_STACK", own.stack)

    def run(*words: str) -> Any:
        return CliRunner().invoke(build(), ["dead-letters", *words])

    return run


def test_the_command_line_lists_shows_redrives_and_purges(own: KafkaConfig, cli: Callable[..., Any]) -> None:  # noqa: F811
    write(own, Addresser(own, GENERATION).dead_letters(some_letters(30)))
    listed = cli("list", "--limit", "2", "--json")
    found = json.loads(listed.stdout)
    assert (found["letters"], len(found["newest"]), found["groups"][0]["letters"]) == (30, 2, 30)
    table = cli("list").stdout
    assert "[red]many" in table
    assert "\x1b" not in table
    one = found["newest"][0]["letter_id"]
    assert one in cli("show", one).stdout
    assert cli("show", one, "--value").stdout == "{}"
    assert cli("show", "raw.x/0/0").exception is not None
    assert cli("purge", "--yes").exception is not None, "everything only where --all says so"
    assert "30 would be purged" in cli("purge", "--all", "--dry-run").stdout
    assert "30 left alone: its stream raw.file" in cli("redrive", "--all", "--yes").stdout
    assert "1 purged" in cli("purge", "--id", one, "--yes").stdout
    assert json.loads(cli("list", "--json").stdout)["letters"] == 29
