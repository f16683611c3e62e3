"""How commands show things: tables for people, JSON for programs, errors in one line. Results go to stdout, all else
to stderr, so that a pipe gets the result alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console, RenderableType
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from streams.errors import TrendsError

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
"""The type of every command's ``as_json`` parameter."""


def out() -> Console:
    """The console for results. Made at use, so that it writes to what stdout is now."""
    return Console(highlight=False)


def err() -> Console:
    """The console for progress and errors."""
    return Console(stderr=True, highlight=False)


def show(value: Any, as_json: bool, render: Callable[[], RenderableType]) -> None:
    """Print a result: ``value`` (dataclasses, mappings, sequences) as JSON, or what ``render`` draws."""
    if as_json:
        print_json(value)
    else:
        out().print(render())


def print_json(value: Any) -> None:
    """Print a value as indented JSON; paths and the like as text."""
    typer.echo(orjson.dumps(value, default=str, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS).decode())


def progress(line: str) -> None:
    """Say on stderr what is being done."""
    err().print(f"[dim]…[/dim] {escape(line)}")


@contextmanager
def progress_bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar with the expected end, on stderr where that is a terminal; told how much is done, of how much."""
    console = err()
    with Progress(
        TextColumn("{task.description}"), BarColumn(40), TaskProgressColumn(), MofNCompleteColumn(),
        TimeRemainingColumn(), console=console, transient=True, disable=not console.is_terminal,
    ) as bar:  # fmt: skip
        task = bar.add_task(what, total=None)
        yield lambda done, of: bar.update(task, completed=done, total=of)


def tell_error(error: TrendsError) -> None:
    """Print an error that was raised on purpose, on stderr."""
    err().print(f"[bold red]error:[/bold red] {escape(str(error))}", soft_wrap=True)
