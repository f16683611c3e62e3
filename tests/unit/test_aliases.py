"""Names of one subject: which pairs are proposed, what they lead to, and what they count together."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.aliases import Pair, propose, spelling
from models.catalogue import Catalogue, words
from sinks.postgres.joining import joined_row
from streams.aliases import names_of, shown_as
from tests.unit.test_catalogue import subject

AT = datetime(2026, 3, 10, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ("nodejs", "node.js", True),
        ("self-driving", "selfdriving", True),
        ("pokémon", "pokemon", True),
        ("drones", "drone", True),
        ("apple", "iphone", False),
        ("gpt-3", "gpt-4", False),
        ("c", "c++", False),
        ("c#", "c", False),
        ("css", "cs", False),
        ("москва", "москве", False),
    ],
)
def test_names_that_differ_in_marks_accents_or_a_plural_are_spelt_alike(one: str, other: str, alike: bool) -> None:
    assert (spelling(f"term:{one}") == spelling(f"term:{other}")) is alike


def test_names_spelt_alike_are_proposed_the_smaller_as_a_name_of_the_larger() -> None:
    [found] = propose({"term:nodejs": 8, "term:node.js": 40, "term:apple": 90}, [])
    assert (found.alias, found.trend_id, found.certainty) == ("term:nodejs", "term:node.js", 1.0)
    assert "8 and 40" in found.reason
    assert propose({"term:nodejs": 2, "term:node.js": 40}, []) == []


def test_halves_of_a_name_are_proposed_and_a_maker_with_its_product_is_not() -> None:
    items = {"term:elena": 40, "term:marquez": 44, "term:apple": 300, "term:iphone": 150}
    found = propose(
        items, [Pair("term:elena", "term:marquez", 38, 9), Pair("term:apple", "term:iphone", 110, 30)]
    )  # fmt: skip
    assert [(p.alias, p.trend_id) for p in found] == [("term:elena", "term:marquez")]
    assert "38 of the 46 items" in found[0].reason


def test_names_that_met_in_a_single_story_are_not_one_subject() -> None:
    items = {"term:tunnel": 30, "term:oslo": 30}
    assert propose(items, [Pair("term:oslo", "term:tunnel", 29, 1)]) == []
    assert len(propose(items, [Pair("term:oslo", "term:tunnel", 29, 8)])) == 1


def test_a_tracked_subject_is_nobodys_name_and_what_is_known_is_not_said_again() -> None:
    items = {"postgre-sql": 10, "term:postgresql": 90}
    [found] = propose(items, [], tracked=["postgre-sql"])
    assert (found.alias, found.trend_id) == ("term:postgresql", "postgre-sql")
    assert propose(items, [], tracked=["postgre-sql"], known={"term:postgresql": "postgre-sql"}) == []
    assert propose({"misc:01": 50, "misc:0-1": 50}, []) == []


def test_names_lead_to_the_end_of_their_chain() -> None:
    shown = shown_as({"a": "b", "b": "c", "x": "y"})
    assert shown == {"a": "c", "b": "c", "x": "y"}
    assert names_of(shown, ["b", "c", "z"]) == {"c": ("c", "a", "b"), "z": ("z",)}


@given(st.dictionaries(st.sampled_from("abcdef"), st.sampled_from("abcdef")))
def test_no_circle_of_names_makes_a_trend_vanish(alias_of: dict[str, str]) -> None:
    shown = shown_as(alias_of)
    assert not set(shown.values()) & shown.keys()
    assert all(names_of(shown, [name]) for name in "abcdef")


def test_a_mere_name_selects_no_items_and_a_tracked_subject_goes_on_doing_so() -> None:
    catalogue = Catalogue()
    catalogue.update(subject("nodejs", alias_of="term:node.js"))
    catalogue.update(subject("crabs", "crab", alias_of="rust"))
    assert [m.trend_id for m in catalogue.matches(words("Nodejs and a crab"))] == ["crabs"]


def row(trend_id: str, counts: tuple[int, ...], *, hour: int = 0, **more: Any) -> Mapping[str, Any]:
    start = AT + timedelta(hours=hour)
    return {
        "trend_id": trend_id, "slice_start": start, "slice_s": 3_600, "counts": counts, "slices": 48, "items": 0,
        "total": sum(counts), "publishers": 1, "sources": b"{}", "velocity": 0.0, "spread": 0.0, "points": 5,
        "comments": 1, "shares": 0, "stars": 0, "views": 0, "rank": 1.0, "first_seen": start, "last_seen": start,
        "version": 1, "late": (1,), "hidden": (),
    } | more  # fmt: skip


def said(item: str, *, hours_ago: float, publisher: str | None = "a", source: str = "rss") -> Mapping[str, Any]:
    return {"item_id": item, "event_time": AT + timedelta(minutes=30, hours=-hours_ago), "publisher": publisher,
            "source": source}  # fmt: skip


def test_an_item_of_two_names_counts_once() -> None:
    rows = [row("term:node.js", (1, 1, 2)), row("term:nodejs", (2,), hour=-1, rank=3.0)]
    mentions = [
        said("1", hours_ago=0), said("2", hours_ago=0, publisher="b"), said("2", hours_ago=0, publisher="b"),
        said("3", hours_ago=1, source="web"), said("4", hours_ago=2, publisher=None), said("5", hours_ago=30),
        said("6", hours_ago=-5),
    ]  # fmt: skip
    joined = joined_row("term:node.js", rows, mentions, AT + timedelta(minutes=45))
    assert joined["counts"][-3:] == [1, 1, 2]
    assert sum(joined["counts"]) == 5
    assert joined["total"] == 4 + 2 - 1, "one of the items was counted by both names"
    assert (joined["publishers"], joined["spread"]) == (2, 0.5)
    assert msgspec.json.decode(joined["sources"]) == {"rss": 3, "web": 1}
    assert joined["velocity"] == (4 - 1) / 24
    assert (joined["rank"], joined["trend_id"], joined["slice_start"]) == (3.0, "term:node.js", AT)
    assert joined["points"] == 10
