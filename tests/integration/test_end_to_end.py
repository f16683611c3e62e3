"""The whole platform on the real Kafka and PostgreSQL: a world whose truth is known, rubbish in between, and kills."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from models.quality import Agreement, agreement
from sinks.postgres import SyncReader
from sinks.postgres.export import Filters
from streams.ids import item_id_of
from streams.records import DeadLetter
from streams.table import DEAD_LETTERS, raw
from tests.integration.end_to_end import REASONS, Run
from trends.flows import FLOWS
from trends.reading import account, open_reader
from trends.verify import CHECKS, audit

pytestmark = pytest.mark.timeout(400)  # the first of the tests waits for the run


def items_of(end_to_end: Run) -> list[dict[str, object]]:
    with SyncReader(end_to_end.settings.postgres()) as sync:
        return list(sync.export("items", Filters()))


def test_every_flow_was_killed_and_came_back(end_to_end: Run) -> None:
    assert {name: count >= 1 for name, count in end_to_end.restarts.items()} == {f"{flow}-0": True for flow in FLOWS}


def test_every_item_is_stored_once_with_a_home_trend_and_a_topic(end_to_end: Run) -> None:
    expected = {item_id_of("synthetic", external_id) for external_id in end_to_end.world.world.truth}
    expected |= {item.item_id for item in end_to_end.good}
    rows = items_of(end_to_end)
    assert len(rows) == len(expected)
    assert {row["item_id"] for row in rows} == expected
    assert all(row["trend_id"] and row["topic_id"] for row in rows)


def test_rubbish_is_in_dead_letters_with_its_reason_and_its_neighbours_arrived(end_to_end: Run) -> None:
    letters = [letter for _, letter in end_to_end.read(DEAD_LETTERS) if isinstance(letter, DeadLetter)]
    assert Counter(letter.reason for letter in letters) == REASONS
    assert {letter.stream for letter in letters} == {raw("file").physical(end_to_end.settings.kafka(), "e2e")}
    stored = {row["item_id"] for row in items_of(end_to_end)}
    assert {item.item_id for item in end_to_end.good} <= stored


def test_verify_finds_nothing_and_has_looked_at_everything(end_to_end: Run) -> None:
    """Rubbish, kills, edits, engagement, deletions, merges: every promise is kept."""
    report = audit(end_to_end.settings)
    assert [(c.name, c.off, c.examples) for c in report.checks if c.off] == []
    assert {c.name for c in report.checks if not c.examined} == {"store.forgotten"}, "nothing was to be forgotten"
    assert {c.name for c in report.checks if c.unexamined} == set()
    assert [check.name for check in report.checks] == list(CHECKS)


def test_verify_beside_live_traffic_and_kills_takes_nothing_for_lost(end_to_end: Run) -> None:
    report = end_to_end.meanwhile
    assert [(c.name, c.off, c.examples) for c in report.checks if c.off] == []


def test_the_found_topics_are_the_true_ones(end_to_end: Run) -> None:
    truth = end_to_end.world.world.truth
    pairs = [
        (row["topic_id"], truth[str(row["external_id"])].topic)
        for row in items_of(end_to_end)
        if str(row["external_id"]) in truth
    ]
    found: Agreement = agreement([t for t, _ in pairs], [t for _, t in pairs])
    assert found.f1 >= 0.85, found


def test_the_account_of_every_trend_adds_up_to_its_score(end_to_end: Run) -> None:
    """Copies, deletions, edits and kills: what is stored of a trend's day is what was scored."""
    with open_reader(end_to_end.settings) as sync:
        ids = [str(row["trend_id"]) for row in sync.export("trends", Filters())]
        told = [account(sync, trend_id, None) for trend_id in ids]
    counts = {found.why.trend_id: (found.why.counted, found.why.day.observed) for found in told if found}
    assert len(counts) == len(ids)
    assert {trend_id: pair for trend_id, pair in counts.items() if pair[0] != pair[1]} == {}
    assert sum(counted for counted, _ in counts.values()) > 100


def test_home_is_left_clean(end_to_end: Run, tmp_path: Path) -> None:
    """Every process said goodbye: no run file is left."""
    assert list((end_to_end.settings.home / "run").glob("*.json")) == []
