"""Calls to a broker that is still coming up, or moving things around: tried again for as long as that may help; and
what its errors mean to a flow process.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Final, TypeVar

from confluent_kafka import IsolationLevel, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

from streams.errors import (
    FencedError,
    OffsetsExpiredError,
    RestartRequired,
    SettingsError,
    StreamTableError,
    TrendsError,
    UnavailableError,
)

T = TypeVar("T")

_Offsets = dict[tuple[str, int], int]

PAUSE_S: Final = 0.1
ATTEMPT_S: Final = 5.0
"""Bound on one attempt of a question that is asked again: a client that waits for a lost connection seldom finds it."""

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

_FENCED: Final = {
    KafkaError._FENCED,
    KafkaError.INVALID_PRODUCER_EPOCH,
    KafkaError.PRODUCER_FENCED,
    KafkaError.FENCED_INSTANCE_ID,
    KafkaError.INVALID_PRODUCER_ID_MAPPING,
}
_MOVED: Final = {
    KafkaError.ILLEGAL_GENERATION,
    KafkaError.UNKNOWN_MEMBER_ID,
    KafkaError.REBALANCE_IN_PROGRESS,
    KafkaError._ASSIGNMENT_LOST,
}


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


def in_transaction(call: Callable[[], None], for_s: float) -> None:
    """A transactional call, repeated while librdkafka says that the very same call may be, for ``for_s`` at most.

    Raises:
        KafkaException: the last error.
    """
    deadline = time.monotonic() + for_s
    while True:
        try:
            call()
            return
        except KafkaException as error:
            cause: KafkaError = error.args[0]
            if cause.txn_requires_abort() or not cause.retriable() or time.monotonic() > deadline:
                raise


def refuse(error: KafkaError, doing: str) -> TrendsError:
    """What an error of the broker means to a flow process."""
    code, text = error.code(), f"{doing}: {error.str()}"
    if code in _FENCED or (code == KafkaError._FATAL and "fenced" in text):
        return FencedError(f"{text} — another process of the same name has taken over")
    if code in _MOVED:
        return RestartRequired(text)
    if code in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
        return OffsetsExpiredError(
            f"{text} — the stream no longer holds the offset that this flow has committed "
            "(retention deleted it, or the stream was made anew)"
        )
    if code == KafkaError.INVALID_SESSION_TIMEOUT:
        return SettingsError(
            f"{text} — the broker's group.min.session.timeout.ms and group.max.session.timeout.ms do not allow "
            "TRENDS_KAFKA_SESSION_TIMEOUT_MS or TRENDS_KAFKA_ROLE_SESSION_TIMEOUT_MS (cluster's)"
        )
    if code in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION):
        return StreamTableError(f"{text} — create the streams with `trends streams apply`")
    return UnavailableError(text)


def first_offsets(admin: AdminClient, partitions: Iterable[tuple[str, int]], for_s: float) -> _Offsets:
    """The first offset that each partition still holds; asked as :func:`patiently` does.

    Raises:
        KafkaException: the last error.
    """
    return _offsets(admin, partitions, OffsetSpec.earliest(), for_s)  # type: ignore[no-untyped-call]


def end_offsets(
    admin: AdminClient, partitions: Iterable[tuple[str, int]], for_s: float, *, committed: bool = False
) -> _Offsets:
    """The offset after the last of each partition, open transactions included; asked as :func:`patiently` does.

    Args:
        committed: only up to the first transaction that is open.

    Raises:
        KafkaException: the last error.
    """
    level = IsolationLevel.READ_COMMITTED if committed else IsolationLevel.READ_UNCOMMITTED
    return _offsets(admin, partitions, OffsetSpec.latest(), for_s, level)  # type: ignore[no-untyped-call]


def _offsets(
    admin: AdminClient, partitions: Iterable[tuple[str, int]], which: OffsetSpec, for_s: float,
    level: IsolationLevel = IsolationLevel.READ_UNCOMMITTED,
) -> _Offsets:  # fmt: skip
    wanted = {TopicPartition(*p): which for p in partitions}
    if not wanted:
        return {}
    attempt_s = min(ATTEMPT_S, for_s)
    failed = False

    def ask() -> _Offsets:
        nonlocal failed
        if failed:
            # The client asks whom it knows as leaders, and does not learn of others by being refused.
            admin.list_topics(timeout=attempt_s)
        failed = True
        futures = admin.list_offsets(wanted, request_timeout=attempt_s, isolation_level=level)
        return {(p.topic, p.partition): future.result(for_s).offset for p, future in futures.items()}

    return patiently(ask, for_s)
