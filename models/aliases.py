"""Trends that are one subject under several names: what each name leads to, and which pairs look like it.

Nothing is decided here for good: people say which names are one, and readers join them.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from models.routing import TERM_PREFIX, is_misc
from streams.aliases import shown_as

MIN_ITEMS: Final = 5
"""A trend with fewer items in the window is not compared."""
MIN_SAME: Final = 10
"""So many items of both trends are needed before they are called the same …"""
MIN_STORIES: Final = 5
"""… in so many stories: within one, any two of its names go together."""
MIN_JACCARD: Final = 0.6
"""… and such a share of all items of either. The parts of a full name reach it; a maker and its product do not, since
each is talked about without the other."""

_MARKS: Final = re.compile(r"[^\w+#]|_")


@dataclass(frozen=True, slots=True)
class Pair:
    """Two trends that have items in common, in the window looked at."""

    one: str
    other: str
    same: int
    """Items that belong to both."""
    stories: int
    """Topics of those items."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """That one trend is another name of a second one."""

    alias: str
    trend_id: str
    reason: str
    """In words, with the figures it rests on."""
    certainty: float
    """0 … 1: to order by; 1 where both are spelt alike."""


def spelling(trend_id: str) -> str:
    """By what two names are spelt alike: letters without accents and marks, in lower case, singular.

    ``node.js`` and ``nodejs`` are; ``c`` and ``c++`` are not, nor are ``gpt-3`` and ``gpt-4``.
    """
    name = trend_id.removeprefix(TERM_PREFIX)
    plain = "".join(c for c in unicodedata.normalize("NFKD", name.casefold()) if not unicodedata.combining(c))
    key = _MARKS.sub("", plain)
    return key[:-1] if len(key) > 4 and key.endswith("s") and not key.endswith(("ss", "js", "us", "is")) else key


def propose(
    items: Mapping[str, int],
    pairs: Iterable[Pair],
    *,
    tracked: Iterable[str] = (),
    known: Mapping[str, str] | None = None,
) -> list[Proposal]:
    """Names that look like names of one subject, the surest first. A tracked subject is never another one's name.

    Args:
        items: of each trend in the window.
        pairs: of trends, with what they have in common.
        tracked: subjects of the catalogue.
        known: aliases that stand already: nothing is said about them again.
    """
    known, kept = known or {}, set(tracked)
    shown = shown_as(known)
    names = {t: n for t, n in items.items() if n >= MIN_ITEMS and t not in known and not is_misc(t)}
    found: dict[tuple[str, str], Proposal] = {}

    def add(one: str, other: str, reason: str, certainty: float) -> None:
        one, other = sorted((shown.get(one, one), shown.get(other, other)), key=lambda t: (t in kept, names[t], t))
        if one != other and one not in kept:
            found.setdefault((one, other), Proposal(one, other, reason, certainty))

    alike: defaultdict[str, list[str]] = defaultdict(list)
    for trend in names:
        if len(key := spelling(trend)) > 1:
            alike[key].append(trend)
    for group in alike.values():
        leading = max(group, key=lambda t: (t in kept, names[t], t))
        for trend in group:
            add(trend, leading, f"spelt alike; {names[trend]:,} and {names[leading]:,} items", 1.0)
    for pair in pairs:
        if pair.one not in names or pair.other not in names or pair.same < MIN_SAME or pair.stories < MIN_STORIES:
            continue
        either = names[pair.one] + names[pair.other] - pair.same
        if (share := pair.same / max(1, either)) >= MIN_JACCARD:
            reason = f"{pair.same:,} of the {either:,} items of either are of both, in {pair.stories:,} stories"
            add(pair.one, pair.other, reason, min(0.99, share))
    return sorted(found.values(), key=lambda p: (-p.certainty, -names[p.alias], p.alias))
