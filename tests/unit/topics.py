"""Topic updates for tests."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from models.text import terms as terms_of
from streams.records import LeadingItem, Life, TopicSums, TopicUpdate

AT = datetime(2016, 9, 7, tzinfo=UTC)


def leading(title: str, number: int = 0, **more: Any) -> LeadingItem:
    more.setdefault("publisher", f"site{number}.example")
    return LeadingItem(item_id=f"item-{title}-{number}", title=title, source="file", published_at=AT, **more)


def topic(*items: LeadingItem | str, size: int | None = None, seq: int = 1, **more: Any) -> TopicUpdate:
    made = [leading(item, i) if isinstance(item, str) else item for i, item in enumerate(items)]
    more.setdefault("life", Life.GREW)
    more.setdefault("terms", weights(item.title for item in made))
    return TopicUpdate(
        generation="g1", topic_id=more.pop("topic_id", "topic-1"), size=len(made) if size is None else size,
        publishers=more.pop("publishers", len({item.publisher for item in made})), sources={"file": len(made)},
        centroid="", model="null", dimensions=4, sums=TopicSums(items=len(made)), items=tuple(made), first_seen=AT,
        last_seen=AT, trend_id="term:iphone", trends={"term:iphone": len(made)}, seq=seq, **more,
    )  # fmt: skip


def weights(titles: Any) -> Sequence[tuple[str, float]]:
    """Terms by how many titles have them."""
    counts: dict[str, int] = {}
    for title in titles:
        for term in terms_of(title):
            counts[term] = counts.get(term, 0) + 1
    total = sum(counts.values()) or 1
    return tuple((term, n / total) for term, n in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))
