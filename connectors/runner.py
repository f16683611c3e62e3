"""Runs connectors side by side and delivers what they see: routed, in batches, the cursor only after the delivery.

Each source has its own tasks, pool, limits and queue: one that fails, hangs or limits hurts itself alone. What all
share is Kafka: when it is gone, the run ends.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from connectors.base import Batch, Clockwork, Connector, Context, Publisher, Route, RouteFn, Sighting, SourceError
from connectors.http import Fetcher, FetchError, Pulse
from streams import metrics
from streams.errors import SettingsError, TrendsError, UnavailableError
from streams.records import Observation, SourceGap

log = logging.getLogger(__name__)

PUBLISHING: Final = 2
"""Batches that may be on their way to Kafka at once, over all sources."""
PRIORITY_HEAD_START: Final = 8
"""How many later arrivals one step of priority lets overtake."""
DELIVERY_ATTEMPTS: Final = 3
"""Of one batch; each waits up to the publisher's own delivery timeout."""
CURSOR_SAVE_S: Final = 1.0
"""Least time between two saves of a cursor; at the end of a pass it is always saved."""
CLOSING_S: Final = 5.0
"""How long a cancelled source may take to save its cursor and to close."""
ROUTES_KEPT: Final = 50_000
"""Items of one source whose route is remembered. Not state: an item that was just sent must not be overtaken by its own
edit or deletion in another partition; what is older has long arrived, and cluster settles its home."""
SAMPLES: Final = 5
"""Bad rows that the report shows; the others are counted."""
FOLLOWING_STEPS: Final = 4
"""Doublings that the pause after a failed pass begins with when following."""
GAP_S: Final = 1_800.0
"""A source that was not read for so long has a gap: half of the slices that scores are made of."""
REASON_CHARS: Final = 200
FAILURES_WAIT_MAX_S: Final = 600.0
"""Longest pause after passes that failed."""


class DeliveryError(UnavailableError):
    """Kafka did not take a batch, in all attempts: this ends the run, not just a source."""


@dataclass(frozen=True, slots=True)
class SourceReport:
    """What one connector has done in this run."""

    name: str
    source: str
    delivered: int
    """Sightings acknowledged."""
    bad: int
    samples: tuple[str, ...]
    """The first few bad rows."""
    passes: int
    """Passes that came to their end."""
    failures: int
    """Passes that did not."""
    requests: int
    retries: int
    limited: int
    """Answers that asked to slow down."""
    error: str | None
    """Why the last pass failed; None if it did not."""
    seconds: float

    @property
    def ok(self) -> bool:
        return self.error is None


@dataclass(frozen=True, slots=True)
class Progress:
    """Given to the progress callback after every delivered batch and when a source is done or fails."""

    name: str
    delivered: int
    bad: int
    fraction: float | None
    """How much of this pass is done, 0 … 1; None where that cannot be known."""
    note: str = ""


ProgressFn = Callable[[Progress], None]


class Turns:
    """A few places at the publisher, given by priority and arrival; a low priority waits longer, never for ever."""

    def __init__(self, places: int) -> None:
        self._free = places
        self._arrivals = 0
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []

    @asynccontextmanager
    async def turn(self, priority: int) -> AsyncIterator[None]:
        """Holds one place."""
        await self._take(priority)
        try:
            yield
        finally:
            self._give()

    async def _take(self, priority: int) -> None:
        self._arrivals += 1
        if self._free and not self._waiting:
            self._free -= 1
            return
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (self._arrivals + priority * PRIORITY_HEAD_START, self._arrivals, mine))
        try:
            await mine
        except asyncio.CancelledError:
            if mine.done() and not mine.cancelled():
                self._give()
            raise

    def _give(self) -> None:
        while self._waiting:
            _, _, first = heapq.heappop(self._waiting)
            if not first.done():
                first.set_result(None)
                return
        self._free += 1


