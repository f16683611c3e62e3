"""All judges over all buckets, and what needs more than one bucket: holes in the numbers, and where merges end."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from trends.verify import judges, merges
from trends.verify import relations as rel
from trends.verify.book import Book
from trends.verify.report import Example
from trends.verify.spill import Ints, Spill, look_up


def judge(
    relations: rel.Relations, facts: judges.Facts, book: Book, progress: Callable[[int, int], None] = lambda *_: None
) -> None:
    """Writes into ``book`` what does not hold. The relations are read, and ``members`` is closed."""
    buckets = relations.buckets
    missing: list[Ints] = []
    anew = 0
    for number in range(buckets):
        judges.observations(relations.observations.bucket(number), facts, book)
        anew += judges.items(relations.items.bucket(number), facts, book)
        missing.append(judges.decisions(relations.decisions.bucket(number), number, buckets, facts, book))
        judges.mention_rows(relations.mentions.bucket(number), facts, book)
        judges.trends(relations.trends.bucket(number), facts, book)
        judges.topics(relations.topics.bucket(number), facts, book)
        progress(number + 1, 2 * buckets)
    _holes(np.sort(np.concatenate(missing)), anew, book)
    _follow_merges(relations.topics, rel.UPDATE, book).close()
    resolved = _follow_merges(relations.topics, rel.ROW, book)
    members = merges.members_of_winners(relations.members, resolved)
    resolved.close()
    for number in range(buckets):
        judges.sizes(relations.topics.bucket(number), members.bucket(number), facts, book)
        progress(buckets + number + 1, 2 * buckets)
    members.close()


def _holes(missing: Ints, anew: int, book: Book) -> None:
    """Numbers without a decision. A topic founded anew by an item that had been forgotten takes the place of the one
    that faded, and compaction its last record: so many numbers may be missing."""
    if len(missing) <= anew:
        return
    check = book.checks["decisions.missing"]
    check.off = len(missing)
    for seq in missing[: book.examples].tolist():
        check.examples.append(Example(f"decision {seq}", "nowhere", "no item and no topic has this number"))


def _follow_merges(topics: Spill, side: int, book: Book) -> Spill:
    """Follows all merges of the stream's newest updates, or of the rows; gives back where each ends."""
    table = "topics" if side == rel.ROW else ""
    found = Spill(rel.MERGES, topics.buckets, topics.folder)
    for rows in topics:
        merged = judges.newest_of(rows, side)
        merged = merged[merged["into"] != 0]
        made = np.empty(len(merged), rel.MERGES)
        made["key"] = made["topic"] = merged["key"]
        made["into"], made["place"] = merged["into"], merged["place"]
        found.append(made)
    book.examined("merges", found.rows)
    resolved, circling = merges.resolve(found)
    ending = merges.by_winner(resolved)
    for number in range(topics.buckets):
        ends = ending.bucket(number)
        circles = look_up(circling, ends["topic"]) >= 0
        book.off("merges", circles, "leads in a circle", ends["place"], ends["topic"], table=table)
        known = judges.newest_of(topics.bucket(number), side)
        nowhere = ~circles & (look_up(known["key"], ends["into"]) < 0)
        book.off("merges", nowhere, "leads to a topic that is not there", ends["place"], ends["topic"], table=table)
    ending.close()
    return resolved
