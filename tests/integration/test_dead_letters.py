"""Dead letters on a real broker: what our own code fails on, what is sent again, what is purged."""

from __future__ import annotations

import signal

from streams.codec import decode
from streams.config import KafkaConfig
from streams.errors import ExitCode
from streams.records import DeadLetter, Reason
from streams.table import DEAD_LETTERS
from tests.integration.test_pair import (  # noqa: F401  (fixtures)
    Flow,
    assert_exact,
    done,
    flow,
    own,
    read,
    send,
    until,
)


def letters(kafka: KafkaConfig) -> list[DeadLetter]:
    return [decode(DeadLetter, value) for _, value in read(kafka, DEAD_LETTERS)]


def test_records_that_our_code_fails_on_become_letters_and_the_process_goes_on_with_exact_state(
    own: KafkaConfig,  # noqa: F811
    flow: Flow,  # noqa: F811
) -> None:
    send(own, 3_000)
    bad = [700, 701, 2_222]
    process = flow.start("a", "--bad", *map(str, bad))
    until(done(own))
    assert process.poll() is None
    assert_exact(own, 3_000 - len(bad))
    found = letters(own)
    assert [letter.reason for letter in found] == [Reason.OUR_FAILURE] * len(bad)
    assert sorted(int(letter.error.rsplit(" ", 1)[1]) for letter in found) == bad
    process.send_signal(signal.SIGTERM)
    assert process.wait(15) == ExitCode.OK
