"""What every command starts from: the settings, with what the command line itself gave."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Annotated, Any

import typer

from trends.settings import Settings, load_settings

_given: ContextVar[dict[str, Any]] = ContextVar("given", default={})  # noqa: B039 (replaced whole, never changed)

GenerationOption = Annotated[
    str | None,
    typer.Option("--generation", "-g", help="Generation, instead of TRENDS_GENERATION; unset: the live one."),
]
"""The type of a command's ``generation`` parameter: for :func:`current_settings`, then ``trends.following``."""


def give(**options: Any) -> None:
    """Remember settings that options in front of the command name; None: not given."""
    _given.set({name: value for name, value in options.items() if value is not None})


def current_settings(**more: Any) -> Settings:
    """The settings of this command: environment and file, and over them the options of the command line.

    Raises:
        SettingsError: a setting cannot be used.
    """
    return load_settings(**_given.get(), **{name: value for name, value in more.items() if value is not None})
