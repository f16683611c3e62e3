"""``trends scale``: more or fewer processes of a flow, while `trends run` goes on."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.table import Table

from streams.errors import ExitCode, SettingsError
from trends.cli.context import current_settings
from trends.cli.output import JsonOption, err, progress, show
from trends.flow_processes import MAX_PROCESSES
from trends.flows import FLOWS
from trends.scaling import MAX_WAIT_S, Scaled, ask_to_scale

WAIT_S = 60.0


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command()(scale)


def scale(
    flow: Annotated[str, typer.Argument(help="embed, cluster, score, summarize or store.")],
    processes: Annotated[int, typer.Argument(min=0, max=MAX_PROCESSES, help="How many there shall be; 0: none.")],
    wait: Annotated[
        float,
        typer.Option("--wait", min=0, max=MAX_WAIT_S, help="Seconds to wait until all of them work or stand by."),
    ] = WAIT_S,
    run: Annotated[
        str | None,
        typer.Option("--run", help="Which `trends run`, where several keep this flow running (see `trends status`)."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Add or remove processes of a flow of the running `trends run`, while data flows.

    One that goes finishes what it has begun, commits, and leaves its group at once, so that the others read its
    partitions on within seconds; those that stand by go first, then those with the highest numbers. More processes
    than there are partitions stand by. With none left, the flow's records wait in the log.

    \b
    Exit codes: 0 done, 1 not all are ready yet (they are being started) or one had to be killed, 69 no `trends run`
    answers.
    \b
    Examples:
      trends scale embed 4
      trends scale cluster 2                     one works, one stands by
      trends scale summarize 0 && trends scale summarize 1 --json
    """
    if flow not in FLOWS:
        raise SettingsError(f"no flow {flow!r}; there are: {', '.join(FLOWS)}")
    settings = current_settings()
    done = ask_to_scale(settings.home, flow, processes, wait, progress, run)
    show(done, as_json, lambda: _table(done))
    if processes == 0:
        err().print(f"[yellow]warning:[/yellow] no process of {flow} runs here now: its records wait in the log")
    if (not done.ready and wait) or any(each["killed"] for each in done.removed):
        raise typer.Exit(int(ExitCode.FAILED))


def _table(done: Scaled) -> Table | str:
    if not done.added and not done.removed:
        return f"{done.flow}: {_count(done.after)}, as before"
    title = f"{done.flow}: {done.before} → {_count(done.after)} ({done.seconds:.1f} s)"
    table = Table("process", "", "", title=title, title_justify="left", box=None, show_header=False, title_style="bold")
    for each in done.added:
        table.add_row(each["name"], "[green]added[/green]", _now(each))
    for each in done.removed:
        how = "killed: its place is free after the session's timeout" if each["killed"] else ""
        table.add_row(each["name"], "[dim]removed[/dim]", how)
    return table


def _now(added: dict[str, Any]) -> str:
    return f"{(added['phase'] or 'starting').replace('_', ' ')} {added['partitions']}".rstrip()


def _count(number: int) -> str:
    return f"{number} process{'' if number == 1 else 'es'}"
