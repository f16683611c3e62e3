"""The command line. One module a group of commands, each with ``register(app)``; `COMMANDS` is the list of them.

Nothing is decided here: a command reads the settings, calls a room below, and shows what came back.
"""

from __future__ import annotations

import inspect
from importlib import import_module, metadata
from pathlib import Path
from typing import Annotated

import typer
from typer.models import CommandInfo

from trends.cli.context import give

COMMANDS: tuple[str, ...] = (
    "trends.cli.stack",
    "trends.cli.demo",
    "trends.cli.views",
    "trends.cli.why",
    "trends.cli.dead_letters",
    "trends.cli.forget",
    "trends.cli.settings",
    "trends.cli.collect",
    "trends.cli.track",
    "trends.cli.feedback",
    "trends.cli.aliases",
    "trends.cli.streams",
    "trends.cli.flow",
    "trends.cli.run",
    "trends.cli.scale",
    "trends.cli.replay",
    "trends.cli.generations",
    "trends.cli.lag",
    "trends.cli.state",
    "trends.cli.verify",
    "trends.cli.eval",
)
"""Modules with commands, in the order in which `trends --help` shows them. A new group is one line here."""

_HELP = """Which subjects are rising, which stories make them rise, and what each story says.

\b
A first look:
  trends demo                  everything, with a synthetic world, in one command
\b
What is rising, and why:
  trends top                   what rises, now or at any past time
  trends show NAME             one trend, or one story, with everything
  trends search TEXT           stories, by words and by meaning
  trends report                one HTML page to read or to send
\b
Day by day:
  trends up                    start Kafka and PostgreSQL on this machine
  trends status                what runs, where, and how much it takes
  trends settings              every setting, its value, and where that came from
  trends down                  stop them; the data stays

Every command has --help with examples; most have --json. Exit codes: 0 done, 1 failed, 2 wrong usage or setting,
69 something cannot be reached, 76 another process of the same name took over, 78 a person must decide, 130 Ctrl-C.
"""


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"trend-intelligence {metadata.version('trend-intelligence')}")
        raise typer.Exit


def build() -> typer.Typer:
    """The whole command line."""
    app = typer.Typer(
        name="trends",
        help=flowing(_HELP),
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    )

    @app.callback()
    def root(
        home: Annotated[
            Path | None, typer.Option("--home", help="Data folder, instead of TRENDS_HOME.", show_default=False)
        ] = None,
        _version_wanted: Annotated[
            bool, typer.Option("--version", help="Print the version and end.", callback=_version, is_eager=True)
        ] = False,
    ) -> None:
        give(home=home)

    for module in COMMANDS:
        import_module(module).register(app)
    for command in _commands(app):
        command.help = flowing(inspect.getdoc(command.callback) or "")
    return app


def _commands(app: typer.Typer) -> list[CommandInfo]:
    groups = (group.typer_instance for group in app.registered_groups)
    return [*app.registered_commands, *(each for group in groups if group for each in _commands(group))]


def flowing(text: str) -> str:
    """Help for a terminal of any width: each paragraph one line that the terminal breaks; indented lines stay."""
    lines: list[str] = []
    joins = False
    for line in text.splitlines():
        line = "" if line == "\b" else line
        if joins and line and not line.startswith(" "):
            lines[-1] += " " + line
        elif line or not lines or lines[-1]:
            lines.append(line)
        joins = bool(line) and not line.startswith(" ")
    return "\n".join(lines)
