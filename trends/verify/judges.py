"""What must hold among the rows of one bucket: pure functions over columns, one for each join.

Every rule here restates one of the platform (``models.engine``, ``models.scoring``, ``sinks.postgres.rows``) from the
outside: from what was written, never from the state of a flow.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from trends.verify.book import Book
from trends.verify.relations import (
    AGAIN,
    AHEAD,
    ASKED,
    DUE,
    EMBEDDED,
    ENRICHED,
    EXCUSED,
    FIRST,
    GONE,
    MENTION,
    RAW,
    REFUSED,
    ROW,
    SCORE,
    SUMMARY,
    SUMMARY_ROW,
    UPDATE,
)
from trends.verify.spill import Groups, Ints, Mask, Rows, look_up

LATE_MS: Final = 86_400_000
"""Where a stream was cut, what derives from before the cut may arrive this much later."""
NO_WEIGHT: Final = -2
NEVER: Final = -(2**62)
"""Below every version and time."""
LOWEST, HIGHEST = -(2**63), 2**63 - 1
"""What bounds a column of keys."""


@dataclass(slots=True)
class Facts:
    """What the judges have to know about the audit as a whole."""

    since_ms: dict[int, int]
    """By side: what arrived before is not all there any more (or was not read); 0: everything is there."""
    lowest_seq: int
    """Decisions from here on are all there; a very large number where that cannot be said."""
    highest_seq: int
    """Decisions up to here must be there; −1 where there are none."""
    forgetting: bool
    """Whether items may have been forgotten: the data spans more than the horizon, or there are too many."""
    newest_slice: int
    past_slices: int
    many_trends: bool
    """More than score holds in memory."""
    forgotten: bool = False
    """Whether anything was to be forgotten: topics that had ended are then told once more, without it."""

    def whole(self, side: int) -> bool:
        return not self.since_ms.get(side)


def _flag(rows: Rows, flag: int) -> Mask:
    mask: Mask = (rows["flags"] & flag) != 0
    return mask


def _sides(rows: Rows, *sides: int) -> Mask:
    mask = np.zeros(len(rows), np.bool_)
    for side in sides:
        mask |= rows["side"] == side
    return mask


def observations(rows: Rows, facts: Facts, book: Book) -> None:
    """raw → embedded → decisions, by item and time of the observation."""
    groups = Groups(rows["key"])
    once = ~_flag(rows, AGAIN) | (rows["side"] == RAW)
    raw, embedded, enriched = ((rows["side"] == side) & once for side in (RAW, EMBEDDED, ENRICHED))
    asked, excused = _flag(rows, ASKED), _flag(rows, EXCUSED)
    sent, written = groups.count(raw), groups.count(embedded)
    kept = raw & asked & (rows["seen"] >= facts.since_ms.get(EMBEDDED, 0))
    wanted = groups.count(kept & ~excused)
    book.examined("raw.lost", kept.sum(), (raw & asked & ~kept).sum())
    book.off("raw.lost", wanted > written, "was neither embedded nor is it a dead letter",
             *_first(groups, rows, kept & ~excused), count=wanted - written)  # fmt: skip

    explained = _explained(rows, embedded, RAW, facts)
    certain = groups.count(explained & asked)
    book.examined("raw.doubled", (embedded & asked).sum(), (embedded & asked & ~explained).sum())
    book.off("raw.doubled", (sent > 0) & (certain > sent), "was embedded more often than it was sent",
             *_first(groups, rows, embedded), count=certain - sent)  # fmt: skip
    book.examined("embedded.orphaned", (embedded & asked).sum(), (embedded & asked & ~explained).sum())
    book.off("embedded.orphaned", (sent == 0) & (certain > 0), "no raw record is of this observation",
             *_first(groups, rows, embedded), count=certain)  # fmt: skip

    explained = _explained(rows, enriched, EMBEDDED, facts)
    decided = groups.count(explained & asked)
    book.examined("decisions.orphaned", (enriched & asked).sum(), (enriched & asked & ~explained).sum())
    book.off("decisions.orphaned", (written == 0) & (decided > 0), "this observation was never embedded",
             *_first(groups, rows, enriched), count=decided)  # fmt: skip
    lowest = groups.min(rows["seq"], enriched, 2**62)
    twice = groups.max(rows["seq"], enriched, NEVER) > lowest
    if not facts.forgetting:
        book.off("decisions.doubled", twice, "this observation was decided about twice",
                 *_first(groups, rows, enriched))  # fmt: skip


def _explained(rows: Rows, mask: Mask, by: int, facts: Facts) -> Mask:
    """Rows whose origin must still be there."""
    since = facts.since_ms.get(by, 0)
    return mask & (rows["seen"] >= since + LATE_MS) if since else mask


def _first(groups: Groups, rows: Rows, mask: Mask) -> tuple[Ints, Ints]:
    """Places and keys of the first row of each group for which ``mask`` holds (any row where it holds for none)."""
    first = groups.first(mask)
    first = np.where(first >= 0, first, groups.order[groups.starts] if len(groups) else first)
    return rows["place"][first], rows["key"][first]


def items(rows: Rows, facts: Facts, book: Book) -> int:
    """embedded → decisions → rows, by item. Returns how many items were sighted anew after they had been forgotten."""
    groups = Groups(rows["key"])
    embedded, enriched, stored = (rows["side"] == side for side in (EMBEDDED, ENRICHED, ROW))
    asked, excused, gone = _flag(rows, ASKED), _flag(rows, EXCUSED), _flag(rows, GONE)
    decided = groups.any(enriched)

    due = groups.any(embedded & asked & ~gone & ~excused)
    older = groups.any(stored) if not facts.whole(ENRICHED) else np.zeros(len(groups), np.bool_)
    deleted_before = groups.max(rows["at"], embedded & gone, NEVER) >= groups.max(
        rows["at"], embedded & ~gone, NEVER + 1
    )
    doubtful = groups.any(embedded & (~asked | (rows["at"] < 0)))
    deleted_before |= groups.any(embedded & gone) & (doubtful | groups.any(embedded & _flag(rows, AHEAD)))
    book.examined("items.undecided", due.sum(), (due & ~decided & (older | deleted_before)).sum())
    book.off("items.undecided", due & ~decided & ~older & ~deleted_before, "was embedded and never decided about",
             *_first(groups, rows, embedded & asked & ~gone))  # fmt: skip

    newest = groups.max(rows["at"], embedded, NEVER)
    latest = embedded & (rows["at"] == newest[groups.of])
    seq = groups.max(rows["at"], enriched, NEVER)
    state = groups.max(rows["state"], enriched & (rows["at"] == seq[groups.of]), LOWEST)
    agrees = groups.any(latest & (rows["state"] == state[groups.of]))
    compared = decided & groups.any(embedded)
    settled = ~doubtful & ~groups.any(latest & excused) & (agrees | ~groups.any(latest & _flag(rows, AHEAD)))
    book.examined("items.outdated", (compared & settled).sum(), (compared & ~settled).sum())
    book.off("items.outdated", compared & settled & ~agrees,
             "its newest decision does not show the text and engagement of its newest observation",
             *_first(groups, rows, latest))  # fmt: skip

    firsts = enriched & _flag(rows, FIRST)
    last_first = groups.max(rows["at"], firsts, NEVER)
    again = groups.any(firsts) & (groups.min(rows["at"], firsts, 2**62) < last_first)
    known = groups.any(enriched & asked)
    if facts.whole(ENRICHED):
        book.examined("items.first", known.sum())
        book.off("items.first", known & ~groups.any(firsts), "no decision says that it was seen for the first time",
                 *_first(groups, rows, enriched))  # fmt: skip
    else:
        book.examined("items.first", (known & groups.any(firsts)).sum(), (known & ~groups.any(firsts)).sum())
    if not facts.forgetting:
        book.off("items.first", again, "it was seen for the first time more than once",
                 *_first(groups, rows, firsts & (rows["at"] == last_first[groups.of])))  # fmt: skip

    both = rows[_sides(rows, ENRICHED, ROW)]
    store(book, "store.items", both, ENRICHED, ROW, "items", facts.lowest_seq, columns=("key", "seen"))
    rows_of = groups.count(stored)
    return int((again | (rows_of > 1)).sum()) if facts.forgetting else 0


def store(
    book: Book, name: str, rows: Rows, record: int, row: int, table: str, lowest: int,
    columns: tuple[str, ...] = ("key",), exempt: Mask | None = None,
) -> None:  # fmt: skip
    """The rows of a table against the newest records that they are made of.

    ``lowest``: versions from here on are all in the stream (a row with an older one may have outlived its record).
    """
    groups = Groups(*(rows[column] for column in columns))
    records, stored = rows["side"] == record, rows["side"] == row
    asked, excused = _flag(rows, ASKED), _flag(rows, REFUSED)
    newest_asked = groups.max(rows["at"], records & asked & ~excused, NEVER)
    newest = groups.max(rows["at"], records, NEVER)
    version = groups.max(rows["at"], stored, NEVER)
    wanted, there = newest_asked > NEVER, version > NEVER
    book.examined(name, wanted.sum(), (groups.any(records & asked) & ~wanted).sum())
    places = _first(groups, rows, records & (rows["at"] == newest_asked[groups.of]))
    book.off(name, wanted & ~there, "has no row", *places)
    book.off(name, wanted & there & (version < newest_asked), "its row is older than its newest record", *places)
    spots = _first(groups, rows, stored)
    ahead = there & (newest > NEVER) & (version > newest)
    book.off(name, ahead, "its row is newer than its newest record", *spots, table=table)
    made = groups.max(rows["row"], records & (rows["at"] == newest[groups.of]), LOWEST)
    same = groups.any(stored & (rows["row"] == made[groups.of]))
    differs = there & (newest > NEVER) & (version == newest) & ~same
    book.off(name, differs, "its row differs from its newest record", *spots, table=table)
    orphaned = there & (newest == NEVER) & (version >= lowest) & groups.any(stored & asked)
    book.off(name, orphaned, "no record of it is in the stream", *spots, table=table)
    book.off(name, groups.count(stored) > 1, "has more than one row", *spots, table=table)


def decisions(rows: Rows, number: int, buckets: int, facts: Facts, book: Book) -> Ints:
    """Decisions by their number, with the mentions that each must have. Returns the numbers that are missing."""
    groups = Groups(rows["key"])
    once = ~_flag(rows, AGAIN)
    enriched, mention = (rows["side"] == ENRICHED) & once, (rows["side"] == MENTION) & once
    asked = _flag(rows, ASKED)
    seqs = rows["key"][groups.order[groups.starts]] if len(groups) else np.empty(0, np.int64)
    book.examined("decisions.doubled", (enriched & asked).sum())
    book.off("decisions.doubled", groups.count(enriched) > 1, "its number was used more than once",
             *_first(groups, rows, enriched))  # fmt: skip

    first = facts.lowest_seq + (number - facts.lowest_seq) % buckets
    expected = np.arange(first, facts.highest_seq + 1, buckets, dtype=np.int64)
    present = np.sort(seqs[groups.any(enriched | (rows["side"] == UPDATE))])
    book.examined("decisions.missing", len(expected))
    missing = expected[look_up(present, expected) < 0]

    decision = groups.first(enriched)
    chosen = np.maximum(decision, 0)
    trends = np.where(decision >= 0, rows["trends"][chosen], 0).astype(np.int64)
    weight = np.where(decision >= 0, rows["weight"][chosen], 0).astype(np.int64)
    names = np.where(decision >= 0, rows["trend"][chosen], 0)
    counted, weights = groups.count(mention), groups.sum(np.where(mention, rows["weight"], 0))
    with np.errstate(over="ignore"):
        summed = groups.sum(np.where(mention, rows["trend"], 0))
    optional = (weight == 2) & (counted == 0)
    weighs = np.where(weight == 2, (weights == 0) | (weights == trends), weights == weight * trends)
    right = optional | ((counted == trends) & weighs & (summed == names))
    both = enriched | mention
    about = groups.max(rows["item"], both, LOWEST) == groups.min(rows["item"], both, HIGHEST)
    kept = seqs >= facts.lowest_seq
    judged = kept & groups.any(enriched & asked)
    book.examined("mentions", judged.sum(), (groups.any(enriched & asked) & ~kept).sum())
    at = _first(groups, rows, enriched)
    book.off("mentions", judged & (counted < trends) & ~right, "is not counted for each of its trends", *at)
    book.off("mentions", judged & (counted > trends), "is counted more often than it has trends", *at)
    book.off("mentions", judged & (counted == trends) & ~right, "is counted with another weight or trend", *at)
    book.off("mentions", judged & right & ~about & ~optional, "another item is counted for it", *at)
    orphaned = kept & groups.any(mention & asked) & (decision < 0)
    book.off("mentions", orphaned, "no decision has its number", *_first(groups, rows, mention))
    return missing


def mention_rows(rows: Rows, facts: Facts, book: Book) -> None:
    """Mentions by trend, item and sighting, against their rows."""
    store(book, "store.mentions", rows, MENTION, ROW, "mentions", facts.lowest_seq)
    groups = Groups(rows["key"])
    mention, stored = rows["side"] == MENTION, rows["side"] == ROW
    weighs = mention & (rows["weight"] != 0) & ~_flag(rows, REFUSED)
    settled = ~groups.any(weighs & ~_flag(rows, ASKED))
    last = groups.max(rows["at"], weighs, NEVER)
    weight = groups.max(rows["weight"], weighs & (rows["at"] == last[groups.of]), NO_WEIGHT)
    shown = groups.max(rows["weight"], stored, NO_WEIGHT)
    book.off("store.mentions", settled & (weight > NO_WEIGHT) & (shown > NO_WEIGHT) & (weight != shown),
             "its row does not say whether it counts", *_first(groups, rows, stored), table="mentions")  # fmt: skip


def trends(rows: Rows, facts: Facts, book: Book) -> None:
    """Scores against the mentions that they have counted, and rows against scores."""
    groups = Groups(rows["key"])
    mention = (rows["side"] == MENTION) & ~_flag(rows, EXCUSED)
    score, asked = rows["side"] == SCORE, _flag(rows, ASKED)
    _twice(rows, SCORE, book)
    version = groups.max(rows["at"], score, NEVER)
    total = groups.max(rows["amount"], score & (rows["at"] == version[groups.of]), NEVER)
    counted = groups.count(mention)
    settled = ~groups.any(mention & ~asked)
    scored = groups.any(score)

    chosen = np.flatnonzero(mention)
    order = chosen[np.lexsort((rows["at"][chosen], groups.of[chosen]))]
    of = groups.of[order]
    begins = np.searchsorted(of, np.arange(len(groups)))
    index = np.arange(len(order)) - begins[of] if len(order) else np.empty(0, np.int64)
    would_be = rows["at"][order] + counted[of] - index - 1
    weights = np.cumsum(rows["amount"][order])
    ends = np.searchsorted(of, np.arange(len(groups)), side="right") - 1
    rest = weights[ends[of]] - weights + rows["amount"][order] if len(order) else weights
    slices = rows["seen"][order]
    heard = np.full(len(order), NEVER, np.int64)
    if len(order) > 1:
        # The newest slice of a trend so far: a running maximum that starts anew with each trend.
        step = int(slices.max() - slices.min()) + 1
        running = np.maximum.accumulate(slices + of * step) - of * step
        heard[1:] = np.where(index[1:] > 0, running[:-1], NEVER)
    may_begin = (index == 0) | (heard <= facts.newest_slice - facts.past_slices) | facts.many_trends
    fits = may_begin & (would_be == version[of]) & (np.maximum(rest, 0) == total[of])
    matched = np.zeros(len(groups), np.bool_)
    np.logical_or.at(matched, of, fits)

    whole = facts.whole(MENTION)
    highest = np.full(len(groups), NEVER, np.int64)
    if len(order):
        starts = index == 0
        highest[of[starts]] = would_be[starts]
    examined = (counted > 0) & settled
    # A score may have counted mentions that are gone; as many decisions lie between them and those that are left, at
    # least, as there were mentions: all of one trend in a row is the case in which both versions are the same.
    old = np.zeros(len(groups), np.bool_) if whole else scored & ~matched & (version <= highest)
    book.examined("scores", (examined & ~old).sum(), ((counted > 0) & (~settled | old)).sum())
    at = _first(groups, rows, mention)
    book.off("scores", examined & ~scored & groups.any(mention & asked), "its mentions have no score", *at)
    spot = _first(groups, rows, score & (rows["at"] == version[groups.of]))
    book.off("scores", examined & scored & ~old & ~matched,
             "its newest score has counted other mentions than there are", *spot)  # fmt: skip
    if whole:
        book.off("scores", (counted == 0) & groups.any(score & asked), "it has a score and no mention", *spot)
    records = rows[_sides(rows, SCORE, ROW)]
    store(book, "store.trends", records, SCORE, ROW, "trends", NEVER + 1)


def _twice(rows: Rows, side: int, book: Book, exempt: int = 0) -> None:
    """The same version of the same thing, more than once in its stream; ``exempt``: flags of what may."""
    chosen = rows[(rows["side"] == side) & ~_flag(rows, AGAIN | exempt)]
    groups = Groups(chosen["key"], chosen["at"])
    book.examined("written.twice", len(groups))
    book.off("written.twice", groups.count(np.ones(len(chosen), np.bool_)) > 1, "stands more than once in its stream",
             *_first(groups, chosen, _flag(chosen, ASKED)))  # fmt: skip


def topics(rows: Rows, facts: Facts, book: Book) -> None:
    """Updates and summaries among themselves and against their rows."""
    _twice(rows, UPDATE, book, GONE if facts.forgotten else 0)
    _twice(rows, SUMMARY, book)
    store(book, "store.topics", rows[_sides(rows, UPDATE, ROW)], UPDATE, ROW, "topics", NEVER + 1)
    store(book, "store.summaries", rows[_sides(rows, SUMMARY, SUMMARY_ROW)], SUMMARY, SUMMARY_ROW, "topic_summaries",
          NEVER + 1)  # fmt: skip
    groups = Groups(rows["key"])
    update, summary = rows["side"] == UPDATE, rows["side"] == SUMMARY
    newest = groups.max(rows["at"], update, NEVER)
    last = update & (rows["at"] == newest[groups.of]) & _flag(rows, ASKED)
    due = groups.any(last & _flag(rows, DUE)) & ~groups.any(last & _flag(rows, EXCUSED))
    said = groups.any(summary)
    book.examined("summaries", (due | said).sum())
    book.off("summaries", due & ~said, "has no summary", *_first(groups, rows, update))
    book.off("summaries", groups.any(summary & _flag(rows, ASKED)) & (newest == NEVER), "there is no such topic",
             *_first(groups, rows, summary))  # fmt: skip
    ahead = said & (newest > NEVER) & ((groups.max(rows["at"], summary, NEVER) >> 8) > newest)
    book.off("summaries", ahead, "summarises an update that does not exist", *_first(groups, rows, summary))


def newest_of(rows: Rows, side: int) -> Rows:
    """Of each key the newest row of a side."""
    chosen: Rows = rows[rows["side"] == side]
    if not len(chosen):
        return chosen
    chosen = chosen[np.lexsort((chosen["at"], chosen["key"]))]
    last = np.ones(len(chosen), np.bool_)
    last[:-1] = chosen["key"][1:] != chosen["key"][:-1]
    newest: Rows = chosen[last]
    return newest


def sizes(topics_of: Rows, members: Rows, facts: Facts, book: Book) -> None:
    """Topics' rows against the items that lead to them (members by the topic that they resolve to)."""
    stored = newest_of(topics_of, ROW)
    updates = newest_of(topics_of, UPDATE)
    where = look_up(stored["key"], members["key"])
    lost = where < 0
    book.off("topics.sizes", lost, "its topic has no row", members["place"], members["item"], table="mentions")
    members, where = members[~lost], where[~lost]
    faded = (stored["flags"] & GONE) != 0
    late = faded[where] & (members["at"] > stored["at"][where])
    present = members["weight"] > 0
    sure = np.bincount(where[present & ~late], minlength=len(stored))
    maybe = np.bincount(where[late], minlength=len(stored))
    survives = stored["into"] == 0
    at = look_up(updates["key"], stored["key"])
    settled = (at >= 0) & ((updates["flags"][np.maximum(at, 0)] & ASKED) != 0) if len(updates) else at >= 0
    judged = survives & settled
    low = (sure <= stored["size"]) & (stored["size"] <= sure + maybe)
    if facts.forgetting or facts.forgotten:
        low |= faded & (sure <= stored["size"])
    book.examined("topics.sizes", judged.sum(), (survives & ~settled).sum())
    book.off("topics.sizes", judged & ~low, "its size is not the number of its items",
             stored["place"], stored["key"], table="topics")  # fmt: skip