@dataclass(slots=True)
class _Tally:
    """The counts of a source while it runs."""

    started: float
    delivered: int = 0
    bad: int = 0
    samples: list[str] = field(default_factory=list)
    passes: int = 0
    failures: int = 0
    error: str | None = None
    ended: float | None = None


class _Source:
    """One connector at work: its passes, its queue, its cursor."""

    def __init__(self, connector: Connector, runner: Runner) -> None:
        self.connector = connector
        self._runner = runner
        self._clockwork = runner.clockwork
        self.fetcher = Fetcher(connector.source, connector.limits, self._clockwork)
        self.tally = _Tally(started=self._clockwork.monotonic())
        self._cursor: bytes | None = None
        """Of the last batch that was delivered."""
        self._saved: bytes | None = None
        self._saved_at = -CURSOR_SAVE_S
        self._routes: OrderedDict[str, Route] = OrderedDict()
        self._read_at = self._clockwork.now()
        """When the source was last read to the end of a pass."""
        metrics.QUEUE_BOUND.labels(f"collect.{connector.source}").set(connector.limits.queue_batches)

    async def run(self) -> None:
        """All passes: one, or one after the other. A failure of the source ends up in the tally."""
        try:
            if self._runner.resume:
                self._cursor = self._saved = await self._runner.publisher.load_cursor(self.connector.name)
            async with self.fetcher:
                await self._passes()
        finally:
            self.tally.ended = self._clockwork.monotonic()
            await self._close()
            self._tell(None, "done" if self.tally.error is None else f"failed: {self.tally.error}")

    async def _passes(self) -> None:
        limits, failed = self.connector.limits, 0
        while True:
            try:
                await self._pass()
                await self._save()
                await self._gap(self.tally.error)
                self._read_at = self._clockwork.now()
            except DeliveryError:
                raise
            except Exception as error:
                # Whatever it is, a source hurts itself alone; an error of ours stands in the log with its trace.
                expected = isinstance(error, TrendsError | OSError)
                log.log(
                    logging.WARNING if expected else logging.ERROR, "%s: %s", self.connector.name, error,
                    exc_info=None if expected else error,
                )  # fmt: skip
                failed += 1
                self.tally.failures += 1
                self.tally.error = str(error) or type(error).__name__
                self._tell(None, self.tally.error)
                await self._gap(self.tally.error)
                if isinstance(error, SettingsError) or (isinstance(error, SourceError) and not error.again):
                    return
                wait = self._pause_after(failed, error)
            else:
                failed = 0
                self.tally.passes += 1
                self.tally.error = None
                if self.connector.interval_s is None or not self._runner.follow:
                    return
                wait = self.connector.interval_s * (0.9 + 0.2 * self._clockwork.random())
            if not self._runner.follow and failed >= limits.attempts:
                return
            await self._clockwork.sleep(wait)

    async def _gap(self, error: str | None) -> None:
        """Says that what is followed was not read for a while; the same gap, longer, as long as that goes on."""
        now = self._clockwork.now()
        if error is None or not self._runner.follow or self.connector.interval_s is None:
            return
        if (now - self._read_at).total_seconds() < GAP_S:
            return
        gap = SourceGap(
            source=self.connector.source, connector=self.connector.name, since=self._read_at, until=now,
            reason=error[:REASON_CHARS],
        )  # fmt: skip
        try:
            await self._runner.publisher.save_gap(gap)
        except UnavailableError as unsaid:
            raise DeliveryError(f"gap of {self.connector.name}: {unsaid}") from unsaid

    def _pause_after(self, failed: int, error: Exception) -> float:
        asked = error.retry_after_s if isinstance(error, FetchError) else None
        # Whoever follows has time: a source that is away is not asked every second.
        steps = failed + FOLLOWING_STEPS if self._runner.follow else failed
        return min(max(asked or 0.0, self._clockwork.backoff_s(steps, self.connector.limits)), FAILURES_WAIT_MAX_S)

    async def _pass(self) -> None:
        """One pass from the last delivered batch on."""
        queue: asyncio.Queue[Batch | None] = asyncio.Queue(self.connector.limits.queue_batches)
        context = Context(self._clockwork, self.fetcher)
        context.http.pulse.beat()
        reader = asyncio.create_task(self._read(queue, context), name=f"read {self.connector.name}")
        try:
            while (batch := await self._next(queue, reader, context.http.pulse)) is not None:
                await self._to_its_end(asyncio.create_task(self._deliver(batch)))
        finally:
            reader.cancel()
            await asyncio.wait([reader], timeout=CLOSING_S)
            metrics.QUEUE_RECORDS.labels(f"collect.{self.connector.source}").set(0)
        if not reader.cancelled() and (error := reader.exception()) is not None:
            raise error

    async def _to_its_end(self, delivery: asyncio.Task[None]) -> None:
        """Waits for a delivery; a cancellation lets it end first, so that what is on its way is not sent twice."""
        try:
            await asyncio.shield(delivery)
        except asyncio.CancelledError:
            await asyncio.wait([delivery], timeout=CLOSING_S)
            delivery.cancel()
            await asyncio.gather(delivery, return_exceptions=True)
            raise

    async def _read(self, queue: asyncio.Queue[Batch | None], context: Context) -> None:
        """Fills the queue; waits where it is full (Kafka is slow)."""
        try:
            async with aclosing(self.connector.batches(self._cursor, context)) as batches:
                async for batch in batches:
                    await queue.put(batch)
                    metrics.QUEUE_RECORDS.labels(f"collect.{self.connector.source}").set(queue.qsize())
                    context.http.pulse.beat()
        finally:
            # What was read before a failure is still delivered: the error is raised after it.
            if not _cancelled():
                await queue.put(None)

    async def _next(self, queue: asyncio.Queue[Batch | None], reader: asyncio.Task[None], pulse: Pulse) -> Batch | None:
        """The next batch; None at the end.

        Raises:
            SourceError: nothing has happened for too long.
        """
        stall_s = self.connector.limits.stall_s
        while True:
            if stall_s is None:
                return await queue.get()
            left = stall_s - pulse.silent_s()
            try:
                async with asyncio.timeout(max(0.01, left)):  # wait_for of Python 3.11 can lose a cancellation
                    return await queue.get()
            except TimeoutError:
                if pulse.silent_s() >= stall_s and not reader.done():
                    raise SourceError(f"{self.connector.name}: nothing has happened for {stall_s:g} s") from None

    async def _deliver(self, batch: Batch) -> None:
        """Routes and publishes one batch, then moves the cursor.

        Raises:
            DeliveryError: Kafka does not take it.
        """
        if batch.sightings:
            observations = [seen.routed(self._route(seen)) for seen in batch.sightings]
            await self._publish(observations)
            metrics.SOURCE_ITEMS.labels(self.connector.source).inc(len(observations))
            metrics.BATCH_RECORDS.labels("collect").observe(len(observations))
        if batch.bad:
            metrics.SOURCE_BAD_ROWS.labels(self.connector.source).inc(len(batch.bad))
        self.tally.delivered += len(batch.sightings)
        self.tally.bad += len(batch.bad)
        self.tally.samples.extend(batch.bad[: SAMPLES - len(self.tally.samples)])
        self._cursor = batch.cursor
        if self._clockwork.monotonic() - self._saved_at >= CURSOR_SAVE_S:
            await self._save()
        self._tell(batch.fraction)

    def _route(self, seen: Sighting) -> Route:
        """The way of the item's first sighting, else the router's."""
        item_id = seen.item_id
        route = self._routes.get(item_id)
        if route is None:
            route = self._routes[item_id] = self._runner.route(seen)
            if len(self._routes) > ROUTES_KEPT:
                self._routes.popitem(last=False)
        else:
            self._routes.move_to_end(item_id)
        return route

    async def _publish(self, observations: Sequence[Observation]) -> None:
        for attempt in range(1, DELIVERY_ATTEMPTS + 1):
            try:
                async with self._runner.turns.turn(self.connector.limits.priority):
                    await self._runner.publisher.publish(observations)
                return
            except UnavailableError as error:
                if attempt == DELIVERY_ATTEMPTS:
                    raise DeliveryError(str(error)) from error
                log.warning("%s: %s; attempt %d of %d", self.connector.name, error, attempt + 1, DELIVERY_ATTEMPTS)
                await self._clockwork.sleep(self._clockwork.backoff_s(attempt, self.connector.limits))

    async def _save(self) -> None:
        """Saves the cursor of what is delivered, where it has moved."""
        if self._cursor is None or self._cursor == self._saved:
            return
        cursor = self._cursor
        try:
            await self._runner.publisher.save_cursor(self.connector.name, cursor, self.tally.delivered)
        except UnavailableError as error:
            raise DeliveryError(f"cursor of {self.connector.name}: {error}") from error
        self._saved = cursor
        self._saved_at = self._clockwork.monotonic()

    async def _close(self) -> None:
        """The last cursor, also when the run is being cancelled: what is delivered is not read again."""
        try:
            async with asyncio.timeout(CLOSING_S):
                await self._save()
        except (UnavailableError, TimeoutError) as error:
            log.warning("%s: the last cursor is not saved (%s); the next run repeats a little", self.connector.name,
                        error or "no answer")  # fmt: skip

    def _tell(self, fraction: float | None, note: str = "") -> None:
        if self._runner.progress is not None:
            self._runner.progress(Progress(self.connector.name, self.tally.delivered, self.tally.bad, fraction, note))

    def report(self) -> SourceReport:
        tally = self.tally
        return SourceReport(
            name=self.connector.name,
            source=self.connector.source,
            delivered=tally.delivered,
            bad=tally.bad,
            samples=tuple(tally.samples),
            passes=tally.passes,
            failures=tally.failures,
            requests=self.fetcher.requests,
            retries=self.fetcher.retries,
            limited=self.fetcher.limited,
            error=tally.error,
            seconds=(self._clockwork.monotonic() if tally.ended is None else tally.ended) - tally.started,
        )


