"""What people see: `trends top | show | search | export | report` on a stored world."""

from __future__ import annotations

import asyncio
import csv
import json
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet
from typer.testing import CliRunner, Result

from sinks.postgres.config import PostgresConfig
from streams.errors import SettingsError
from tests.integration.postgres_records import DIMENSIONS
from tests.integration.postgres_world import store_world
from trends.cli import build

Trends = Callable[..., Result]


@pytest.fixture(scope="module")
def stored(dsns: tuple[str, ...]) -> PostgresConfig:
    config = PostgresConfig(dsns=dsns, generation=f"g{uuid.uuid4().hex[:10]}", dimensions=DIMENSIONS)
    asyncio.run(store_world(config))
    return config


@pytest.fixture
def trends(stored: PostgresConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Trends:
    """The command line on that store, in a terminal of 100 columns."""
    monkeypatch.setenv("TRENDS_POSTGRES_DSNS", ",".join(stored.dsns))
    monkeypatch.setenv("TRENDS_GENERATION", stored.generation)
    monkeypatch.setenv("TRENDS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, fails: bool = False) -> Result:
        result = CliRunner().invoke(build(), arguments)
        if not fails and result.exception is not None:
            raise result.exception
        return result

    return run


def as_json(result: Result) -> Any:
    return json.loads(result.stdout)


def test_top_names_the_time_the_trends_and_their_stories(trends: Trends) -> None:
    for text in (trends("top").stdout, trends("top", "--trends").stdout):
        assert "as of 2026-03-10 12:30 UTC (the newest event stored)" in text
        assert "phone" in text
    assert "A phone that catches fire" in trends("top").stdout
    assert "Phones burn" in text


def test_top_of_a_past_time_says_so(trends: Trends) -> None:
    text = trends("top", "--at", "2026-03-09T08:00").stdout
    assert "as of 2026-03-09 08:00 UTC\n" in text
    assert "catches fire" not in text
    assert "nothing rises" in trends("top", "--at", "1999-01-01").stdout


def test_top_as_json_has_what_the_table_has_and_more(trends: Trends) -> None:
    found = as_json(trends("top", "--json"))
    assert found["now"] == {"time": "2026-03-10T12:30:00+00:00", "replayed": True}
    first = found["subjects"][0]
    assert (first["trends"], first["topic_id"]) == (["term:phone"], "topic-a")
    assert first["headline"].startswith("A phone that catches fire")
    assert sum(first["counts"]) == first["standing"]["items"]


def test_a_trend_and_its_story_stand_in_one_line(trends: Trends) -> None:
    lines = [line for line in trends("top").stdout.splitlines() if "phone" in line or "Phones" in line]
    assert len(lines) == 1
    assert "phone " in lines[0]


def test_all_trends_are_listed_when_asked_for(trends: Trends) -> None:
    found = as_json(trends("top", "--trends", "--json"))
    (phone,) = [t for t in found["trends"] if t["trend_id"] == "term:phone"]
    assert phone["topics"][0]["topic_id"] == "topic-a"
    assert phone["topics"][0]["leading"][0]["url"] == "https://a.example/0"


def test_show_finds_trends_and_topics_by_the_names_people_use(trends: Trends) -> None:
    trend = trends("show", "Phone").stdout
    for words in ("term:phone", "Stories", "Phones burn", "Leading items", "A phone that catches fire 0"):
        assert words in trend
    topic = trends("show", "topic-b").stdout
    for words in ("Phones burn", "topic-b was merged into it", "Makers recall handsets", "https://a.example/0"):
        assert words in topic
    assert "★" in trends("show", "rust the language").stdout
    assert as_json(trends("show", "topic-b", "--json"))["brief"]["topic_id"] == "topic-a"


def test_show_of_nothing_says_where_to_look(trends: Trends) -> None:
    result = trends("show", "zebra", fails=True)
    assert isinstance(result.exception, SettingsError)
    assert "trends search" in str(result.exception)


def test_stories_rise_over_all_trends_merged_ones_as_one(trends: Trends) -> None:
    found = as_json(trends("top", "--stories", "--json"))
    assert [(t["topic"]["topic_id"], t["standing"]["items"]) for t in found["topics"]] == [("topic-a", 8)]
    assert sum(found["topics"][0]["counts"]) == 8
    assert "Phones burn" in trends("top", "--stories").stdout
    assert "no story rises" in trends("top", "--stories", "--at", "1999-01-01").stdout


def test_why_adds_up_and_names_stories_sources_and_items(trends: Trends) -> None:
    text = trends("why", "phone").stdout
    for words in ("expected", "Stories", "Phones burn", "Sources", "Publishers", "How it spread", "8 items"):
        assert words in text
    told = as_json(trends("why", "phone", "--json"))
    reasons = told["why"]
    for kind in ("topics", "sources", "by_publisher"):
        assert sum(share["count"] for share in reasons[kind]) == reasons["counted"]
    assert [(t["name"], t["count"]) for t in reasons["topics"]] == [("topic-a", 8), ("topic-c", 1)]
    assert set(reasons["spread"][0]["item_ids"]) <= told["items"].keys()
    nothing = trends("why", "zebra", fails=True)
    assert "trends search" in str(nothing.exception)


def test_search_finds_words(trends: Trends) -> None:
    assert "Phones burn" in trends("search", "--words", "recalled").stdout
    assert as_json(trends("search", "--words", "zebra", "--json")) == []


def test_search_by_meaning_needs_the_model_of_the_generation(trends: Trends) -> None:
    result = trends("search", "recalled", fails=True)
    assert "384" in str(result.exception)


def test_export_writes_the_same_rows_in_every_format(trends: Trends, tmp_path: Path) -> None:
    for suffix in ("csv", "jsonl", "parquet"):
        trends("export", "items", "-o", f"items.{suffix}")
    lines = [json.loads(line) for line in (tmp_path / "items.jsonl").read_text().splitlines()]
    with (tmp_path / "items.csv").open(newline="") as file:
        cells = list(csv.DictReader(file))
    table = parquet.read_table(tmp_path / "items.parquet").to_pylist()
    ids = [f"item-{n}" for n in range(11, -1, -1)]
    assert [r["item_id"] for r in lines] == [r["item_id"] for r in cells] == [r["item_id"] for r in table] == ids
    assert {r["topic_id"] for r in lines} == {"topic-a", "topic-c"}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["items.csv", "items.jsonl", "items.parquet"]


def test_export_to_stdout_is_the_rows_alone(trends: Trends) -> None:
    result = trends("export", "items", "--since", "2026-03-10T12:00", "--trend", "term:phone")
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert [r["item_id"] for r in rows] == ["item-3", "item-2", "item-1", "item-0"]


def test_report_is_one_page(trends: Trends, tmp_path: Path) -> None:
    trends("report", "--html", "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "Phones burn" in page
    assert 'href="https://a.example/0"' in page
    assert page.rstrip().endswith("</html>")


@pytest.mark.parametrize(
    "arguments",
    [("top", "--at", "yesterday"), ("top", "--window", "long"), ("export", "items", "-o", "file.doc")],
)
def test_mistakes_are_told(trends: Trends, arguments: tuple[str, ...]) -> None:
    assert isinstance(trends(*arguments, fails=True).exception, SettingsError)
