"""What a build takes from the stores, what it leaves out, and what it refuses."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest

from flows.since import Since
from sinks.postgres.rows import halfvec
from streams.errors import SettingsError
from streams.ids import item_id_of
from streams.records import FromStage, Generation, GenerationState, Granularity, Kind
from streams.vectors import decode_vector, encode_vector
from trends.build import Plan, Wanted, _check_same, _new_record, observation_of, wire_vector
from trends.following import with_model
from trends.generations import caught_up
from trends.settings import Settings

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
LIVE = Generation(
    name="g1", state=GenerationState.LIVE, embedder="null", dimensions=384, made_at=AT, changed_at=AT, version=1
)


def row(**changes: Any) -> dict[str, Any]:
    return {
        "item_id": item_id_of("file", "1"), "source": "file", "external_id": "1", "kind": "post", "title": "Orbit",
        "observed_at": AT + timedelta(hours=2), "published_at": AT, "first_seen": AT, "trend_id": "term:orbit",
        "url": None, "body": "", "author": None, "publisher": None, "lang": None, "tags": ["a"], "category": None,
        "points": 3, "comments": 1, "shares": 0, "stars": 0, "views": 0, "mentions": ["term:moon"],
    } | changes  # fmt: skip


def test_an_item_of_the_stores_is_the_observation_that_it_was_last() -> None:
    item = observation_of(row())
    assert (item.observed_at, item.event_time, item.kind) == (AT + timedelta(hours=2), AT, Kind.POST)
    assert (item.tags, item.mentions, item.engagement.points) == (("a",), ("term:moon",), 3)


def test_an_item_that_was_published_later_than_it_was_seen_keeps_its_event_time() -> None:
    item = observation_of(row(published_at=AT + timedelta(days=9)))
    assert item.event_time == AT


def test_a_vector_from_the_stores_has_the_very_components_that_it_had_on_the_wire() -> None:
    sent = encode_vector(np.random.default_rng(1).standard_normal(16).astype(np.float32))
    stored = halfvec("vector", sent, 16)
    assert wire_vector(stored) == sent
    assert np.array_equal(decode_vector(sent, 16), decode_vector(str(wire_vector(stored)), 16))
    assert wire_vector(None) is None


def test_older_history_is_left_out_and_live_traffic_never() -> None:
    since = Since(AT, AT + timedelta(days=1))
    old = observation_of(row(published_at=AT - timedelta(days=3), first_seen=AT - timedelta(days=3)))

    def arrived(time: datetime) -> Any:
        return SimpleNamespace(timestamp=lambda: (1, int(time.timestamp() * 1000)))

    assert not since.keeps(old, arrived(AT))
    assert since.keeps(observation_of(row()), arrived(AT))
    assert since.keeps(old, arrived(AT + timedelta(days=2)))


def test_a_plan_survives_its_way_through_the_log() -> None:
    plan = Plan(embed_from={"raw.rss/0": 5}, older={"*": AT}, after=(AT, "item"), written=7)
    assert msgspec.json.decode(msgspec.json.encode(plan), type=Plan) == plan


def test_a_new_generation_is_as_the_live_one_but_for_what_was_asked() -> None:
    settings = Settings(embedder="null")
    record = _new_record(settings, Wanted("g2", dimensions=16), LIVE, lambda: AT)
    assert (record.embedder, record.dimensions, record.built_from, record.from_stage) == ("null", 16, "g1", "raw")
    assert record.state is GenerationState.BUILDING
    assert record.granularity is Granularity.NORMAL
    coarse = _new_record(settings, Wanted("g3", granularity=Granularity.COARSE), LIVE, lambda: AT)
    assert with_model(settings, coarse).granularity is Granularity.COARSE
    with pytest.raises(SettingsError, match="begun with --granularity coarse, not fine"):
        _check_same(coarse, Wanted("g3", granularity=Granularity.FINE))


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        (Wanted("live"), "no generation's name"),
        (Wanted("G 2"), "generation 'G 2'"),
        (Wanted("g2", FromStage.EMBEDDED, dimensions=16), "needs --from-stage raw"),
        (Wanted("g2", embedder="onnx", dimensions=16), "dimensions"),
    ],
)
def test_what_cannot_be_built_is_told(wanted: Wanted, says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        _new_record(Settings(embedder="null"), wanted, LIVE, lambda: AT)


def test_a_build_goes_on_as_it_was_begun() -> None:
    record = _new_record(Settings(embedder="null"), Wanted("g2", dimensions=16), LIVE, lambda: AT)
    _check_same(record, Wanted("g2"))
    _check_same(record, Wanted("g2", FromStage.RAW, dimensions=16))
    with pytest.raises(SettingsError, match="--dimensions 16, not 8"):
        _check_same(record, Wanted("g2", dimensions=8))
    with pytest.raises(SettingsError, match="not used again"):
        _check_same(msgspec.structs.replace(record, state=GenerationState.DROPPED), Wanted("g2"))


def lag(flow: str, records: int, seconds: float) -> Any:
    return SimpleNamespace(flow=flow, records=records, seconds=seconds)


def test_a_generation_has_caught_up_where_little_waits_or_nothing_old() -> None:
    assert caught_up([lag("embed", 0, 0.0), lag("store", 5_000, 1.0)])
    assert caught_up([lag("store", 900, 60.0)])
    assert not caught_up([lag("embed", 0, 0.0), lag("store", 600, 60.0), lag("store", 600, 0.0)])
