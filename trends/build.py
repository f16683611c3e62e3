"""Building the next generation beside the live one: what history it reads, in which phases, and how far it is.

A build has three phases. *older*: items that the log no longer holds come from the live generation's stores. *copy*
(from stage embedded alone): the live generation's vectors, up to where its embed flow stood when the build was begun.
*embed*: the raw streams, from their beginning, or from just there. All other flows run from the start. A record that
reaches the new generation twice changes nothing, because cluster settles repeats by identity; so phases may overlap by
a moment, and must not leave a hole. Everything that decides where a phase begins and ends is written down before the
first one (:class:`Plan`), so a build that was killed goes on.
"""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec
import numpy as np
from msgspec.structs import replace

from sinks.postgres import migrate
from sinks.postgres.generations import GenerationReader
from streams.admin import StreamAdmin
from streams.dead_letters import Clock, now_utc
from streams.errors import GenerationError, SettingsError
from streams.generations import LIVE, read_generations, save
from streams.history import HistoryWriter, Offsets, reached
from streams.io import Addresser, Outgoing, Partition
from streams.lag import LagProbe
from streams.records import (
    EmbeddedItem,
    Engagement,
    FromStage,
    Generation,
    GenerationState,
    Granularity,
    Kind,
    Observation,
)
from streams.table import EMBEDDED, HISTORY, RAW, of_generation
from streams.throttle import Throttle
from trends.flow_processes import flow_supervisor, specs_of
from trends.flows import FLOWS, embedder_of, prepare
from trends.following import recorded, with_model
from trends.generations import caught_up, lag_of
from trends.settings import Settings
from trends.supervisor import Echo, Supervisor
from trends.yielding import yielding

SKEW: Final = timedelta(hours=1)
"""How far the clock of a connector may be behind the broker's: an item that was observed so long after the log begins
is taken from the stores as well."""
WRITE_RECORDS: Final = 500
"""Items from the stores in one transaction."""
LOOK_S: Final = 1.0
"""How often a build looks how far it is."""
RATE_S: Final = 20.0
"""Over about how long the rate is averaged that the expected end is computed from."""
COUNT_S: Final = 600.0
"""Longest run of one query that looks over all items of a generation."""
STOP_S: Final = 30.0


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Where each phase begins and ends. Fixed when a build is begun, but for how far the first phase has come."""

    embed_from: dict[str, int]
    """``stream/partition`` → offset in the raw streams."""
    copy_from: dict[str, int] = {}
    copy_to: dict[str, int] = {}
    older: dict[str, datetime] = {}
    """Source → items last observed before this come from the stores; ``*``: of every source."""
    older_items: int = 0
    after: tuple[datetime, str] | None = None
    """(first_seen, item_id) of the last item that came from them."""
    written: int = 0
    complete: bool = False
    """Whether all of them have come."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a build was asked for; None: as the live generation has it."""

    name: str
    stage: FromStage | None = None
    """None: raw, or as it was begun."""
    embedder: str | None = None
    model: str | None = None
    url: str | None = None
    dimensions: int | None = None
    since: datetime | None = None
    granularity: Granularity | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """How far a build is."""

    generation: str
    phase: str
    """older, copy, embed, or fed: it has caught up, and is fed beside the live one."""
    done: int
    total: int
    """Records of history; grows with live traffic."""
    rate: float
    """Records a second."""
    left_s: float | None
    """Until the end, as things go; None: not known yet."""
    waiting: int
    """Records that the generation's other flows have not dealt with."""
    restarts: int


# -- beginning ---------------------------------------------------------------------------------------------------------


