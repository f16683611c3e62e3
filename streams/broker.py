"""Calls to a broker that is still coming up, or moving things around: tried again for as long as that may help."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, TypeVar

from confluent_kafka import KafkaError, KafkaException

T = TypeVar("T")

PAUSE_S: Final = 0.1

PASSING: Final = frozenset(
    {
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError._TRANSPORT,
        KafkaError._TIMED_OUT,
        KafkaError._RESOLVE,
        KafkaError._WAIT_COORD,
        KafkaError._NOENT,  # "No leaders found": of partitions whose broker is just coming back
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.NOT_COORDINATOR,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        # After a broker was away for longer than its own session: clients learn the new epoch by asking again.
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError.UNKNOWN_LEADER_EPOCH,
        KafkaError.REQUEST_TIMED_OUT,
        KafkaError.UNSTABLE_OFFSET_COMMIT,
    }
)
"""Errors that pass by themselves (librdkafka marks errors as retriable only in its transactional calls)."""


def passes(error: KafkaError) -> bool:
    """Whether the same call may succeed a moment later."""
    return not error.fatal() and (error.retriable() or error.code() in PASSING)


def patiently(call: Callable[[], T], for_s: float, give_up: Callable[[], bool] = lambda: False) -> T:
    """The answer to a call, asked again while its error passes, for ``for_s`` seconds at most.

    Raises:
        KafkaException: the last error.
    """
    deadline = time.monotonic() + for_s
    while True:
        try:
            return call()
        except KafkaException as error:
            if not passes(error.args[0]) or time.monotonic() > deadline or give_up():
                raise
            time.sleep(PAUSE_S)
