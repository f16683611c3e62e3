"""``trends replay store | build``: stored again from the streams, and the next generation out of history."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Final

import orjson
import typer
from rich.markup import escape
from rich.table import Table

from streams.errors import ExitCode, SettingsError
from streams.records import FromStage, Generation, GenerationState, Granularity
from streams.table import SOURCES
from trends.cli.context import GenerationOption, current_settings
from trends.cli.output import JsonOption, err, progress, progress_bar, show
from trends.flow_processes import MAX_PROCESSES
from trends.replay import Range, Replayed
from trends.settings import Settings
from trends.text import instant

if TYPE_CHECKING:
    from trends.build import Plan, Step

SAY_S: Final = 10.0
"""How often a build says how far it is, where there is no terminal for a bar."""


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    group = typer.Typer(no_args_is_help=True, help="Replay: into the stores again, or into the next generation.")
    group.command()(store)
    group.command()(build)
    app.add_typer(group, name="replay")


def store(
    since: Annotated[
        str | None, typer.Option("--from", help="Event time from which on: 2016-09-07, 2016-09-07T18:00.")
    ] = None,
    until: Annotated[str | None, typer.Option("--to", help="Event time up to which.")] = None,
    log_since: Annotated[str | None, typer.Option("--log-from", help="Arrival in the streams from which on.")] = None,
    log_until: Annotated[str | None, typer.Option("--log-to", help="Arrival up to which.")] = None,
    partitions: Annotated[
        str | None, typer.Option("--partitions", help="Only these partitions: 0,3-5.", show_default=False)
    ] = None,
    sources: Annotated[
        str | None, typer.Option("--sources", help="Only these sources, with commas.", show_default=False)
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say how much it would be.")] = False,
    generation: GenerationOption = None,
    as_json: JsonOption = False,
) -> None:
    """Store a range again from the streams (items, mentions, topics, summaries, scores, the catalogue).

    For a shard that lost rows, or a store that was wrong: what is missing or older is mended, what is there stays, and
    a second run changes nothing. Live traffic goes on, and goes first: the replay slows down while the store flow is
    behind. At least one end must be given; a day's own end is its last moment.

    \b
    Exit codes: 0 done, 1 some records cannot be stored, 69 a part cannot be reached (run it again).
    \b
    Examples:
      trends replay store --from 2016-09-07 --to 2016-09-08 --dry-run
      trends replay store --log-from 2026-03-01T09:30 --partitions 3
      trends replay store --from 2016-09-01 --sources hackernews,rss --json
    """
    from trends.following import following
    from trends.replay import replay_store
    from trends.yielding import yielding

    if since is None and until is None and log_since is None and log_until is None:
        raise SettingsError("which range? --from and --to are event time, --log-from and --log-to arrival")
    wanted = Range(
        since=_begin(since), until=_end(until), log_since=_begin(log_since), log_until=_end(log_until),
        partitions=None if partitions is None else partition_numbers(partitions), sources=_sources(sources),
    )  # fmt: skip
    for first, last in ((wanted.since, wanted.until), (wanted.log_since, wanted.log_until)):
        if first is not None and last is not None and first >= last:
            raise SettingsError(f"from {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} is no range")
    settings = following(current_settings(generation=generation)).settings
    with yielding(settings, "replay", flows=("store",)) as throttle, progress_bar("replaying") as bar:
        done = replay_store(settings, wanted, throttle=throttle, dry_run=dry_run, progress=bar)
    show(done, as_json, lambda: _report(done))
    for why in done.samples:
        err().print(escape(why), style="dim", soft_wrap=True)
    if done.refused or done.unreadable:
        raise typer.Exit(int(ExitCode.FAILED))


def build(
    generation: Annotated[str, typer.Option("--generation", "-g", help="Name of the one to build: g2, g3, …")],
    stage: Annotated[
        FromStage | None,
        typer.Option(
            "--from-stage",
            help="raw (if not given): every text is embedded anew; embedded: with the vectors that there are.",
        ),
    ] = None,
    embedder: Annotated[
        str | None, typer.Option("--embedder", help="Kind of the model, as in TRENDS_EMBEDDER; not given: as now.")
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", help="Its name or folder, as in TRENDS_EMBEDDER_MODEL.")
    ] = None,
    url: Annotated[str | None, typer.Option("--url", help="Its API, as in TRENDS_EMBEDDER_URL.")] = None,
    dimensions: Annotated[
        int | None, typer.Option("--dimensions", min=1, max=4_000, help="Components of its vectors; not given: as now.")
    ] = None,
    granularity: Annotated[
        Granularity | None, typer.Option("--granularity", help="How wide its topics are; not given: as now.")
    ] = None,
    since: Annotated[
        str | None, typer.Option("--from", help="Only history from this event time on: 2016-09-07.")
    ] = None,
    processes: Annotated[
        int,
        typer.Option("--processes", "-n", min=1, max=MAX_PROCESSES, help="Processes that read history."),
    ] = 1,
    until_ready: Annotated[
        bool, typer.Option("--until-ready", help="End when it has caught up; `trends run --generation …` goes on.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Build the next generation out of history, beside the live one: its own streams, tables and model.

    Its flows read the raw streams from their beginning (or take over the vectors of the live generation); items that
    the streams no longer hold come from the live generation's stores, first. When they have caught up they go on with
    live traffic: both generations are fed until one is dropped. The build reads less while live flows are late. Killed
    or stopped, the same command goes on where it was; the options of the model need not be given again.

    With --json, a line of JSON every second: done, total, rate, left_s (expected seconds to the end).

    \b
    Exit codes: 0 caught up or stopped, 2 wrong option, 69 a part cannot be reached, 78 a person must decide.
    \b
    Examples:
      trends replay build --generation g2 --from-stage embedded --granularity coarse
      trends replay build --generation g2 --embedder openai --url http://models/v1 --model e5 --dimensions 1024
      trends replay build --generation g2 --until-ready && trends generations diff g1 g2
    """
    from trends.build import Wanted, begin

    wanted = Wanted(generation, stage, embedder, model, url, dimensions, _begin(since), granularity)
    settings = current_settings()
    target, record, plan = begin(settings, wanted)
    _run(settings, target, record, plan, processes, until_ready, as_json)


