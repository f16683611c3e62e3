"""What an audit says: the list of checks, what each found, and what was looked at. Values only."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

CHECKS: Final[dict[str, str]] = {
    "raw.lost": "Every raw record was embedded, or is a dead letter, or is of something that was to be forgotten.",
    "raw.doubled": "No raw record was embedded more often than it was sent.",
    "embedded.orphaned": "Every embedded record comes from a raw record.",
    "items.undecided": "Every item that was embedded has been decided about.",
    "items.outdated": "The newest decision about an item is about its newest observation.",
    "items.first": "Every item has exactly one first sighting within the horizon.",
    "decisions.orphaned": "Every decision is about an observation that was embedded.",
    "decisions.doubled": "No decision's number was used twice, and no observation was decided about twice.",
    "decisions.missing": "The numbers of the decisions (items, topics that merged or faded) have no hole.",
    "mentions": "Every decision is counted once for each of its trends, with its weight, and nothing else is.",
    "written.twice": "No topic update, score or summary stands twice in its stream.",
    "scores": "A trend's newest score has counted all its mentions, and its total is the sum of their weights.",
    "merges": "Every topic that was merged away leads to one that is there, never in a circle.",
    "topics.sizes": "A topic's size is the number of its items that have not been deleted, through all merges.",
    "summaries": "Every topic that is due has a summary, and every summary has a topic.",
    "store.items": "Every item is stored, once, in its newest version.",
    "store.mentions": "Every mention is stored, once, in its newest version.",
    "store.topics": "Every topic is stored, once, in its newest version.",
    "store.summaries": "Every topic's newest summary is stored, once.",
    "store.trends": "Every trend's newest score is stored, once.",
    "store.forgotten": "No shard holds an item that was to be forgotten.",
    "store.shards": "Every row stands on the shard of its trend's bucket.",
    "streams.readable": "Every derived record can be read, or is a dead letter.",
    "streams.partitions": "Every derived record stands in the partition of its trend.",
}
"""Every check, in the order of the flow, with what it promises in one sentence."""


@dataclass(frozen=True, slots=True)
class Span:
    """What to audit: event time and arrival time, [from, to); None: open. Totals are always over everything kept."""

    event_from: datetime | None = None
    event_to: datetime | None = None
    log_from: datetime | None = None
    log_to: datetime | None = None


EVERYTHING: Final = Span()


@dataclass(frozen=True, slots=True)
class Example:
    """One thing that is off: what it is, where it stands, and what is wrong with it."""

    id: str
    where: str
    """``stream/partition/offset``, or ``table on shard n``."""
    what: str


@dataclass(slots=True)
class Check:
    """One promise, and whether it was kept."""

    name: str
    says: str
    examined: int = 0
    """Records, items, topics, trends or rows: what the promise is about."""
    off: int = 0
    unexamined: int = 0
    """Too old, too new or too excused to say."""
    examples: list[Example] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class StreamPart:
    """What was read of one stream."""

    stream: str
    partitions: int
    begins: tuple[int, ...]
    """The first offset read, by partition."""
    ends: tuple[int, ...]
    """The offset behind the last one that had to be accounted for."""
    records: int
    """Committed records read (transaction markers and what is compacted away are none)."""
    whole: bool
    """Whether it was read from its very beginning, nothing deleted before it."""


@dataclass(frozen=True, slots=True)
class Report:
    """The outcome of an audit."""

    generation: str
    span: Span
    began: datetime
    seconds: float
    checks: tuple[Check, ...]
    streams: tuple[StreamPart, ...]
    rows: dict[str, int]
    """Rows read of the stores, by table, all shards."""
    dead_letters: int
    forgotten: int
    """Requests to forget an item or an author."""
    since: datetime | None
    """The generation was built from history since this event time; None: from all of it."""
    left_out: int
    """Observations before it, which it leaves out: nothing has to follow from them."""
    peak_mib: int
    """The most memory that the process has held, MiB."""

    @property
    def off(self) -> int:
        """How many things are off."""
        return sum(check.off for check in self.checks)

    @property
    def clean(self) -> bool:
        """Whether every promise was kept."""
        return self.off == 0

    @property
    def failed(self) -> tuple[str, ...]:
        """The names of the checks that found something."""
        return tuple(check.name for check in self.checks if check.off)
