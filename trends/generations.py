"""Generations as engineers handle them: list them, compare two, promote, roll back, drop.

What is decided here becomes one record in the ``generations`` stream (:mod:`streams.generations`).
"""

from __future__ import annotations

import asyncio
import heapq
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from msgspec.structs import replace

from models.quality import Agreement, agreement
from sinks.postgres.generations import GenerationReader, Redirected, Stored
from sinks.postgres.generations import drop as drop_tables
from sinks.views import TopTrends
from streams.admin import StreamAdmin
from streams.dead_letters import Clock, now_utc
from streams.errors import GenerationError, SettingsError, StreamTableError, UnavailableError
from streams.generations import Generations, read_generations, save
from streams.history import forget
from streams.lag import LagProbe, PartitionLag
from streams.records import Generation, GenerationState
from trends.flows import FLOWS, HISTORY_FLOWS, prepare
from trends.following import described, recorded, with_model
from trends.reading import rising_standings
from trends.settings import Settings

PREVIOUS: Final = 16
"""How many generations back a rollback can go, one after the other."""
READY_S: Final = 5.0
"""A generation whose flows are all at most this far behind has caught up …"""
READY_RECORDS: Final = 1_000
"""… or that has at most this many records waiting in each."""
DIFF_ITEMS: Final = 200_000
"""Common items, the newest, over which two clusterings are compared."""
EXAMPLES: Final = 5
LEAVE_S: Final = 15.0
"""Longer than a process that has just ended is kept as a member by its group, with the default session timeout."""

Progress = Callable[[int, int], None]

# -- list --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Row:
    """One generation, to be shown."""

    name: str
    state: str
    embedder: str
    dimensions: int
    granularity: str
    from_stage: str | None
    from_time: datetime | None
    made_at: datetime | None
    items: int | None
    """None: nothing is stored, or counting takes too long."""
    topics: int | None
    mib: int | None
    """On disk in PostgreSQL."""
    lag_records: int | None
    """Of its flows together; None: its streams are gone."""
    lag_s: float | None
    """How long ago the oldest record was appended that one of its flows has not dealt with."""


def overview(settings: Settings) -> list[Row]:
    """Every generation, the live one first, then the newest.

    Raises:
        UnavailableError: Kafka does not answer.
    """
    generations = read_generations(settings.kafka())
    if generations.live is None:
        generations = _implied(settings, generations)
    order = {GenerationState.LIVE: 0, GenerationState.DROPPED: 2}
    records = sorted(
        generations.named.values(),
        key=lambda r: (order.get(generations.state_of(r.name) or r.state, 1), -r.made_at.timestamp()),
    )
    return [_row(settings, generations, record) for record in records]


def _implied(settings: Settings, generations: Generations) -> Generations:
    """Before anything was recorded: the one of the settings is live."""
    first = described(settings)
    return Generations({**generations.named, first.name: generations.named.get(first.name, first)}, first)


def _row(settings: Settings, generations: Generations, record: Generation) -> Row:
    state = generations.state_of(record.name) or record.state
    gone = state is GenerationState.DROPPED
    lags = None if gone else lag_of(settings, record.name, ages=True)
    stored: Stored | None = None
    if not gone:
        try:
            stored = asyncio.run(_stored(with_model(settings, record)))
        except UnavailableError:
            stored = None
    return Row(
        name=record.name, state=state.value,
        embedder=record.embedder + (f":{record.model}" if record.model else ""), dimensions=record.dimensions,
        granularity=record.granularity, from_stage=record.from_stage, from_time=record.from_time,
        made_at=record.made_at,
        items=stored.items if stored else None, topics=stored.topics if stored else None,
        mib=stored.bytes // 1_048_576 if stored else None,
        lag_records=None if lags is None else sum(lag.records for lag in lags),
        lag_s=None if lags is None else round(max((lag.seconds for lag in lags), default=0.0), 1),
    )  # fmt: skip