def _run(
    settings: Settings, target: Settings, record: Generation, plan: Plan, processes: int, until_ready: bool,
    as_json: bool,
) -> None:  # fmt: skip
    from trends.build import Build
    from trends.control import ControlServer, control_path
    from trends.flow_processes import RunAccount
    from trends.health import HealthServer
    from trends.runfiles import SUPERVISOR, announced
    from trends.scaling import Scaler

    work = Build(settings, target, record, plan, processes=processes)
    asked = threading.Event()

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        if asked.is_set():
            work.supervisor.kill()
        asked.set()

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        name = f"build-{record.name}"
        with (
            ControlServer(control_path(settings.home, name), Scaler(target, work.supervisor).handle),
            HealthServer(settings.metrics_host, settings.metrics_port, RunAccount(name, work.supervisor)) as server,
            announced(settings.home, name, SUPERVISOR, server.address),
            progress_bar(record.name) as bar,
        ):
            told = _Told(bar, as_json)

            def tell(step: Step) -> None:
                told(step)
                if asked.is_set():
                    progress("stopping (again Ctrl-C: at once)")

            ended = work.run(tell, asked, until_ready=until_ready)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if work.supervisor.failure:
        err().print(escape(work.supervisor.failure), soft_wrap=True)
        raise typer.Exit(int(work.supervisor.exit_code))
    if ended.state is GenerationState.BUILDING:
        progress(f"{record.name} is not complete; the same command goes on with it")


class _Told:
    """Shows how far a build is: a bar on a terminal, lines of JSON for programs, else a line now and then."""

    def __init__(self, bar: Callable[[int, int], None], as_json: bool) -> None:
        self._bar = bar
        self._as_json = as_json
        self._phase = ""
        self._said_at = 0.0

    def __call__(self, step: Step) -> None:
        self._bar(step.done, step.total)
        if self._as_json:
            typer.echo(orjson.dumps(step).decode())
        changed, self._phase = step.phase != self._phase, step.phase
        if changed and step.phase == "fed":
            progress(f"{step.generation} has caught up; `trends generations promote {step.generation}` makes it live")
        elif changed or (not err().is_terminal and time.monotonic() - self._said_at > SAY_S):
            self._said_at = time.monotonic()
            left = "" if step.left_s is None else f", about {timedelta(seconds=round(step.left_s))} left"
            progress(f"{_PHASES[step.phase]}: {step.done:,} of {step.total:,}, {step.rate:,.0f}/s{left}")


_PHASES = {
    "older": "items that the streams no longer hold, from the stores",
    "copy": "vectors of the live generation",
    "embed": "the raw streams",
    "fed": "live traffic",
}


def _report(done: Replayed) -> Table:
    table = Table(box=None, show_header=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_row("records looked at", f"{done.read:,}")
    table.add_row("in the range", f"{done.selected:,}")
    if done.forgotten:
        table.add_row("forgotten, left out", f"{done.forgotten:,}")
    if done.refused:
        table.add_row("[red]refused[/red]", f"{done.refused:,}")
    if done.unreadable:
        table.add_row("[red]not readable[/red]", f"{done.unreadable:,}")
    if done.dry_run:
        table.add_row("", "nothing was written (--dry-run)")
        return table
    for name, count in done.rows.items():
        table.add_row(f"rows changed in {name}", f"{count:,}")
    if not done.rows:
        table.add_row("rows changed", "none: all was there")
    return table


def _begin(text: str | None) -> datetime | None:
    """The first moment of a day, or a time."""
    if text is None:
        return None
    time = instant(text)
    return time - timedelta(days=1) if len(text.strip()) == 10 else time


def _end(text: str | None) -> datetime | None:
    """The last moment of a day, or a time."""
    return None if text is None else instant(text)


def partition_numbers(text: str) -> frozenset[int]:
    """The numbers of ``0,3-5``.

    Raises:
        SettingsError: it is no such list.
    """
    numbers: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()) or (dash and int(last) < int(first)):
            raise SettingsError(f"{text!r} is no list of partitions: 0,3-5")
        if int(last or first) > 1_023:
            raise SettingsError(f"{part}: partitions are numbered from 0 to 1023 at most")
        numbers.update(range(int(first), int(last or first) + 1))
    return frozenset(numbers)


def _sources(text: str | None) -> frozenset[str] | None:
    if text is None:
        return None
    names = frozenset(name.strip() for name in text.split(",") if name.strip())
    if unknown := sorted(names - set(SOURCES)):
        raise SettingsError(f"no source {unknown[0]!r}; there are: {', '.join(SOURCES)}")
    return names
