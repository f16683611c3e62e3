"""``trends dead-letters list | show | redrive | purge``: what could not be processed, and what is done about it."""

from __future__ import annotations

import base64
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import timedelta
from functools import wraps
from inspect import Parameter, Signature, signature
from typing import Annotated, Any, Concatenate, Final, ParamSpec

import msgspec
import typer
from rich.console import Group as Lines
from rich.console import RenderableType
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Column, Table
from rich.text import Text

from streams.errors import SettingsError
from streams.letters import Group, LetterBox, Outcome, Overview, Selection
from streams.records import DeadLetter, LetterStatus, Reason
from trends.cli.context import current_settings
from trends.cli.output import JsonOption, err, out, print_json, show
from trends.text import instant, moment, plain

P = ParamSpec("P")

SHOWN_VALUE_CHARS: Final = 4_000

ReasonOption = Annotated[
    list[Reason] | None, typer.Option("--reason", help="Why it failed; may be given several times.")
]
FlowOption = Annotated[
    list[str] | None, typer.Option("--flow", help="Which flow or connector gave it up; may be given several times.")
]
StreamOption = Annotated[
    list[str] | None, typer.Option("--stream", help="Where it stood, such as raw.rss; may be given several times.")
]
PartitionOption = Annotated[int | None, typer.Option("--partition", min=0, help="Partition of that stream.")]
FromOption = Annotated[str | None, typer.Option("--from", help="Failed at this time or later (a day: its beginning).")]
ToOption = Annotated[str | None, typer.Option("--to", help="Failed before this time (a day: its end).")]
TextOption = Annotated[str, typer.Option("--text", help="Part of the error.", show_default=False)]
IdOption = Annotated[
    list[str] | None, typer.Option("--id", help="One letter (stream/partition/offset); may be given several times.")
]
StatusOption = Annotated[LetterStatus | None, typer.Option("--status", help="Only those that are open, or redriven.")]
AllOption = Annotated[bool, typer.Option("--all", help="Every letter: needed where no filter is given.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    group = typer.Typer(no_args_is_help=True, help="What could not be processed: look, send again, remove.")
    group.command("list")(list_letters)
    group.command("show")(show_letter)
    group.command()(redrive)
    group.command()(purge)
    app.add_typer(group, name="dead-letters")


def _selection(
    reason: ReasonOption = None,
    flow: FlowOption = None,
    stream: StreamOption = None,
    partition: PartitionOption = None,
    since: FromOption = None,
    until: ToOption = None,
    text: TextOption = "",
) -> Selection:
    begin = instant(since) if since else None
    if since and begin and len(since.strip()) == len("2026-03-01"):
        begin -= timedelta(days=1)
    return Selection(
        reasons=frozenset(reason or ()),
        flows=frozenset(flow or ()),
        streams=frozenset(stream or ()),
        partition=partition,
        since=begin,
        until=instant(until) if until else None,
        text=text,
    )


def _filtered(command: Callable[Concatenate[Selection, P], None]) -> Callable[..., None]:
    """A command over a selection: the filters that all of them have in common are its first options."""
    filters = signature(_selection, eval_str=True).parameters
    _, *own = signature(command, eval_str=True).parameters.values()

    @wraps(command)
    def run(**options: Any) -> None:
        selection = _selection(**{name: options.pop(name) for name in filters})
        command(selection, **options)  # type: ignore[call-arg]

    parameters = [p.replace(kind=Parameter.KEYWORD_ONLY) for p in (*filters.values(), *own)]
    run.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    return run


@_filtered
def list_letters(
    selection: Selection,
    *,
    status: StatusOption = None,
    limit: Annotated[int, typer.Option("--limit", min=0, max=10_000, help="How many of the newest to list.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """Count the dead letters by reason, flow and stream, and list the newest.

    \b
    Examples:
      trends dead-letters list
      trends dead-letters list --reason our_failure --flow cluster --from 2026-03-01
      trends dead-letters list --limit 0 --json | jq '.groups[] | {reason, letters}'
    """
    selection = _narrowed(selection, status=status)
    with _looking() as progress:
        overview = _box().overview(selection, limit, progress)
    value = {
        "letters": overview.letters,
        "purged": overview.purged,
        "groups": [asdict(group) for group in overview.groups],
        "newest": [_as_json(letter) for letter in overview.newest],
    }
    show(value, as_json, lambda: _overview(overview))


def show_letter(
    letter_id: Annotated[str, typer.Argument(metavar="LETTER", help="Its id: stream/partition/offset.")],
    value: Annotated[bool, typer.Option("--value", help="Print the bytes of the original alone.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show one dead letter: what failed, where, why, the original, and its history.

    \b
    Examples:
      trends dead-letters show raw.rss/3/17
      trends dead-letters show raw.rss/3/17 --value > original.json
    """
    letter = _box().find(letter_id)
    if letter is None:
        raise SettingsError(f"there is no dead letter {letter_id!r}: `trends dead-letters list` shows what there is")
    if value:
        sys.stdout.buffer.write(base64.b64decode(letter.value or ""))
        sys.stdout.buffer.flush()
        return
    show(msgspec.to_builtins(letter), as_json, lambda: _letter(letter))


@_filtered
def redrive(
    selection: Selection,
    *,
    letter_id: IdOption = None,
    every: AllOption = False,
    again: Annotated[bool, typer.Option("--again", help="Also those that were redriven before.")] = False,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Send the originals again to the streams that they came from, after what failed on them has been mended.

    Each goes out with its bytes, key and headers as they were, into the partition of its trend; the flow that gave it
    up reads it, and no other. Its letter is marked in the same transaction, so a second call sends nothing twice. What
    fails again makes a new letter with two attempts and the way back to the first. What was cut (over 1 MiB) stays.

    \b
    Examples:
      trends dead-letters redrive --reason our_failure --flow score --dry-run
      trends dead-letters redrive --id raw.rss/3/17 --yes
    """
    selection = _some(_narrowed(selection, letter_id), every)
    box = _box()
    _carry_out(
        "redriven", dry_run, yes, as_json,
        lambda dry, progress: box.redrive(selection, again=again, dry_run=dry, progress=progress),
    )  # fmt: skip


@_filtered
def purge(
    selection: Selection,
    *,
    letter_id: IdOption = None,
    status: StatusOption = None,
    every: AllOption = False,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Remove dead letters with the bytes in them. That they were, when they went, and by which filters stays recorded.

    \b
    Examples:
      trends dead-letters purge --status redriven --to 2026-03-01 --dry-run
      trends dead-letters purge --reason not_json --stream raw.file --yes
    """
    selection = _some(_narrowed(selection, letter_id, status), every)
    box = _box()
    _carry_out(
        "purged", dry_run, yes, as_json, lambda dry, progress: box.purge(selection, dry_run=dry, progress=progress)
    )


# -- selecting -------------------------------------------------------------------------------------------------------


def _box() -> LetterBox:
    settings = current_settings()
    return LetterBox(settings.kafka(), settings.generation)


def _narrowed(selection: Selection, ids: list[str] | None = None, status: LetterStatus | None = None) -> Selection:
    statuses = selection.statuses if status is None else frozenset({status})
    return replace(selection, ids=frozenset(ids or ()), statuses=statuses)


def _some(selection: Selection, every: bool) -> Selection:
    if selection == Selection() and not every:
        raise SettingsError("which letters? Give a filter (--reason, --flow, --stream, --id, …), or --all")
    return selection


# -- doing -----------------------------------------------------------------------------------------------------------


def _carry_out(
    verb: str,
    dry_run: bool,
    yes: bool,
    as_json: bool,
    act: Callable[[bool, Callable[[int], None]], Outcome],
) -> None:
    """First what would be done; then, where nothing speaks against it, that."""
    if dry_run or not yes:
        with _looking() as progress:
            planned = act(True, progress)
        if dry_run:
            _tell(f"would be {verb}", planned, as_json, dry_run=True)
            return
        if not planned.done:
            _tell(verb, planned, as_json)
            return
        if not sys.stdin.isatty():
            raise SettingsError(f"{planned.done:,} letters would be {verb}: say --yes, or --dry-run for a look")
        for why, count in planned.skipped.items():
            err().print(f"left alone: {count:,}: {why}", markup=False)
        typer.confirm(f"{planned.done:,} letters will be {verb}. Go on?", abort=True, err=True)
    with _looking() as progress:
        done = act(False, progress)
    _tell(verb, done, as_json)


def _tell(verb: str, outcome: Outcome, as_json: bool, dry_run: bool = False) -> None:
    if as_json:
        print_json({"dry_run": dry_run, "letters": outcome.done, "left_alone": outcome.skipped})
        return
    out().print(f"{outcome.done:,} {verb}", markup=False)
    for why, count in outcome.skipped.items():
        out().print(f"{count:,} left alone: {why}", markup=False)


@contextmanager
def _looking() -> Iterator[Callable[[int], None]]:
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=err(), transient=True) as bar:
        task = bar.add_task("reading dead letters")
        yield lambda done: bar.update(task, description=f"{done:,} dead letters looked at") if done % 100 == 0 else None


# -- showing ---------------------------------------------------------------------------------------------------------


def _as_json(letter: DeadLetter) -> dict[str, Any]:
    """A letter in a list: all but its bytes."""
    fields = msgspec.to_builtins(letter)
    return {name: fields[name] for name in fields if name not in ("key", "value", "headers", "header_bytes")}


def _overview(overview: Overview) -> RenderableType:
    if not overview.letters:
        gone = f" ({overview.purged:,} were purged)" if overview.purged else ""
        return Text(f"no dead letters{gone}")
    groups = Table(
        Column("reason", no_wrap=True), Column("letters", justify="right"), "flow", "stream", "status", "last", "error",
        box=None, header_style="bold",
    )  # fmt: skip
    for g in overview.groups:
        groups.add_row(
            g.reason.value, f"{g.letters:,}", _safe(g.flow), _safe(g.stream), g.status.value, _last(g), _safe(g.example)
        )
    parts: list[RenderableType] = [groups]
    if overview.newest:
        newest = Table(
            Column("letter", no_wrap=True), "failed", "reason", "status", "error", box=None, header_style="bold"
        )
        for letter in overview.newest:
            status = letter.status.value + (f", {letter.attempts} attempts" if letter.attempts > 1 else "")
            newest.add_row(
                _safe(letter.letter_id), moment(letter.failed_at), letter.reason.value, status, _safe(letter.error)
            )
        parts += [Text(), newest]
    if overview.purged:
        parts += [Text(), Text(f"{overview.purged:,} more were purged")]
    return Lines(*parts)


def _safe(text: str) -> Text:
    """What strangers wrote, as text and nothing else."""
    return Text(plain(text))


def _last(group: Group) -> str:
    return moment(group.last_failed_at) if group.last_failed_at else ""


def _letter(letter: DeadLetter) -> RenderableType:
    table = Table(Column(style="bold", no_wrap=True), Column(overflow="fold"), box=None, show_header=False)
    history = ""
    if letter.redriven_from and letter.first_failed_at:
        history = f"{letter.attempts} attempts; first {letter.first_letter} at {moment(letter.first_failed_at)}"
        if letter.redriven_from != letter.first_letter:
            history += f", before this one {letter.redriven_from}"
    status = letter.status.value + (f" at {moment(letter.redriven_at)}" if letter.redriven_at else "")
    whole = "" if letter.whole else ", cut: it cannot be redriven"
    rows = {
        "letter": letter.letter_id,
        "stream": f"{letter.stream}, partition {letter.partition}, offset {letter.offset}",
        "reason": letter.reason.value,
        "error": letter.error,
        "given up by": letter.flow,
        "failed": moment(letter.failed_at),
        "written": moment(letter.logged_at) if letter.logged_at else "",
        "status": status,
        "history": history,
        "key": base64.b64decode(letter.key).decode("utf-8", "replace") if letter.key is not None else "",
        "headers": "  ".join(f"{name}={value}" for name, value in letter.headers),
        "original": f"{letter.value_bytes:,} bytes{whole}",
    }
    for name, value in rows.items():
        if value:
            table.add_row(name, _safe(value))
    text = base64.b64decode(letter.value or "").decode("utf-8", "replace")
    cut = "…" if len(text) > SHOWN_VALUE_CHARS else ""
    return Lines(table, Text(), Text(plain(text[:SHOWN_VALUE_CHARS]) + cut))