def begin(settings: Settings, wanted: Wanted, clock: Clock = now_utc) -> tuple[Settings, Generation, Plan]:
    """Records a generation, makes its streams and tables, and writes down the plan; or finds what was begun before.

    Returns:
        The settings of its flows, its record, and the plan with how far it has come.

    Raises:
        SettingsError: the name cannot be used, or what is asked for contradicts what was begun under it.
        GenerationError: the generation exists and was not built, or is live.
        UnavailableError: a part does not answer.
    """
    generations = recorded(settings, clock)
    live = generations.live
    assert live is not None
    record = generations.named.get(wanted.name)
    if record is None:
        record = _new_record(settings, wanted, live, clock)
    else:
        _check_same(record, wanted)
        if live.name == record.name or record.from_stage is None or record.built_from is None:
            raise GenerationError(f"generation {record.name} is live, or was not built: its flows run by `trends run`")
    target = with_model(settings, record)
    target.postgres()  # a name that can be no schema is told before anything is made
    StreamAdmin(target.kafka(), record.name).apply()
    asyncio.run(migrate(target.postgres()))
    if record.name not in generations.named:
        save(target.kafka(), record)
    plan = read_plan(target, record) or _make_plan(settings, target, record)
    offsets = Offsets(target.kafka(), record.name)
    with closing(offsets):
        offsets.begin_at("embed", _partitions(plan.embed_from))
        if plan.copy_from:
            offsets.begin_at("copy", _partitions(plan.copy_from))
    return target, record, plan


def _new_record(settings: Settings, wanted: Wanted, live: Generation, clock: Clock) -> Generation:
    if wanted.name == LIVE:
        raise SettingsError(f"{LIVE} is no generation's name; take g2, g3, …")
    at, stage = clock(), wanted.stage or FromStage.RAW
    if stage is FromStage.EMBEDDED:
        for name in ("embedder", "model", "url", "dimensions"):
            given = getattr(wanted, name)
            if given is not None and given != getattr(live, name):
                raise SettingsError(
                    f"--from-stage embedded takes the vectors of {live.name}: --{name} {given} needs --from-stage raw"
                )
    try:
        record = msgspec.convert(
            {
                "name": wanted.name, "state": GenerationState.BUILDING, "embedder": wanted.embedder or live.embedder,
                "model": wanted.model or (live.model if wanted.embedder in (None, live.embedder) else None),
                "url": wanted.url or live.url, "dimensions": wanted.dimensions or live.dimensions,
                "granularity": wanted.granularity or live.granularity,
                "built_from": live.name, "from_stage": stage, "from_time": wanted.since, "made_at": at,
                "changed_at": at, "version": 1,
            },
            Generation,
        )  # fmt: skip
    except msgspec.ValidationError as error:
        raise SettingsError(f"generation {wanted.name!r}: {error}") from None
    if stage is FromStage.RAW:
        embedder_of(with_model(settings, record)).close()  # a model that cannot be made, or has other dimensions
    return record


def _check_same(record: Generation, wanted: Wanted) -> None:
    """That a build which was begun goes on as it was begun."""
    if record.state is GenerationState.DROPPED:
        raise SettingsError(f"generation {record.name} is dropped, and its name not used again: take another one")
    asked = {
        "--from-stage": (wanted.stage, record.from_stage), "--embedder": (wanted.embedder, record.embedder),
        "--model": (wanted.model, record.model), "--url": (wanted.url, record.url),
        "--dimensions": (wanted.dimensions, record.dimensions), "--from": (wanted.since, record.from_time),
        "--granularity": (wanted.granularity, record.granularity),
    }  # fmt: skip
    for option, (given, there) in asked.items():
        if given is not None and given != there:
            raise SettingsError(
                f"generation {record.name} was begun with {option} {there}, not {given}: leave the option away to go "
                "on with it, or take another name"
            )


def read_plan(settings: Settings, record: Generation) -> Plan | None:
    """The plan of a generation, with how far it has come; None: there is none yet.

    Raises:
        GenerationError: what is recorded as its plan is none.
    """
    cursor = reached(settings.kafka(), record.name)
    try:
        return None if cursor is None else msgspec.json.decode(cursor, type=Plan)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise GenerationError(
            f"the plan of generation {record.name}, in the stream of cursors, cannot be read ({error}): "
            f"`trends generations drop {record.name}`, and build it again under another name"
        ) from None


