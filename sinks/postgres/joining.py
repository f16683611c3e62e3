"""Several trends that are one subject as one row: counted anew from their mentions, so that an item of two of them
counts once. What is asked, and by whom, is the reader's affair."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from math import floor
from typing import Any, Final

import msgspec

BURST_SLICES: Final = 24
"""Slices whose items are a trend's current ones."""


def joined_row(
    trend_id: str, rows: Sequence[Mapping[str, Any]], mentions: Iterable[Mapping[str, Any]], until: datetime
) -> dict[str, Any]:
    """One row of trends (or trend_scores) for several: that of the name mentioned last, with what is counted of all.

    Counts, publishers, sources, spread and velocity are of distinct items; sums of engagement and the total count an
    item of two names twice, as far as its slices are older than the mentions reach; the rank is the highest.

    Args:
        rows: of the names, at least one.
        mentions: of all names: ``item_id``, ``event_time``, ``publisher``, ``source``; in the slices that rows count.
        until: nothing later is counted.
    """
    base = dict(max(rows, key=lambda row: (row["slice_start"], row["version"])))
    slice_s, slices = base["slice_s"], max(row["slices"] for row in rows)
    last = _slice(base["slice_start"], slice_s)
    items = {m["item_id"]: m for m in mentions if m["event_time"] <= until}
    counts = [0] * slices
    current = []
    for mention in items.values():
        place = slices - 1 - (last - _slice(mention["event_time"], slice_s))
        if 0 <= place < slices:
            counts[place] += 1
            if place >= slices - BURST_SLICES:
                current.append(mention)
    one_by_one = sum(sum(row["counts"]) for row in rows)
    publishers = {m["publisher"] for m in current if m["publisher"]}
    recent, before = sum(counts[-BURST_SLICES:]), sum(counts[-2 * BURST_SLICES : -BURST_SLICES])
    hours = BURST_SLICES * slice_s / 3_600
    return base | {
        "trend_id": trend_id,
        "counts": counts,
        "slices": slices,
        "items": counts[-1] if counts else 0,
        "total": sum(row["total"] for row in rows) - max(0, one_by_one - sum(counts)),
        "publishers": len(publishers),
        "sources": msgspec.json.encode(dict(Counter(m["source"] for m in current))),
        "velocity": (recent - before) / hours,
        "spread": len(publishers) / len(current) if current else 0.0,
        **{name: sum(row[name] for row in rows) for name in ("points", "comments", "shares", "stars", "views")},
        "late": (),
        "hidden": base["hidden"] if base["slices"] == slices else (),
        "rank": max((row["rank"] for row in rows if row["rank"] is not None), default=None),
        "first_seen": min(row["first_seen"] for row in rows),
        "last_seen": max(row["last_seen"] for row in rows),
    }  # fmt: skip


def reach(rows: Iterable[Mapping[str, Any]]) -> datetime:
    """The beginning of the oldest slice that some rows count."""
    oldest: datetime = min(
        row["slice_start"] - timedelta(seconds=row["slice_s"] * max(0, row["slices"] - 1)) for row in rows
    )
    return oldest


def _slice(at: datetime, slice_s: int) -> int:
    return floor(at.timestamp() / slice_s)