class Runner:
    """Collects from several sources at once. `run` until all are done, or, with ``follow``, until it is cancelled."""

    def __init__(
        self,
        publisher: Publisher,
        route: RouteFn,
        *,
        follow: bool = False,
        resume: bool = True,
        progress: ProgressFn | None = None,
        clockwork: Clockwork | None = None,
    ) -> None:
        self.publisher = publisher
        self.route = route
        self.follow = follow
        self.resume = resume
        """Whether saved cursors count; without, every source is read from its beginning."""
        self.progress = progress
        self.clockwork = clockwork or Clockwork()
        self.turns = Turns(PUBLISHING)
        self._sources: list[_Source] = []

    async def run(self, connectors: Sequence[Connector]) -> tuple[SourceReport, ...]:
        """Collects from all of them; the reports in their order. What failed says so in its report.

        Raises:
            DeliveryError: Kafka takes nothing any more; cursors stand at what was acknowledged.
            ValueError: two connectors of one name, which would share a cursor.
        """
        names = [connector.name for connector in connectors]
        if len(set(names)) != len(names):
            raise ValueError(f"named twice: {', '.join(sorted({n for n in names if names.count(n) > 1}))}")
        self._sources = [_Source(connector, self) for connector in connectors]
        tasks = [asyncio.create_task(source.run(), name=source.connector.name) for source in self._sources]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return self.reports()

    def reports(self) -> tuple[SourceReport, ...]:
        """What every source has done so far; also while it runs, and after a cancellation."""
        return tuple(source.report() for source in self._sources)


def _cancelled() -> bool:
    """Whether the running task is being cancelled."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