async def _stored(settings: Settings) -> Stored | None:
    reader = GenerationReader(settings.postgres())
    try:
        return await reader.stored()
    finally:
        await reader.close()


def lag_of(settings: Settings, name: str, *, ages: bool) -> list[PartitionLag] | None:
    """How far every flow of a generation is behind, by partition; None where a stream of it does not exist."""
    of_it = settings.having(generation=name)
    with ExitStack() as stack:
        probes = [
            stack.enter_context(closing(LagProbe(of_it.kafka(), name, flow, prepare(flow, of_it)[0].inputs)))
            for flow in FLOWS
        ]
        try:
            return [lag for probe in probes for lag in probe.partitions(ages=ages)]
        except StreamTableError:
            return None


def caught_up(lags: Sequence[PartitionLag]) -> bool:
    """Whether flows that read live traffic are as good as at its end (:data:`READY_S`, :data:`READY_RECORDS`)."""
    by_flow: Counter[str] = Counter()
    for lag in lags:
        by_flow[lag.flow] += lag.records
    late = {lag.flow for lag in lags if lag.seconds > READY_S}
    return not any(by_flow[flow] > READY_RECORDS for flow in late)


# -- diff --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Side:
    """One generation of a comparison."""

    name: str
    dimensions: int
    items: int
    topics: int
    only_here: int
    """Items that the other one does not have."""
    examples: tuple[str, ...]
    """Ids of some of them, the newest."""
    single: int
    """Topics of one item."""
    median_size: int
    largest: tuple[int, ...]
    """Sizes of the largest topics."""
    top: tuple[str, ...]
    """Rising trends, the strongest first."""


@dataclass(frozen=True, slots=True)
class Diff:
    """What would change for readers."""

    old: Side
    new: Side
    common: int
    """Items that both have."""
    agreement: Agreement | None
    """How far the new clustering agrees with the old one, over the newest common items; None: there are none."""
    top_common: int
    """Trends that both show among their rising ones."""


def diff(settings: Settings, old: str, new: str, *, items: int = DIFF_ITEMS, top: int = 10) -> Diff:
    """Compares what two generations have stored. Constant memory but for ``items`` pairs of ids.

    Raises:
        SettingsError: one of them is not known, or has nothing stored.
    """
    generations = read_generations(settings.kafka())
    if generations.live is None:
        generations = _implied(settings, generations)
    sides = [_known(generations, name) for name in (old, new)]

    async def compare() -> Diff:
        readers = [
            GenerationReader(with_model(settings, record).postgres(), order=rising_standings) for record in sides
        ]
        try:
            return await _diff(readers[0], readers[1], items, top)
        finally:
            for reader in readers:
                await reader.close()

    return asyncio.run(compare())


def _known(generations: Generations, name: str) -> Generation:
    record = generations.named.get(name)
    if record is None or record.state is GenerationState.DROPPED:
        there = ", ".join(n for n, r in generations.named.items() if r.state is not GenerationState.DROPPED)
        raise SettingsError(f"no generation {name!r}; there are: {there}")
    return record


async def _diff(old: GenerationReader, new: GenerationReader, items: int, top: int) -> Diff:
    common = 0
    pairs: deque[tuple[str, str]] = deque(maxlen=items)
    only: list[int] = [0, 0]
    examples: list[deque[str]] = [deque(maxlen=EXAMPLES), deque(maxlen=EXAMPLES)]
    async for item_id, topics in _side_by_side(old, new):
        if len(topics) == 2:
            common += 1
            pairs.append((topics[0], topics[1]))
        else:
            (side,) = topics
            only[side] += 1
            examples[side].append(item_id)
    tops = [await reader.top(limit=top) for reader in (old, new)]
    sides = [await _side(reader, only[i], tuple(reversed(examples[i])), tops[i]) for i, reader in enumerate((old, new))]
    found = agreement([b for _, b in pairs], [a for a, _ in pairs]) if pairs else None
    return Diff(sides[0], sides[1], common, found, len(set(sides[0].top) & set(sides[1].top)))


