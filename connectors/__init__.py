"""Public sources: what each can be asked for, and how it is made. One file a source; the same order in each.

`KINDS` lists them; a source is named ``NAME`` or ``NAME:TARGET`` (``file:posts.csv``), options are plain ``key=value``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, get_type_hints

import msgspec
from msgspec import Struct

from connectors.base import Connector
from connectors.file import FileConnector, FileOptions
from connectors.hackernews import HackerNewsConnector, HackerNewsOptions
from connectors.rss import RssConnector, RssOptions
from connectors.synthetic import SyntheticConnector, SyntheticOptions
from streams.errors import SettingsError


@dataclass(frozen=True, slots=True)
class Option:
    """One option of a connector, as the command line shows it."""

    name: str
    help: str
    default: str


@dataclass(frozen=True, slots=True)
class ConnectorKind:
    """A connector by name: what it reads, what it can be told, how it is made."""

    name: str
    help: str
    target: str | None
    """What stands after the colon; None where nothing does."""
    target_required: bool
    options_type: type[Struct]
    make: Callable[[str | None, Any], Connector]

    @property
    def options(self) -> tuple[Option, ...]:
        """Its options, in order."""
        hints = get_type_hints(self.options_type, include_extras=True)
        return tuple(
            Option(field.name, _description(hints[field.name]), _shown(field.default, field.default_factory))
            for field in msgspec.structs.fields(self.options_type)
        )


def _description(hint: Any) -> str:
    return next((str(m.description) for m in getattr(hint, "__metadata__", ()) if getattr(m, "description", None)), "")


def _shown(default: Any, factory: Any) -> str:
    value = factory() if default is msgspec.NODEFAULT else default
    return "" if value in (None, {}, ()) else str(getattr(value, "value", value))


KINDS: Final[Mapping[str, ConnectorKind]] = {
    kind.name: kind
    for kind in (
        ConnectorKind(
            "file",
            "Rows of a CSV or JSON Lines file (also gzipped), replayed at their own times; - reads standard input.",
            "PATH",
            True,
            FileOptions,
            lambda target, options: FileConnector(target or "-", options),
        ),
        ConnectorKind(
            "rss",
            "RSS, Atom and JSON feeds: one address, a file with one address a line, or an OPML file.",
            "URL or FILE",
            True,
            RssOptions,
            lambda target, options: RssConnector(target or "", options),
        ),
        ConnectorKind(
            "hackernews",
            "Hacker News by its public API: top, new and best stories, and what becomes of them.",
            None,
            False,
            HackerNewsOptions,
            lambda target, options: HackerNewsConnector(options),
        ),
        ConnectorKind(
            "synthetic",
            "A seeded world of stories and noise whose true topics are known: for demos and measurements.",
            None,
            False,
            SyntheticOptions,
            lambda target, options: SyntheticConnector(options),
        ),
    )
}
"""Every connector there is."""


def connector_of(name: str, options: Mapping[str, object] | None = None) -> Connector:
    """The connector that ``NAME`` or ``NAME:TARGET`` stands for, with options as text or values.

    An option ``a.b`` puts ``b`` into the option ``a``: ``map.title=headline``.

    Raises:
        SettingsError: no such connector, target or option, or a value that cannot be one.
    """
    kind_name, _, target = name.partition(":")
    kind = KINDS.get(kind_name)
    if kind is None:
        raise SettingsError(f"no source {kind_name!r}; there are: {', '.join(KINDS)}")
    if kind.target_required and not target:
        raise SettingsError(f"{kind.name} needs a target: {kind.name}:{kind.target}")
    if target and kind.target is None:
        raise SettingsError(f"{kind.name} takes no target, but has {target!r}")
    return kind.make(target or None, _options(kind, options or {}))


def _options(kind: ConnectorKind, given: Mapping[str, object]) -> Struct:
    values: dict[str, Any] = {}
    known = {option.name for option in kind.options}
    for key, value in given.items():
        name, _, inner = key.partition(".")
        name = name.replace("-", "_")
        if name not in known:
            raise SettingsError(f"{kind.name} has no option {name!r}; it has: {', '.join(sorted(known))}")
        if inner:
            values.setdefault(name, {})[inner] = value
        else:
            values[name] = value
    try:
        options: Struct = msgspec.convert(values, kind.options_type, strict=False)
    except msgspec.ValidationError as error:
        raise SettingsError(f"{kind.name}: {error}") from None
    return options


def knows_option(name: str, option: str) -> bool:
    """Whether the connector of that name (with or without target) has such an option."""
    kind = KINDS.get(name.partition(":")[0])
    return kind is not None and any(each.name == option.partition(".")[0].replace("-", "_") for each in kind.options)


def pairs(texts: Iterable[str]) -> dict[str, str]:
    """``key=value`` texts as a mapping.

    Raises:
        SettingsError: one without an equals sign.
    """
    found: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise SettingsError(f"{text!r}: write it as key=value")
        found[key.strip()] = value
    return found
