"""The demo: a stack, data, all flows, and what comes of it. What it prints stands in ``trends.cli.demo``."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from connectors.base import Connector
from connectors.runner import Progress, SourceReport
from connectors.synthetic import SyntheticConnector
from models.quality import Agreement, agreement
from sinks.postgres import SyncReader, migrate
from sinks.postgres.export import Filters
from sinks.views import StoredCounts
from streams.admin import StreamAdmin
from streams.errors import TrendsError, UnavailableError
from streams.lag import LagProbe
from trends.collecting import collect
from trends.flow_processes import flow_supervisor
from trends.flows import FLOWS, prepare
from trends.following import following
from trends.reading import RisingSubjects, open_reader, rising_subjects
from trends.settings import Settings
from trends.supervisor import Supervisor

STALL_S: Final = 180.0
"""Nothing has moved in any flow for so long: the demo gives up and says where to look."""
POLL_S: Final = 1.0
RISING: Final = 10
DEMO_MARK: Final = "demo-started-the-stack"


class DemoFailed(TrendsError):
    """A flow ended for good; the message has its last lines."""


@dataclass(frozen=True, slots=True)
class Stage:
    """How far one flow is: offsets dealt with, of those that there are."""

    flow: str
    done: int
    total: int


@dataclass(slots=True)
class Watch:
    """Told what happens, for people to see. All do nothing unless replaced."""

    line: Callable[[str], None] = lambda _line: None
    collected: Callable[[Progress], None] = lambda _progress: None
    stages: Callable[[list[Stage]], None] = lambda _stages: None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a demo has shown."""

    source: str
    reports: tuple[SourceReport, ...]
    delivered: int
    seconds: float
    """From the first delivery until everything was stored."""
    setup_s: float
    counts: StoredCounts
    top: RisingSubjects
    dead_letters: int
    quality: Agreement | None = None
    """Against the ground truth, where the data has one."""
    restarts: dict[str, int] = field(default_factory=dict)


def processes() -> dict[str, int]:
    """How many of each flow on this machine: embedding takes the cores, the others fit beside it."""
    return dict.fromkeys(FLOWS, 1) | {"embed": max(1, min(os.cpu_count() or 1, 8))}


@contextlib.contextmanager
def stack_of_demo(settings: Settings, keep: bool, watch: Watch) -> Iterator[Settings]:
    """The local stack, with streams and tables; stopped at the end where the demo has started it, unless kept.

    Gives the settings with the generation that the demo runs: the live one, where none was set.

    A demo that was killed leaves its stack running: the mark in the data folder says whose it is.
    """
    mark = settings.home / "run" / DEMO_MARK
    local = settings.local_stack()
    if not local.status().running:
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()
    try:
        local.up(watch.line)
        settings = following(settings).settings
        StreamAdmin(settings.kafka(), settings.generation).apply()
        asyncio.run(migrate(settings.postgres()))
        yield settings
    finally:
        if keep:
            mark.unlink(missing_ok=True)
        elif mark.exists():
            watch.line("stopping the stack; the data stays")
            local.down()
            mark.unlink(missing_ok=True)


def run_demo(
    settings: Settings, connector: Connector, *, live_s: float | None, keep: bool, watch: Watch, report: Path | None
) -> Outcome:
    """Feeds one source through everything and waits until all is stored. ``live_s``: collect for so many seconds.

    Raises:
        DemoFailed: a flow ended for good.
        UnavailableError: nothing moves any more, or a part cannot be reached.
    """
    began = time.monotonic()
    with stack_of_demo(settings, keep, watch) as settings:
        supervisor = flow_supervisor(settings, processes(), lambda _name, _line: None)
        with supervisor:
            fed = time.monotonic()
            watch.line("collecting, embedding, clustering, scoring, summarising, storing")
            with Stages(settings) as stages:
                reports = _feed(settings, connector, live_s, supervisor, stages, watch)
                _settle(supervisor, stages, watch, settings)
            seconds = time.monotonic() - fed
            restarts = {name: n for name, n in supervisor.restarts.items() if n}
        with open_reader(settings) as sync:
            outcome = Outcome(
                source=connector.name,
                reports=reports,
                delivered=sum(r.delivered for r in reports),
                seconds=seconds,
                setup_s=fed - began,
                counts=sync.ask(sync.reader.counts()),
                top=rising_subjects(sync, RISING, None),
                dead_letters=stages.dead_letters,
                quality=_quality(sync, connector),
                restarts=restarts,
            )
            if report is not None:
                from trends.report import write_report

                write_report(sync, report)
        return outcome