async def _side_by_side(old: GenerationReader, new: GenerationReader) -> AsyncIterator[tuple[str, dict[int, str]]]:
    """Every item of either side, with its topic on each side that has it (0, 1); merged in the order of both."""

    async def rows(side: int, reader: GenerationReader) -> AsyncIterator[tuple[datetime, str, int, str]]:
        async for page in reader.placements():
            for first_seen, item_id, topic_id in page:
                yield first_seen, item_id, side, topic_id

    streams = [rows(0, old), rows(1, new)]
    heap = [row for stream in streams if (row := await anext(stream, None)) is not None]
    heapq.heapify(heap)
    while heap:
        first_seen, item_id, side, topic_id = heapq.heappop(heap)
        topics = {side: topic_id}
        if (row := await anext(streams[side], None)) is not None:
            heapq.heappush(heap, row)
        if heap and heap[0][:2] == (first_seen, item_id):
            _, _, side, topic_id = heapq.heappop(heap)
            topics[side] = topic_id
            if (row := await anext(streams[side], None)) is not None:
                heapq.heappush(heap, row)
        yield item_id, topics


async def _side(reader: GenerationReader, only_here: int, examples: tuple[str, ...], top: TopTrends) -> Side:
    stored = await reader.stored()
    if stored is None:
        raise SettingsError(f"nothing is stored for generation {reader.config.generation}")
    sizes = await reader.sizes()
    total, seen, median = sizes.total(), 0, 0
    for size in sorted(sizes):
        seen += sizes[size]
        if 2 * seen >= total:
            median = size
            break
    largest = [size for size in sorted(sizes, reverse=True) for _ in range(min(sizes[size], EXAMPLES))][:EXAMPLES]
    return Side(
        name=reader.config.generation, dimensions=stored.dimensions, items=stored.items, topics=stored.topics,
        only_here=only_here, examples=examples, single=sizes[1], median_size=median, largest=tuple(largest),
        top=tuple(row.trend_id for row in top.trends),
    )  # fmt: skip


# -- promote, roll back ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Promoted:
    """What a promotion or a rollback has done."""

    live: str
    before: str
    redirects: Redirected | None
    """Of the topics of the generation that was live before."""


def promote(
    settings: Settings, name: str, *, force: bool = False, clock: Clock = now_utc, progress: Progress | None = None
) -> Promoted:
    """Makes a generation the one that readers read: redirects of the old topic ids first, then one record.

    Killed in between, the old one is live, and a second call completes it; killed after the record, the new one is.

    Raises:
        SettingsError: there is no such generation, or it is live already.
        GenerationError: it is behind, and ``force`` was not given.
    """
    generations = recorded(settings, clock)
    record = _known(generations, name)
    before = generations.live
    assert before is not None
    if before.name == name:
        raise SettingsError(f"generation {name} is live already")
    if not force:
        _refuse_if_behind(settings, generations, record)
    redirects = redirect(settings, _known(generations, before.name), record, progress)
    previous = (before.name, *(n for n in before.previous if n not in (before.name, name)))[:PREVIOUS]
    _make_live(settings, record, previous, before, clock)
    return Promoted(name, before.name, redirects)


def _refuse_if_behind(settings: Settings, generations: Generations, record: Generation) -> None:
    if generations.state_of(record.name) is GenerationState.BUILDING:
        raise GenerationError(
            f"generation {record.name} is still being built (`trends replay build --generation {record.name}` says how "
            "far it is and goes on); --force promotes it as it is"
        )
    lags = lag_of(settings, record.name, ages=True)
    if lags is None:
        raise GenerationError(f"generation {record.name} has no streams: it cannot be promoted")
    if not caught_up(lags):
        flows = sorted({lag.flow for lag in lags if lag.seconds > READY_S})
        raise GenerationError(
            f"generation {record.name} is {max(lag.seconds for lag in lags):,.0f} s behind "
            f"({', '.join(flows)}; `trends lag --generation {record.name}`): are its flows running "
            f"(`trends run --generation {record.name}`)? --force promotes it as it is"
        )


