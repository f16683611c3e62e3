"""What the names of a subject lead to: aliases of trends. Who joins them is a reader."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Final

CHAIN: Final = 16
"""How far names are followed that lead to names."""


def shown_as(alias_of: Mapping[str, str]) -> dict[str, str]:
    """For each name the trend that it is shown as. Names that lead in a circle are shown as themselves."""
    found = {}
    for name in alias_of:
        here, seen = name, {name}
        while (there := alias_of.get(here)) is not None and there not in seen and len(seen) <= CHAIN:
            seen.add(there)
            here = there
        if here not in alias_of:
            found[name] = here
    return found


def names_of(shown: Mapping[str, str], trend_ids: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """The trends that some ids are shown as, each with all its names, its own first."""
    names: defaultdict[str, list[str]] = defaultdict(list)
    for alias, trend in sorted(shown.items()):
        names[trend].append(alias)
    return {t: (t, *names.get(t, ())) for t in dict.fromkeys(shown.get(t, t) for t in trend_ids)}
