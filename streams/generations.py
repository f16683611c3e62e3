"""The ``generations`` stream: which generations there are, and which one readers read. One record makes another live.

Whoever reads follows it (:class:`GenerationsFollower`, or :func:`read_generations` once); only ``trends replay build``
and ``trends generations`` write to it. What they decide stands in :mod:`trends.generations`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import AdminClient

from streams.broker import patiently
from streams.codec import refuse_key
from streams.config import KafkaConfig
from streams.errors import StreamTableError, UnavailableError
from streams.io import Addresser
from streams.records import Generation, GenerationState
from streams.state import ControlReader
from streams.table import GENERATIONS

LIVE: Final = "live"
"""The key of the record that says which generation is live; no generation has this name."""
TIMEOUT_S: Final = 10.0
"""Longest wait for a broker that may have been asked in vain."""
DELIVERY_TIMEOUT_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Generations:
    """The generations that there are, by name, and the record of the live one (None: nothing was ever built)."""

    named: Mapping[str, Generation] = field(default_factory=dict)
    live: Generation | None = None

    def state_of(self, name: str) -> GenerationState | None:
        """What a generation is now: live and retired follow from the one record, so that they cannot contradict it."""
        record = self.named.get(name)
        if record is None:
            return None
        if record.state is GenerationState.DROPPED:
            return record.state
        if self.live is not None and name == self.live.name:
            return GenerationState.LIVE
        if self.live is not None and name in self.live.previous:
            return GenerationState.RETIRED
        return record.state


class GenerationsFollower:
    """First all that was written, then every change. Call :meth:`poll` now and then.

    Raises:
        StreamTableError: the stream does not exist.
        UnavailableError: the broker does not answer.
    """

    def __init__(self, kafka: KafkaConfig) -> None:
        self._named: dict[str, Generation] = {}
        self._live: Generation | None = None
        if not exists(kafka):
            raise StreamTableError(f"stream {_name(kafka)} does not exist; create it with `trends streams apply`")
        self._reader = ControlReader(kafka, GENERATIONS, Generation, self._restore)
        try:
            self._reader.catch_up(lambda: None)
        except BaseException:
            self._reader.close()
            raise

    def _restore(self, key: bytes, record: Generation | None) -> None:
        name = key.decode("utf-8", "replace")
        if record is not None and name != LIVE:
            refuse_key(key, record.name)
        if name == LIVE:
            self._live = record
        elif record is None:
            self._named.pop(name, None)
        else:
            self._named[name] = record

    @property
    def now(self) -> Generations:
        """What has been read so far."""
        return Generations(dict(self._named), self._live)

    def poll(self, timeout_s: float = 0.0) -> Generations:
        """Applies what is new."""
        self._reader.poll(timeout_s)
        return self.now

    def close(self) -> None:
        """Leaves the broker."""
        self._reader.close()


def read_generations(kafka: KafkaConfig) -> Generations:
    """The generations as they stand; none where the stream does not exist.

    Raises:
        UnavailableError: the broker does not answer.
    """
    if not exists(kafka):
        return Generations()
    follower = GenerationsFollower(kafka)
    try:
        return follower.now
    finally:
        follower.close()


def exists(kafka: KafkaConfig) -> bool:
    """Whether the stream is there.

    Raises:
        UnavailableError: the broker does not answer.
    """
    config: dict[str, Any] = kafka.client(**{"client.id": kafka.id_of("generations")})
    admin = AdminClient(config)
    try:
        return _name(kafka) in patiently(lambda: admin.list_topics(timeout=TIMEOUT_S), TIMEOUT_S).topics
    except KafkaException as error:
        raise UnavailableError(f"asking {kafka.bootstrap} for its generations: {error}") from None


def save(kafka: KafkaConfig, record: Generation, *, live: bool = False) -> None:
    """Writes one record, under its name or (``live``) as the one that readers read; acknowledged when this returns.

    Raises:
        UnavailableError: it was not acknowledged; what stood there before still holds.
    """
    config: dict[str, Any] = kafka.client(
        **{
            "client.id": kafka.id_of("generations"),
            "enable.idempotence": True,
            "message.timeout.ms": int(DELIVERY_TIMEOUT_S * 1000),
        }
    )
    producer = Producer(config)
    failed: list[str] = []
    out = Addresser(kafka, record.name).record(GENERATIONS, record, LIVE if live else record.name)

    def delivered(error: Any, _message: Any) -> None:
        if error is not None:
            failed.append(error.str())

    headers: Any = out.headers
    producer.produce(out.stream, out.value, out.key, 0, on_delivery=delivered, headers=headers)
    left = producer.flush(DELIVERY_TIMEOUT_S + 1)
    if failed or left:
        raise UnavailableError(f"writing to {out.stream}: {failed[0] if failed else 'not acknowledged in time'}")


def _name(kafka: KafkaConfig) -> str:
    return GENERATIONS.physical(kafka, "")
