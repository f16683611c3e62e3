"""A publisher in memory, hands that tests turn, and short ways to run connectors. No behaviour is checked here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from connectors.base import Batch, Clockwork, Connector, Context, Limits, Sighting
from connectors.http import Fetcher
from connectors.runner import Progress, Runner, SourceReport
from streams.errors import UnavailableError
from streams.records import Kind, Observation, SourceGap

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@dataclass(frozen=True)
class Home:
    """A route."""

    trend_id: str = "t"
    mentions: tuple[str, ...] = ()


def by_first_word(seen: Sighting) -> Home:
    """A router for tests."""
    return Home((seen.title.split() or ["none"])[0].lower())


class Hands:
    """A clock that moves only when somebody sleeps, and then at once."""

    def __init__(self, now: datetime = NOW) -> None:
        self.at_s = 0.0
        self.slept: list[float] = []
        self._start = now

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self.at_s)

    def monotonic(self) -> float:
        return self.at_s

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.at_s += max(0.0, seconds)
        await asyncio.sleep(0)

    def clockwork(self) -> Clockwork:
        return Clockwork(self.now, self.monotonic, self.sleep, lambda: 0.5)


@dataclass
class Memory:
    """A publisher that remembers. ``fails`` says how many publishes are refused; ``gate`` holds them up."""

    delivered: list[Observation] = field(default_factory=list)
    cursors: dict[str, bytes] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)
    gaps: list[SourceGap] = field(default_factory=list)
    fails: int = 0
    gate: asyncio.Event | None = None

    async def publish(self, observations: Sequence[Observation]) -> None:
        if self.gate is not None:
            await self.gate.wait()
        await asyncio.sleep(0)
        if self.fails:
            self.fails -= 1
            raise UnavailableError("not acknowledged")
        self.delivered.extend(observations)
        self.log.append(f"publish {len(observations)}")

    async def load_cursor(self, connector: str) -> bytes | None:
        return self.cursors.get(connector)

    async def save_cursor(self, connector: str, cursor: bytes, items: int) -> None:
        self.cursors[connector] = cursor
        self.log.append("cursor")

    async def save_gap(self, gap: SourceGap) -> None:
        self.gaps.append(gap)

    def titles(self) -> list[str]:
        return [each.title for each in self.delivered]


def sighting(number: int = 1, title: str | None = None, source: str = "file", kind: Kind = Kind.POST) -> Sighting:
    """Some item."""
    return Sighting(
        source=source,
        external_id=str(number),
        kind=kind,
        title=f"item {number}" if title is None else title,
        observed_at=NOW,
        published_at=NOW,
    )


class Scripted:
    """A connector whose passes are written in the test. The cursor is the number of sightings behind."""

    interval_s: float | None = None

    def __init__(
        self,
        script: Callable[[int, Context], AsyncGenerator[Batch, None]],
        name: str = "scripted",
        limits: Limits | None = None,
    ) -> None:
        self.name = name
        self.source = "file"
        self.limits = limits or Limits(attempts=3, stall_s=5.0)
        self._script = script

    async def batches(self, cursor: bytes | None, context: Context) -> AsyncGenerator[Batch, None]:
        async for batch in self._script(int(cursor or b"0"), context):
            yield batch


def batch(*numbers: int, bad: tuple[str, ...] = ()) -> Batch:
    """The items of these numbers; the cursor is the last."""
    return Batch(tuple(sighting(n) for n in numbers), str(numbers[-1]).encode() if numbers else b"0", bad)


async def collect(
    connector: Connector, memory: Memory | None = None, hands: Hands | None = None, **options: object
) -> tuple[SourceReport, Memory]:
    """One run of one connector."""
    memory = memory or Memory()
    hands = hands or Hands()
    runner = Runner(memory, by_first_word, clockwork=hands.clockwork(), **options)  # type: ignore[arg-type]
    (report,) = await runner.run([connector])
    return report, memory


async def read(connector: Connector, cursor: bytes | None = None, hands: Hands | None = None) -> list[Batch]:
    """All batches of one pass, without a runner."""
    clockwork = (hands or Hands()).clockwork()
    async with Fetcher(connector.source, connector.limits, clockwork) as fetcher:
        return [each async for each in connector.batches(cursor, Context(clockwork, fetcher))]


def sightings(batches: Sequence[Batch]) -> list[Sighting]:
    return [seen for each in batches for seen in each.sightings]


def bad_rows(batches: Sequence[Batch]) -> list[str]:
    return [line for each in batches for line in each.bad]


class Notes:
    """A progress callback that remembers."""

    def __init__(self) -> None:
        self.all: list[Progress] = []

    def __call__(self, progress: Progress) -> None:
        self.all.append(progress)
