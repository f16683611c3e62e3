"""``trends eval``: the figures of a user's own labelled file, and errors that say what to do."""

from __future__ import annotations

import csv
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from connectors.synthetic import SyntheticOptions, World
from models.embedding import EmbeddingCache, create
from models.quality import Agreement
from streams.errors import ExitCode, SettingsError
from trends import labelled
from trends.__main__ import main
from trends.evaluation import Placed, evaluate, orders_of
from trends.labelled import posts_of


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["trends", "eval", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


@pytest.fixture(scope="module")
def stories(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of 300 posts of which every third has no label."""
    path = tmp_path_factory.mktemp("eval") / "stories.csv"
    world = World(SyntheticOptions(items=300, seed=3))
    rows = {post.external_id: post for post in reversed(list(world)) if post.title}
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["nr", "words", "created_at", "subject of"])
        for number, (name, post) in enumerate(reversed(rows.items())):
            about = world.truth[name].topic if number % 3 else ""
            writer.writerow([number, post.title, post.published_at.isoformat(), about])
    return path


def test_figures_of_a_file_as_a_table_and_as_json_which_are_the_same_each_time(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], stories: Path
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    called = (str(stories), "--label", "subject of", "--map", "title=words", "--map", "id=nr", "--shuffled", "1")
    assert run(monkeypatch, *called, "--json") == 0
    value: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert (value["embedder"], value["bad_rows"]) == ("all-MiniLM-L6-v2", 0)
    assert 0 < value["labelled"] < value["posts"]
    assert [each["order"] for each in value["orders"]] == ["in file order", "shuffled"]
    for each in value["orders"]:
        assert each["final"]["items"] == value["labelled"]
        assert 0.7 < each["final"]["f1"] <= 1.0
        assert each["final"]["classes"] == value["stories"]
    assert run(monkeypatch, *called) == 0
    told = capsys.readouterr().out
    assert f"{value['orders'][1]['final']['f1']:.3f}" in told
    assert f"{value['labelled']:,} of {value['posts']:,} posts have a label" in told


def test_fine_topics_are_purer_and_more_and_coarse_ones_wider_and_fewer(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], stories: Path
) -> None:
    found = {}
    for granularity in ("fine", "normal", "coarse"):
        called = (str(stories), "--label", "subject of", "--map", "title=words", "--granularity", granularity)
        assert run(monkeypatch, *called, "--json") == 0
        value = json.loads(capsys.readouterr().out)
        assert value["granularity"] == granularity
        found[granularity] = value["orders"][0]["final"]
    fine, normal, coarse = found.values()
    assert fine["clusters"] > normal["clusters"] > coarse["clusters"]
    assert fine["precision"] >= normal["precision"] >= coarse["precision"]
    assert fine["recall"] <= normal["recall"] <= coarse["recall"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--label", "storie", "--map", "title=words"], "no column 'storie' among nr, words"),
        (["--label", "subject of"], "--map title=COLUMN"),
        (["--map", "title=words"], "no row has a label in label or clusterNo"),
        (["--map", "words"], "write it as key=value"),
        (["--map", "titel=words"], "no field 'titel' to map"),
    ],
)
def test_what_is_wrong_is_said_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], stories: Path, arguments: list[str], said: str
) -> None:
    assert run(monkeypatch, str(stories), *arguments) == ExitCode.USAGE
    assert said in capsys.readouterr().err


def test_rows_that_cannot_be_read_are_counted_and_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "posts.csv"
    path.write_text("title,story\nHarbour opens in Lindau,a\nHarbour of Lindau opens again,a\nbroken\nStorm at sea,b\n")
    assert run(monkeypatch, str(path), "--json") == 0
    told = capsys.readouterr()
    assert json.loads(told.out)["bad_rows"] == 1
    assert "line 4: 1 columns, the header has 2" in told.err


def test_a_file_without_a_row_that_can_be_read_says_why(tmp_path: Path) -> None:
    path = tmp_path / "posts.jsonl"
    path.write_text('{"words": "Harbour opens", "story": 1}\n')
    with pytest.raises(SettingsError, match="no row can be read; line 1: no title among words, story"):
        posts_of(path, "story", {})


def test_a_file_with_too_many_posts_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labelled, "MAX_POSTS", 2)
    path = tmp_path / "posts.jsonl"
    path.write_text("".join(f'{{"title": "Harbour {n} opens", "story": 1}}\n' for n in range(3)))
    with pytest.raises(SettingsError, match="more than 2 posts"):
        posts_of(path, "story", {})


def test_the_label_is_not_seen_by_the_models_and_a_shuffle_keeps_it(tmp_path: Path) -> None:
    path = tmp_path / "posts.jsonl"
    path.write_text("".join(f'{{"id": "{n}", "title": "Harbour {n}", "story": {n % 2}}}\n' for n in range(20)))
    posts = posts_of(path, None, {})
    mixed = posts.shuffled(1)
    assert not any(seen.tags for seen in posts.sightings)
    assert [s.external_id for s in mixed.sightings] != [s.external_id for s in posts.sightings]
    assert [s.published_at for s in mixed.sightings] == [s.published_at for s in posts.sightings]
    assert all(mixed.labels[s.item_id] == str(int(s.external_id) % 2) for s in mixed.sightings)


def test_unlabelled_posts_among_them_are_read_and_not_judged(stories: Path, tmp_path: Path) -> None:
    columns = {"title": "words", "id": "nr"}
    posts = posts_of(stories, "subject of", columns)
    path = tmp_path / "others.jsonl"
    path.write_text("".join(f'{{"id": "o{n}", "title": "Nobody asked for {n} of these"}}\n' for n in range(40)))
    others = posts_of(path, None, {}, labelled=False)
    orders = orders_of(posts, 1, 0, others)
    assert len(orders[1][1].sightings) == len(posts.sightings) + 40
    read: list[int] = []
    found = list(evaluate(orders, create("null"), EmbeddingCache(), read.append))
    assert sum(read) == sum(len(order.sightings) for _, order in orders)
    assert all(each.final.items == len(posts.labels) for each in found)


def test_a_chain_of_merges_is_followed_to_its_end() -> None:
    placed = Placed({"i1": "a", "i2": "b", "i3": "c"}, {"a": "b", "b": "c"})
    emitted, final = placed.agreements({"i1": "x", "i2": "x", "i3": "x"})
    assert (emitted.clusters, final.clusters) == (3, 1)
    assert isinstance(final, Agreement)
    assert final.f1 == 1.0


def test_rows_without_times_do_not_run_into_the_future(tmp_path: Path) -> None:
    path = tmp_path / "long.csv"
    path.write_text("title,story\n" + "".join(f"Pilots of Quellmark strike {n},a\n" for n in range(500)))
    times = [seen.observed_at for seen in posts_of(path, "story", {}).sightings]
    assert max(times) <= datetime.now(UTC)
    assert times == sorted(set(times)), "their order and distances stay"