def _make_plan(settings: Settings, target: Settings, record: Generation) -> Plan:
    kafka, source = target.kafka(), record.built_from
    assert source is not None
    with closing(Offsets(kafka, record.name)) as offsets:
        raw = offsets.spans(RAW)
        if record.from_stage is FromStage.RAW:
            older = {s.name.removeprefix("raw."): (s,) for s in RAW}
            plan = Plan(embed_from=_text({p: low for p, (low, _) in raw.items()}))
        else:
            # What the embed flow had committed comes from its output, which ends no sooner: first the one is asked,
            # then the other. What lies between comes twice.
            committed = offsets.committed(source, "embed", raw)
            vectors = offsets.spans([of_generation(EMBEDDED, source)])
            older = {"*": (of_generation(EMBEDDED, source),)}
            plan = Plan(
                embed_from=_text({p: committed.get(p, low) for p, (low, _) in raw.items()}),
                copy_from=_text({p: low for p, (low, _) in vectors.items()}),
                copy_to=_text({p: high for p, (_, high) in vectors.items()}),
            )
        missing = {}
        for name, streams in older.items():
            gone = [(p, low) for p, (low, _) in offsets.spans(streams).items() if low > 0]
            if gone:  # retention has deleted something of it
                begins = [offsets.oldest(p, low) or record.made_at for p, low in gone]
                missing[name] = max(begins) + SKEW
    if missing:
        plan = replace(plan, older=missing, older_items=_count_older(settings, source, missing, record.from_time))
    plan = replace(plan, complete=not missing)
    with closing(HistoryWriter(kafka, record.name)) as writer:
        writer.write([], msgspec.json.encode(plan), 0)
    return plan


def _text(offsets: Mapping[Partition, int]) -> dict[str, int]:
    return {f"{stream}/{number}": offset for (stream, number), offset in offsets.items()}


def _partitions(offsets: Mapping[str, int]) -> dict[Partition, int]:
    found = {}
    for place, offset in offsets.items():
        stream, _, number = place.rpartition("/")
        found[(stream, int(number))] = offset
    return found


# -- items that the log no longer holds --------------------------------------------------------------------------------


def _is_older(row: Mapping[str, Any], older: Mapping[str, datetime]) -> bool:
    before = older.get("*") or older.get(row["source"])
    return before is not None and row["observed_at"] < before and not row["deleted"]


def _reader(settings: Settings, source: str) -> GenerationReader:
    """The stores of the generation that was live; counting all of them may take a while."""
    config = settings.having(generation=source).postgres()
    return GenerationReader(dataclasses.replace(config, read_timeout_s=COUNT_S))


def _count_older(settings: Settings, source: str, older: Mapping[str, datetime], since: datetime | None) -> int:
    async def count() -> int:
        reader = _reader(settings, source)
        try:
            return await reader.count_older(older, since)
        finally:
            await reader.close()

    return asyncio.run(count())


def observation_of(row: Mapping[str, Any]) -> Observation:
    """An item of the stores as the observation that it was last, with the event time that it first had."""
    # event time = min(published, observed): where it was published "later" than it was first seen, the latter counts.
    observed_at = row["observed_at"] if row["published_at"] <= row["first_seen"] else row["first_seen"]
    return Observation(
        item_id=row["item_id"], source=row["source"], external_id=row["external_id"], kind=Kind(row["kind"]),
        title=row["title"], observed_at=observed_at, published_at=row["published_at"], trend_id=row["trend_id"],
        url=row["url"], body=row["body"], author=row["author"], publisher=row["publisher"], lang=row["lang"],
        tags=tuple(row["tags"]), category=row["category"],
        engagement=Engagement(points=row["points"], comments=row["comments"], shares=row["shares"],
                              stars=row["stars"], views=row["views"]),
        mentions=tuple(row["mentions"]),
    )  # fmt: skip


def wire_vector(binary: bytes | None) -> str | None:
    """The vector on the wire from pgvector's binary halfvec: the same float16 components."""
    if binary is None:
        return None
    return base64.b64encode(np.frombuffer(binary, dtype=">f2", offset=4).astype("<f2").tobytes()).decode("ascii")


