"""``trends settings``: every setting, its value, where that came from, and what it means."""

from __future__ import annotations

import difflib
from typing import Annotated

import typer
from rich.table import Table

from trends.cli.context import current_settings
from trends.cli.output import JsonOption, err, show
from trends.settings import PREFIX, SettingRow, Settings, unknown_variables


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command(name="settings")(settings)


def settings(
    changed: Annotated[bool, typer.Option("--changed", help="Only those that differ from their default.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show every setting: name, value, where it came from, meaning. Secrets are masked.

    A setting x is set by the environment variable TRENDS_X, or by a line in trends.toml (in the working folder, or
    the file that TRENDS_CONFIG names); the environment wins.

    \b
    Examples:
      trends settings --changed
      TRENDS_KAFKA_BOOTSTRAP=broker:9092 trends settings
      trends settings --json | jq '.[] | select(.source != "default")'
    """
    rows = [row for row in current_settings().explain() if row.source != "default" or not changed]
    show(rows, as_json, lambda: _table(rows))
    for name in unknown_variables():
        close = difflib.get_close_matches(name, [PREFIX + field.upper() for field in Settings.model_fields], n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        err().print(f"[yellow]note:[/yellow] {name} is set, but there is no such setting{hint}", soft_wrap=True)


def _table(rows: list[SettingRow]) -> Table:
    table = Table(header_style="bold", expand=False)
    table.add_column("setting", no_wrap=True)
    table.add_column("value", overflow="fold")
    table.add_column("from", overflow="fold")
    table.add_column("meaning", overflow="fold")
    for row in rows:
        style = "" if row.source == "default" else "bold"
        table.add_row(row.name, row.value, row.source, row.meaning, style=style)
    return table
