"""Text, times and files as they are shown and written to people."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet
from rich.console import Console

from sinks.postgres.export import ColumnType
from sinks.views import Now, Standing, TopicBrief, TopTrends, TrendRow
from streams.errors import SettingsError
from trends.atomic import whole_file
from trends.cli.views import subjects_table, top_table
from trends.exporting import ROW_GROUP, Format, format_of, write_rows
from trends.reading import RisingSubject, RisingSubjects
from trends.text import ago, bins, duration, instant, plain, sparkline

NOON = datetime(2016, 9, 7, 12, tzinfo=UTC)
COLUMNS: dict[str, ColumnType] = {
    "id": "text", "at": "time", "n": "int", "x": "float", "ok": "bool", "tags": "texts", "counts": "ints",
    "sources": "json",
}  # fmt: skip


def row(number: int, **more: Any) -> dict[str, Any]:
    return {
        "id": f'{number}, "quoted"\nand broken', "at": NOON, "n": number, "x": 0.5, "ok": True, "tags": ["a", "b,c"],
        "counts": [1, 2], "sources": {"rss": 3}, **more,
    }  # fmt: skip


def rising(title: str, story: str) -> TrendRow:
    topic = TopicBrief("topic-1", story, None, (), 9, 3, 5, 2, NOON, NOON, "term:x", "grew", (), 4)
    return TrendRow(
        trend_id=f"term:{title}", title=title, tracked=True, category=None, counts=(0, 1, 5) * 32, slice_s=3600,
        items=5, window_items=6_000, total=6, publishers=3, sources={"rss": 2}, expected=1.0, burst=2.0,
        strength=333.0, peaked_at=NOON, velocity=1.0, points=5, comments=2, spread=0.5, rank=1.0, slice_start=NOON,
        first_seen=NOON, last_seen=NOON, topics=(topic,),
    )  # fmt: skip


EMPTY = dict.fromkeys(COLUMNS)


@settings(deadline=None)
@given(st.text())
def test_plain_text_is_one_line_that_no_terminal_obeys(text: str) -> None:
    line = plain(text)
    assert not any(ord(c) < 32 or 127 <= ord(c) < 160 for c in line)
    assert not set(line) & set("\u202e\u2066\ufeff")
    assert plain(line) == line
    assert len(plain(text, 10)) <= 10


def test_plain_text_keeps_words_of_all_languages() -> None:
    assert plain("  Zürich\t東京\r\n\x1b[31mالعربية 👩‍💻") == "Zürich 東京 [31mالعربية 👩‍💻"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90m", timedelta(minutes=90)),
        ("24h", timedelta(days=1)),
        ("1.5d", timedelta(hours=36)),
        (" 2 W ", timedelta(weeks=2)),
    ],
)
def test_lengths_of_time_are_read(text: str, expected: timedelta) -> None:
    assert duration(text) == expected


@pytest.mark.parametrize("text", ["", "4", "d", "-1d", "0h", "1e9d", "99999w", "4 days ago"])
def test_what_is_no_length_of_time_is_told(text: str) -> None:
    with pytest.raises(SettingsError, match="no length of time"):
        duration(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2016-09-07", datetime(2016, 9, 8, tzinfo=UTC)),
        ("2016-09-07T12:00", NOON),
        ("2016-09-07 14:00+02:00", NOON),
        ("2016-09-07T12:00:00Z", NOON),
    ],
)
def test_times_are_read_as_utc_and_a_day_as_its_end(text: str, expected: datetime) -> None:
    assert instant(text) == expected


@pytest.mark.parametrize("text", ["", "yesterday", "2016-13-01", "9999-12-31", "7.9.2016"])
def test_what_is_no_time_is_told(text: str) -> None:
    with pytest.raises(SettingsError, match="no time"):
        instant(text)


def test_ages_are_short() -> None:
    assert [ago(NOON - timedelta(minutes=m), NOON) for m in (-5, 59, 60, 47 * 60, 48 * 60)] == [
        "0 min ago", "59 min ago", "1 h ago", "47 h ago", "2 d ago",
    ]  # fmt: skip


@settings(deadline=None)
@given(st.lists(st.integers(0, 1000), max_size=200), st.integers(1, 60))
def test_bins_lose_no_count(counts: list[int], number: int) -> None:
    found = bins(counts, number)
    assert len(found) <= number
    assert sum(found) == sum(counts)


def test_sparklines_show_the_least_something_and_nothing_as_blank() -> None:
    assert sparkline([0, 1, 100, 50], 4) == " ▁█▄"
    assert sparkline([], 4) == ""


# -- files -----------------------------------------------------------------------------------------------------------


def test_file_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.txt"
    with whole_file(path) as file:
        file.write(b"one")
        assert not path.exists()
    assert path.read_bytes() == b"one"
    with pytest.raises(ZeroDivisionError), whole_file(path) as file:
        file.write(b"two" * (1 // (file.tell() * 0)))
    assert path.read_bytes() == b"one"
    assert [p.name for p in path.parent.iterdir()] == ["file.txt"]


def test_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="cannot write"), whole_file(tmp_path / "file" / "inside"):
        pass
    (tmp_path / "folder").mkdir()
    with pytest.raises(SettingsError, match="cannot write"), whole_file(tmp_path / "folder") as file:
        file.write(b"x")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder"]


def written(chosen: Format, rows: list[dict[str, Any]]) -> tuple[bytes, list[int]]:
    file, told = io.BytesIO(), list[int]()
    assert write_rows(rows, COLUMNS, chosen, file, told.append) == len(rows)
    return file.getvalue(), told


def test_csv_reads_back() -> None:
    data, told = written(Format.CSV, [row(1), EMPTY])
    head, first, second = csv.reader(io.StringIO(data.decode(), newline=""))
    assert head == list(COLUMNS)
    assert first == [
        '1, "quoted"\nand broken',
        "2016-09-07T12:00:00+00:00",
        "1",
        "0.5",
        "true",
        '["a","b,c"]',
        "[1,2]",
        '{"rss":3}',
    ]
    assert second == [""] * len(COLUMNS)
    assert told[-1] == 2
    assert written(Format.CSV, [])[0].decode() == ",".join(COLUMNS) + "\r\n"


def test_json_lines_read_back() -> None:
    data, _ = written(Format.JSONL, [row(1), EMPTY])
    assert [orjson.loads(line) for line in data.splitlines()] == [{**row(1), "at": "2016-09-07T12:00:00+00:00"}, EMPTY]
    assert written(Format.JSONL, [])[0] == b""


def test_parquet_reads_back_with_types_whatever_is_in_the_first_rows(tmp_path: Path) -> None:
    rows = [EMPTY] * ROW_GROUP + [row(7)]
    data, told = written(Format.PARQUET, rows)
    table = parquet.read_table(io.BytesIO(data))
    assert table.num_rows == len(rows)
    assert table.slice(ROW_GROUP).to_pylist() == [{**row(7), "sources": '{"rss":3}'}]
    assert [str(f.type) for f in table.schema][:3] == ["string", "timestamp[us, tz=UTC]", "int64"]
    assert told == [ROW_GROUP, ROW_GROUP + 1]
    assert parquet.read_table(io.BytesIO(written(Format.PARQUET, [])[0])).schema == table.schema


def test_format_follows_the_name_unless_it_is_said() -> None:
    assert format_of(Path("a.CSV"), None) is Format.CSV
    assert format_of(Path("a.ndjson"), None) is Format.JSONL
    assert format_of(Path("a.txt"), Format.PARQUET) is Format.PARQUET
    assert format_of(None, None) is Format.JSONL
    with pytest.raises(SettingsError, match=r"name it \.csv"):
        format_of(Path("a.txt"), None)
    with pytest.raises(SettingsError, match="no text"):
        format_of(None, Format.PARQUET)


@pytest.mark.parametrize("columns", [60, 80, 160])
def test_rising_trends_fit_the_terminal_and_no_word_is_cut(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    story = "Experimental reactor reaches temperature"
    shown = Console(width=columns, file=io.StringIO())
    shown.print(top_table(TopTrends(Now(NOON, True), 345_600, (rising("reactor", story),))))
    lines = shown.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert max(map(len, lines)) <= columns
    assert [word for word in story.split() if not any(word in line for line in lines)] == []


@pytest.mark.parametrize("columns", [60, 80, 160])
def test_rising_subjects_fit_the_terminal_with_all_their_names(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    story, names = "Experimental reactor reaches temperature", ("reactor", "fusion", "plasma")
    standing = Standing("topic-1", 5, 1.0, 2.0, 333.0, NOON)

    def subject(*names: str) -> RisingSubject:
        ids = tuple(f"term:{name}" for name in names)
        return RisingSubject(ids, names, False, "topic-1", story, None, (0, 1, 5) * 56, 3600, 3, standing)

    shown = Console(width=columns, file=io.StringIO())
    shown.print(subjects_table(RisingSubjects(Now(NOON, True), (subject(*names), subject()))))
    text = shown.file.getvalue()  # type: ignore[attr-defined]
    assert max(map(len, text.splitlines())) <= columns
    assert [word for word in (*story.split(), *names) if word not in text] == []