def redirect(
    settings: Settings, old: Generation, new: Generation, progress: Progress | None = None
) -> Redirected | None:
    """Writes down where the topics of one generation are in another; None where one of them has nothing stored."""

    async def write() -> Redirected | None:
        from sinks.postgres import migrate

        target = with_model(settings, new).postgres()
        await migrate(target)
        source, reader = GenerationReader(with_model(settings, old).postgres()), GenerationReader(target)
        try:
            if await source.stored() is None:
                return None
            return await source.redirect_to(reader, progress or (lambda _done, _of: None))
        finally:
            await source.close()
            await reader.close()

    return asyncio.run(write())


def _make_live(
    settings: Settings, record: Generation, previous: tuple[str, ...], before: Generation, clock: Clock
) -> None:
    """The one record."""
    save(
        settings.kafka(),
        replace(
            record, state=GenerationState.LIVE, previous=previous, changed_at=clock(), version=before.version + 1
        ),
        live=True,
    )  # fmt: skip


def rollback(settings: Settings, *, clock: Clock = now_utc, progress: Progress | None = None) -> Promoted:
    """Makes the generation live that was live before: the record first, at once, then redirects of the newer ids.

    Raises:
        GenerationError: there was none before, or it is dropped.
    """
    generations = read_generations(settings.kafka())
    before = generations.live
    there = [
        name for name in (before.previous if before else ()) if generations.state_of(name) is GenerationState.RETIRED
    ]
    if before is None or not there:
        raise GenerationError("no generation was live before this one (or it is dropped): nothing to go back to")
    record = _known(generations, there[0])
    _make_live(settings, record, tuple(there[1:]), before, clock)
    redirects = redirect(settings, _known(generations, before.name), record, progress)
    return Promoted(record.name, before.name, redirects)


# -- drop --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Dropped:
    """What was deleted."""

    name: str
    streams: int
    groups: int
    tables: bool


def may_drop(settings: Settings, name: str) -> Generation:
    """The generation, if it may be dropped.

    Raises:
        SettingsError: there is no such generation.
        GenerationError: it is live.
    """
    generations = recorded(settings)
    record = generations.named.get(name)
    if record is None:
        raise SettingsError(f"no generation {name!r}; there are: {', '.join(generations.named)}")
    if generations.live is not None and generations.live.name == name:
        raise GenerationError(f"generation {name} is live: promote another one, or roll back, first")
    return record


def drop(settings: Settings, name: str, *, clock: Clock = now_utc) -> Dropped:
    """Deletes a generation for good: groups, streams, tables. A second call, or one after a kill, completes the first.

    It is marked first, so that no process of it starts any more; redirects out of it stay.

    Raises:
        SettingsError, GenerationError: see :func:`may_drop`.
        GenerationError: its flows run.
        UnavailableError: a part does not answer; what is left is deleted by a second call.
    """
    record = may_drop(settings, name)
    kafka = settings.kafka()
    admin = StreamAdmin(kafka, name)
    groups = [kafka.id_of(name, flow) for flow in (*FLOWS, *HISTORY_FLOWS)]
    deadline = time.monotonic() + max(LEAVE_S, 2 * kafka.session_timeout_ms / 1000)
    while busy := admin.members(groups):
        if time.monotonic() > deadline:
            raise GenerationError(
                f"flows of generation {name} are running ({', '.join(busy)}): end them (Ctrl-C of their `trends run` "
                "or `trends replay build`), then drop it again; nothing was deleted"
            )
        time.sleep(0.5)
    if record.state is not GenerationState.DROPPED:
        save(
            kafka, replace(record, state=GenerationState.DROPPED, changed_at=clock(), version=record.version + 1)
        )  # fmt: skip
    gone = admin.delete_groups(groups)
    streams = admin.delete_generation()
    forget(kafka, name)
    tables = asyncio.run(drop_tables(with_model(settings, record).postgres()))
    return Dropped(name, streams, gone, tables)
