"""Writes the golden files of the contract anew: ``python -m tests.golden.make``.

A change to them is a change of the contract: it belongs in the same commit, and additive.
"""

import json
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np

from streams.codec import encode, json_schema
from streams.ids import item_id_of, topic_id_of
from streams.records import (
    RECORD_TYPES,
    Change,
    ChangePhase,
    DeadLetter,
    EmbeddedItem,
    Engagement,
    EnrichedItem,
    Feedback,
    FeedbackKind,
    ForgetKind,
    ForgetRequest,
    FromStage,
    Gap,
    Generation,
    GenerationState,
    Kind,
    LeadingItem,
    LetterStatus,
    Life,
    Mention,
    Observation,
    PartitionChange,
    Reason,
    Record,
    SourceCursor,
    SourceGap,
    TopicSummary,
    TopicSums,
    TopicUpdate,
    TrendDefinition,
    TrendScore,
)  # fmt: skip
from streams.vectors import encode_vector

GOLDEN = Path(__file__).parent / "records"
SCHEMAS = Path(__file__).parents[2] / "docs" / "schemas"


def examples() -> list[Record]:
    """One of each record type, with every field set."""
    at, later = datetime(2026, 3, 1, 12, tzinfo=UTC), datetime(2026, 3, 1, 12, 30, 15, 250_000, tzinfo=UTC)
    item_id, topic_id = item_id_of("rss", "https://orbit.example/1"), topic_id_of("g1", item_id_of("rss", "0"))
    vector = encode_vector(np.array([0.5, -0.25, 0.125, 1.0], np.float32))
    engagement = Engagement(points=12, comments=3, shares=1, stars=4, views=900)
    item = Observation(
        item_id=item_id, source="rss", external_id="https://orbit.example/1", kind=Kind.ARTICLE,
        url="https://orbit.example/1", title="Orbit lands a second “moon” 🚀", body="It did.", author="A. Writer",
        publisher="orbit.example", lang="en", tags=("space", "moon"), category="science", published_at=at,
        observed_at=later, engagement=engagement, trend_id="term:orbit", mentions=("term:moon",),
    )  # fmt: skip
    leading = LeadingItem(
        item_id=item_id, title=item.title, url=item.url, body="It did.", publisher="orbit.example", source="rss",
        published_at=at, points=12, comments=3,
    )  # fmt: skip
    text_hash = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
    return [
        item,
        EmbeddedItem(
            item=item, text_hash=text_hash, vector=vector, model="null", dimensions=4, arrived_at=later
        ),
        EnrichedItem(
            generation="g1", item=item, change=Change.FIRST, text_hash=text_hash, vector=vector, model="null",
            dimensions=4, topic_id=topic_id, similarity=0.75, is_new_topic=False, echo_of=item_id_of("rss", "0"),
            first_seen=at, seq=42, arrived_at=later,
        ),
        Mention(
            generation="g1", trend_id="term:moon", item_id=item_id, topic_id=topic_id, home=False, event_time=at,
            first_seen=at, publisher="orbit.example", source="rss", weight=1, echo=True, engagement=engagement, seq=42,
        ),
        TopicUpdate(
            generation="g1", topic_id=topic_id, life=Life.MERGED, merged_into=topic_id_of("g1", item_id), size=7,
            publishers=5, sources={"rss": 4, "hackernews": 3}, centroid=vector, model="null", dimensions=4,
            terms=(("orbit", 2.5), ("moon", 1.25)),
            sums=TopicSums(items=7, echoes=2, engagement=engagement, rank=12.5), items=(leading,), first_seen=at,
            last_seen=later, trend_id="term:orbit", trends={"term:orbit": 5, "term:moon": 2}, seq=43,
            reason="somebody said that they tell one story",
            asked_by="feedback-1f0c5b2a9d3",
        ),
        TopicSummary(
            generation="g1", topic_id=topic_id, trend_id="term:orbit", headline="Orbit lands", headline_of=item_id,
            summary="It did.", quotes=(item_id,), keywords=("orbit", "moon"), entities=("Orbit",), lang="en",
            category="science",
            method="extractive", model="extractive-2", confidence=0.5, fallback="ungrounded", cached=False,
            topic_seq=43, attempt=1, created_at=later,
        ),
        TrendScore(
            generation="g1", trend_id="term:orbit", slice_start=at, slice_s=3600, counts=(0, 2, 5), items=5, total=7,
            publishers=4, story=4, sources={"rss": 5}, expected=1.5, burst=2.25, velocity=0.5, engagement=engagement,
            spread=0.8, rank=3.5, hour_expected=0.5, hour_burst=1.5, acceleration=0.25, engagement_velocity=0.75,
            peak=3.25, peaked_at=at, late=(0, 1, 0), hidden=(0, 50, 0), first_seen=at, last_seen=later, version=7,
        ),
        TrendDefinition(
            trend_id="moon-landing", title="Moon landing", keywords=("moon landing", "lander"), exclude=("honeymoon",),
            langs=("en",), category="science", alias_of="term:moon", alias_reason="spelt alike", updated_at=at,
            version=1,
        ),
        SourceCursor(connector="rss", cursor=msgspec.Raw(b'{"etag":"x"}'), saved_at=later, items=3),
        SourceGap(source="rss", connector="rss", since=at, until=later, reason="HTTP 503"),
        PartitionChange(before=8, after=16, phase=ChangePhase.ACTIVE, changed_at=later),
        Generation(
            name="g2", state=GenerationState.LIVE, embedder="openai", model="e5-small", url="http://models.example/v1",
            dimensions=512, built_from="g1", from_stage=FromStage.RAW, from_time=at, previous=("g1",), made_at=at,
            changed_at=later, version=3,
        ),
        ForgetRequest(
            request_id="forget-7", kind=ForgetKind.AUTHOR, item_id=item_id, topics=(topic_id,),
            author_hash="5f4dcc3b5aa765d61d8327deb882cf99", salt="00ff", source="rss", items=2, requested_at=later,
            reason="asked by the author",
        ),
        Feedback(
            kind=FeedbackKind.MERGE, items=(item_id, item_id_of("rss", "0")), active=False, reason="one landing",
            said_at=later, version=2,
        ),
        DeadLetter(
            letter_id="raw.rss/3/17", stream="raw.rss", partition=3, offset=17, reason=Reason.NOT_JSON,
            error="JSON is malformed: invalid character (byte 0)", flow="embed", key="dGVybTpvcmJpdA==",
            value="bm90IGpzb24=", value_bytes=8, value_sha256=text_hash, headers=(("schema", "observation"),),
            logged_at=at, failed_at=later, attempts=2, header_bytes=(("schema", "b2JzZXJ2YXRpb24="),), whole=False,
            status=LetterStatus.REDRIVEN, redriven_at=later, redriven_from="raw.rss/3/16",
            first_letter="raw.rss/3/15", first_failed_at=at,
        ),
        Gap(
            generation="g1", flow="embed", stream="raw.rss", partition=3, first=1_200, until=2_400, process="embed-0",
            accepted_at=later,
        ),
    ]  # fmt: skip


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    SCHEMAS.mkdir(exist_ok=True)
    for record in examples():
        (GOLDEN / f"{record.SCHEMA}.json").write_bytes(encode(record) + b"\n")
    for kind in RECORD_TYPES:
        (SCHEMAS / f"{kind.SCHEMA}.schema.json").write_text(json.dumps(json_schema(kind), indent=1) + "\n")
