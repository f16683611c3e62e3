"""A seeded world whose end is known: message n is a function of the seed and n alone, so a killed feeder goes on
where it was acknowledged, and whoever checks knows what must be in the stores after n messages.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random
from typing import Any, Final

from streams.ids import item_id_of

SOURCE: Final = "file"
STORIES: Final = 150
TRENDS: Final = 24
TICKS: Final = 32
FIRST_NEW: Final = 100
"""So many messages are new items before anything happens to one."""
LATEST: Final = 2_000
"""Updates, edits and deletions are of an item among so many messages before."""

Fields = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Made:
    """One message of the world: an observation, or rubbish (``item`` empty)."""

    number: int
    value: bytes
    trend_id: str
    item: str = ""
    """The external id of the item that it is about."""
    fields: Fields = field(default_factory=dict)


@dataclass(slots=True)
class TrueItem:
    """What must be known of an item after some messages."""

    home: str
    mentions: tuple[str, ...]
    title: str
    engagement: tuple[int, int]
    """Points and comments; none of a deleted item."""
    tick: int
    """Last observation, in 1/32 s: what is nearer than that is the same observation again."""
    deleted: bool = False
    decisions: int = 1
    """Records that cluster must have written about it."""


class World:
    """Messages 0, 1, 2, … of a seed.

    Args:
        seed: of everything.
        begin: when message 0 was observed.
        step: between two messages.
    """

    def __init__(self, seed: int, begin: datetime, step: timedelta) -> None:
        self.seed = seed
        self._begin = begin
        self._step = step

    def message(self, number: int) -> Made:
        """The message of that number."""
        rng = Random(f"{self.seed}/{number}")
        kind = self._kind(number)
        if kind == "rubbish":
            return self._rubbish(number, rng)
        founder = number if kind == "new" else self._founder(number, rng)
        fields = self._first(founder)
        if kind in ("update", "edit", "delete"):
            fields |= {"observed_at": self._at(number).isoformat()}
            fields |= {"engagement": {"points": rng.randrange(500), "comments": rng.randrange(50)}}
        if kind == "edit":
            fields |= {"title": fields["title"] + f" (corrected {number})"}
        if kind == "delete":
            fields |= {"kind": "deleted"}
        value = json.dumps(fields, separators=(",", ":")).encode()
        return Made(number, value, fields["trend_id"], fields["external_id"], fields)

    def messages(self, first: int, count: int) -> Iterator[Made]:
        """Some messages in their order."""
        return (self.message(n) for n in range(first, first + count))

    def _kind(self, number: int) -> str:
        if number < FIRST_NEW:
            return "new"
        roll = Random(f"{self.seed}:{number}").random()
        for kind, share in (("new", 0.62), ("update", 0.8), ("edit", 0.86), ("delete", 0.9), ("repeat", 0.96)):
            if roll < share:
                return kind
        return "rubbish"

    def _founder(self, number: int, rng: Random) -> int:
        """The number of a message before, not long ago, that was of a new item."""
        at = number - 1 - rng.randrange(min(number, LATEST))
        while self._kind(at) != "new":  # message 0 is
            at -= 1
        return at

    def _at(self, number: int) -> datetime:
        return self._begin + number * self._step

    def _first(self, number: int) -> Fields:
        rng = Random(f"{self.seed}?{number}")
        external_id = f"chaos-{self.seed}-{number}"
        story = min(rng.randrange(STORIES), rng.randrange(STORIES))
        at = self._at(number).isoformat()
        return {
            "item_id": item_id_of(SOURCE, external_id),
            "source": SOURCE,
            "external_id": external_id,
            "kind": "post",
            "title": f"Strike of quellmark{story} {rng.choice(('begins', 'spreads', 'ends'))} at pier {story}",
            "observed_at": at,
            "published_at": at,
            "trend_id": f"term:chaos{(story + rng.randrange(3)) % TRENDS}",
            "mentions": [f"term:chaos{(story + 5) % TRENDS}"] if rng.random() < 0.3 else [],
            "publisher": f"site{rng.randrange(40)}.example",
            "engagement": {"points": rng.randrange(40), "comments": rng.randrange(9)},
        }

    def _rubbish(self, number: int, rng: Random) -> Made:
        fields = self._first(number)
        value = rng.choice(
            (
                b"rubbish %d" % number,
                json.dumps(fields | {"title": number}).encode(),
                json.dumps({k: v for k, v in fields.items() if k != "kind"}).encode(),
                json.dumps(fields | {"observed_at": f"day {number}"}).encode(),
                json.dumps(fields | {"title": f"\x00{number}"}).encode(),
                json.dumps(fields | {"item_id": item_id_of(SOURCE, "another")}).encode(),
            )
        )
        return Made(number, value, fields["trend_id"])


@dataclass(slots=True)
class Truth:
    """What must be known after some messages, each sent at least once, those of an item in their order."""

    items: dict[str, TrueItem] = field(default_factory=dict)
    """By item id."""
    rubbish: set[bytes] = field(default_factory=set)
    good: dict[bytes, Made] = field(default_factory=dict)
    """Well-formed messages by their bytes."""

    def take(self, made: Made) -> None:
        """One more message."""
        if not made.item:
            self.rubbish.add(made.value)
            return
        self.good[made.value] = made
        f = made.fields
        tick = int(datetime.fromisoformat(f["observed_at"]).timestamp() * TICKS)
        engagement = (f["engagement"]["points"], f["engagement"]["comments"])
        known = self.items.get(f["item_id"])
        if known is None:
            mentions = tuple(m for m in f["mentions"] if m != f["trend_id"])
            self.items[f["item_id"]] = TrueItem(f["trend_id"], mentions, f["title"], engagement, tick)
        elif tick > known.tick:
            known.tick = tick
            self._again(known, f, engagement)

    @staticmethod
    def _again(known: TrueItem, f: Fields, engagement: tuple[int, int]) -> None:
        if f["kind"] == "deleted":
            known.decisions += not known.deleted
            known.deleted, known.engagement = True, (0, 0)
        else:
            known.decisions += known.deleted or (f["title"], engagement) != (known.title, known.engagement)
            known.deleted, known.title, known.engagement = False, f["title"], engagement

    def trends(self) -> dict[str, tuple[int, int, int]]:
        """Of each trend: items that are there, their points, their comments."""
        sums: dict[str, tuple[int, int, int]] = {}
        for item in self.items.values():
            for trend in (item.home, *item.mentions):
                n, points, comments = sums.get(trend, (0, 0, 0))
                sums[trend] = (n + (not item.deleted), points + item.engagement[0], comments + item.engagement[1])
        return sums


def truth_of(world: World, count: int) -> Truth:
    """The end of the first ``count`` messages."""
    truth = Truth()
    for made in world.messages(0, count):
        truth.take(made)
    return truth