class Stages:
    """How far every flow is, asked of the broker in the order in which records pass them."""

    def __init__(self, settings: Settings) -> None:
        kafka = settings.kafka()
        self._probes = {
            flow: LagProbe(kafka, settings.generation, flow, prepare(flow, settings)[0].inputs) for flow in FLOWS
        }
        self._dead = LagProbe(kafka, settings.generation, "demo-dead-letters", _dead_letters())
        self._dead_before = self._dead_ends()

    def __enter__(self) -> Stages:
        return self

    def __exit__(self, *_: object) -> None:
        self.dead_letters = self._dead_ends() - self._dead_before
        for probe in (*self._probes.values(), self._dead):
            probe.close()

    def _dead_ends(self) -> int:
        return sum(lag.ends for lag in self._dead.lag().values())

    def look(self) -> list[Stage]:
        """All flows, first to last: where all are done, everything that was delivered before is stored."""
        stages = []
        for flow, probe in self._probes.items():
            lags = probe.lag().values()
            total = sum(lag.ends for lag in lags)
            stages.append(Stage(flow, total - sum(lag.records for lag in lags), total))
        return stages


def _dead_letters() -> tuple[Any, ...]:
    from streams.table import DEAD_LETTERS

    return (DEAD_LETTERS,)


def _feed(
    settings: Settings, connector: Connector, live_s: float | None, supervisor: Supervisor, stages: Stages, watch: Watch
) -> tuple[SourceReport, ...]:
    """Collects, with an eye on the flows."""

    async def work() -> tuple[SourceReport, ...]:
        task = asyncio.create_task(
            collect(settings, [connector], follow=live_s is not None, for_s=live_s, progress=watch.collected),
            name="collect",
        )
        try:
            while not task.done():
                await asyncio.wait([task], timeout=POLL_S)
                _raise_if_ended(supervisor)
                watch.stages(await asyncio.to_thread(stages.look))
            return task.result()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    return asyncio.run(work())


def _settle(supervisor: Supervisor, stages: Stages, watch: Watch, settings: Settings) -> None:
    """Waits until every flow has dealt with all that is in its inputs."""
    moved, before = time.monotonic(), -1
    while True:
        seen = stages.look()
        watch.stages(seen)
        if all(stage.done == stage.total for stage in seen):
            return
        _raise_if_ended(supervisor)
        done = sum(stage.done for stage in seen)
        if done != before:
            moved, before = time.monotonic(), done
        elif time.monotonic() - moved > STALL_S:
            behind = ", ".join(f"{s.flow} {s.total - s.done:,} behind" for s in seen if s.done != s.total)
            raise UnavailableError(f"nothing has moved for {STALL_S:.0f} s ({behind}); see {settings.home / 'logs'}")
        time.sleep(POLL_S)


def _raise_if_ended(supervisor: Supervisor) -> None:
    if supervisor.failure:
        raise DemoFailed(supervisor.failure)


def _quality(sync: SyncReader, connector: Connector) -> Agreement | None:
    """The topics that were found against those that the world was made of, over all items that are stored."""
    if not isinstance(connector, SyntheticConnector):
        return None
    truth = connector.world.truth
    found, true = [], []
    for row in sync.export("items", Filters(source=connector.source)):
        known = truth.get(row["external_id"])
        if known is not None and row["topic_id"] is not None:
            found.append(row["topic_id"])
            true.append(known.topic)
    return agreement(found, true) if found else None