class OlderItems:
    """Writes items of the live generation's stores into the new one, oldest first, in a thread of its own.

    From stage raw they go to ``items.history``, where the flow of that name embeds them; from stage embedded, with the
    vectors that are stored, straight to ``items.embedded``.
    """

    def __init__(self, settings: Settings, target: Settings, record: Generation, plan: Plan) -> None:
        self._settings = settings
        self._target = target
        self._record = record
        self.plan = plan
        """With how far it has come."""
        self.failure: BaseException | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, name="older-items", daemon=True)

    def start(self) -> None:
        """Begins, or goes on."""
        self._thread.start()

    @property
    def running(self) -> bool:
        """Whether there is more to come."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """Ends after the transaction that is being written."""
        self._ended.set()
        if self._thread.ident is not None:
            self._thread.join(STOP_S)

    def _work(self) -> None:
        try:
            with yielding(self._settings, f"{self._record.name}.older", own=self._record.name) as throttle:
                asyncio.run(self._write(throttle))
        except Exception as error:
            self.failure = error

    async def _write(self, throttle: Throttle) -> None:
        source = self._record.built_from
        assert source is not None
        writer = HistoryWriter(self._target.kafka(), self._record.name)
        reader = _reader(self._settings, source)
        try:
            after = self.plan.after
            if after is None and self._record.from_time is not None:
                after = (self._record.from_time, "")
            async for page in reader.history(after):
                rows = [row for row in page if _is_older(row, self.plan.older)]
                for start in range(0, len(rows), WRITE_RECORDS):
                    part = rows[start : start + WRITE_RECORDS]
                    if not self._may_write(throttle):
                        return
                    last = part[-1]
                    self._advance(writer, part, after=(last["first_seen"], last["item_id"]))
                    throttle.took(len(part))
            self._advance(writer, [], complete=True)
        finally:
            writer.close()
            await reader.close()

    def _may_write(self, throttle: Throttle) -> bool:
        """Waits for its turn; False: it is to end. (Nothing else runs on the loop of this thread.)"""
        while not self._ended.is_set() and (wait_s := throttle.wait_s()):
            self._ended.wait(min(wait_s, 0.5))
        return not self._ended.is_set()

    def _advance(self, writer: HistoryWriter, rows: Sequence[Mapping[str, Any]], **reached: Any) -> None:
        plan = replace(self.plan, written=self.plan.written + len(rows), **reached)
        address = writer.address((HISTORY, EMBEDDED))
        writer.write([self._outgoing(address, row) for row in rows], msgspec.json.encode(plan), plan.written)
        self.plan = plan

    def _outgoing(self, address: Addresser, row: Mapping[str, Any]) -> Outgoing:
        item = observation_of(row)
        if self._record.from_stage is FromStage.RAW:
            return address.record(HISTORY, item, item.trend_id)
        embedded = EmbeddedItem(
            item=item, text_hash=row["text_hash"], vector=wire_vector(row["vector"]), model=row["model"],
            dimensions=self._record.dimensions,
        )  # fmt: skip
        return address.record(EMBEDDED, embedded, item.trend_id)


# -- running -----------------------------------------------------------------------------------------------------------


class Build:
    """The flows of a generation, in phases, until it has caught up, and on from there.

    Args:
        settings: of the live generation.
        target: of the new one (see :func:`begin`).
        processes: of the flow that reads history.
        echo: told every line of the flows' output.
    """

    def __init__(
        self, settings: Settings, target: Settings, record: Generation, plan: Plan, *, processes: int = 1,
        echo: Echo = lambda _name, _line: None, clock: Clock = now_utc,
    ) -> None:  # fmt: skip
        self._settings = settings
        self._target = target
        self._record = record
        self._processes = processes
        self._clock = clock
        self._older = OlderItems(settings, target, record, plan)
        self.supervisor: Supervisor = flow_supervisor(target, dict.fromkeys(FLOWS[1:], 1), echo)
        self._entry: list[str] = []
        self._rate: float | None = None
        self._before: tuple[float, int] | None = None

    def run(self, tell: Callable[[Step], None], ended: threading.Event, *, until_ready: bool = False) -> Generation:
        """Runs until ``ended``, or with ``until_ready`` until it has caught up; the record as it is then.

        Raises:
            TrendsError: what ended a phase.
        """
        try:
            with self.supervisor:
                for phase in (self._read_older, self._copy, self._embed):
                    if not phase(tell, ended):
                        return self._record
                self._record = self._ready()
                tell(self._step("fed"))
                while not until_ready and not self._over(ended):
                    ended.wait(LOOK_S)
                    tell(self._step("fed"))
        finally:
            self._older.stop()
        return self._record

    def _over(self, ended: threading.Event) -> bool:
        if self._older.failure is not None:
            raise self._older.failure
        return ended.is_set() or self.supervisor.wait(0)

    def _phase(
        self, name: str, flow: str | None, tell: Callable[[Step], None], ended: threading.Event,
        finished: Callable[[], bool],
    ) -> bool:  # fmt: skip
        """Runs one phase; False: everything ends before it does."""
        if flow is not None:
            for spec in specs_of(self._target, {flow: self._processes}, self.supervisor.specs):
                self.supervisor.add(spec)
                self._entry.append(spec.name)
        while True:
            tell(self._step(name))
            if finished():
                return True
            if self._over(ended):
                return False
            ended.wait(LOOK_S)

    def _leave(self) -> None:
        """The processes of this phase are done; they leave their group for good."""
        for name in self._entry:
            self.supervisor.remove(name)
        self._entry = []

    def _read_older(self, tell: Callable[[Step], None], ended: threading.Event) -> bool:
        plan = self._older.plan
        if not plan.older:
            return True
        raw = self._record.from_stage is FromStage.RAW
        if not plan.complete:
            self._older.start()

        def finished() -> bool:
            return self._older.plan.complete and (not raw or not self._lag("history"))

        if not self._phase("older", "history" if raw else None, tell, ended, finished):
            return False
        self._leave()
        return True

    def _copy(self, tell: Callable[[Step], None], ended: threading.Event) -> bool:
        target = _partitions(self._older.plan.copy_to)

        def finished() -> bool:
            return all(self._at("copy").get(p, 0) >= end for p, end in target.items() if end)

        if not target or finished():
            return True
        if not self._phase("copy", "copy", tell, ended, finished):
            return False
        self._leave()
        return True

    def _embed(self, tell: Callable[[Step], None], ended: threading.Event) -> bool:
        def finished() -> bool:
            lags = lag_of(self._target, self._record.name, ages=True)
            return lags is not None and caught_up(lags)

        return self._phase("embed", "embed", tell, ended, finished)

    def _ready(self) -> Generation:
        """Written down once: whatever happened to it meanwhile stays."""
        now = read_generations(self._target.kafka()).named.get(self._record.name, self._record)
        if now.state is not GenerationState.BUILDING:
            return now
        ready = replace(now, state=GenerationState.READY, changed_at=self._clock(), version=now.version + 1)
        save(self._target.kafka(), ready)
        return ready

    # -- how far it is -------------------------------------------------------------------------------------------

    def _probe(self, flow: str) -> LagProbe:
        inputs = prepare(flow, self._target, self._record)[0].inputs
        return LagProbe(self._target.kafka(), self._record.name, flow, inputs)

    def _lag(self, flow: str) -> int:
        with closing(self._probe(flow)) as probe:
            return sum(lag.records for lag in probe.partitions(ages=False))

    def _at(self, flow: str) -> dict[Partition, int]:
        with closing(self._probe(flow)) as probe:
            return {(lag.stream, lag.partition): lag.committed or 0 for lag in probe.partitions(ages=False)}

    def _step(self, phase: str) -> Step:
        plan = self._older.plan
        done, total = plan.written, max(plan.older_items, plan.written)
        if plan.copy_to:
            starts, at = _partitions(plan.copy_from), self._at("copy")
            for p, end in _partitions(plan.copy_to).items():
                total += end - starts.get(p, 0)
                done += min(max(at.get(p, 0), starts.get(p, 0)), end) - starts.get(p, 0)
        starts = _partitions(plan.embed_from)
        with closing(self._probe("embed")) as probe:
            for lag in probe.partitions(ages=False):
                start = min(starts.get((lag.stream, lag.partition), 0), lag.end)
                total += lag.end - start
                done += max((lag.committed or start) - start, 0)
        now = time.monotonic()
        if self._before is not None and now > self._before[0]:
            rate = (done - self._before[1]) / (now - self._before[0])
            share = min(1.0, (now - self._before[0]) / RATE_S)
            self._rate = rate if self._rate is None else self._rate + share * (rate - self._rate)
        self._before = (now, done)
        waiting = sum(lag.records for lag in lag_of(self._target, self._record.name, ages=False) or ()
                      if lag.flow != "embed")  # fmt: skip
        left = (total - done) / self._rate if self._rate and self._rate > 0 else None
        return Step(
            generation=self._record.name, phase=phase, done=done, total=total, rate=round(self._rate or 0.0, 1),
            left_s=0.0 if done >= total else None if left is None else round(left, 1), waiting=waiting,
            restarts=sum(self.supervisor.restarts.values()),
        )  # fmt: skip
