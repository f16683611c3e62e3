"""The file source: what rows become, which are bad and never stop the others, and where a cursor goes on."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import sys
import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connectors import connector_of
from connectors.base import BATCH_SIGHTINGS, Clockwork, Context, Sighting, SourceError
from connectors.file import ROW_BYTES, FileConnector, FileOptions, Format
from connectors.http import Fetcher
from streams.errors import SettingsError
from streams.records import Kind
from tests.unit.connectors.helpers import NOW, bad_rows, collect, read, sightings

Write = Callable[..., FileConnector]

CSV = b"""id,title,url,points,comments,author,created_at
1,"Plums, pears and ""other"" fruit",https://www.fruit.example/a,116,86,ann,2016-09-07T07:59:00Z
2,Second,,3,0,bob,2016-09-07T08:01:00Z
"""


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a file and gives its connector."""

    def make(data: bytes, name: str = "posts.csv", **options: object) -> FileConnector:
        (tmp_path / name).write_bytes(data)
        return FileConnector(str(tmp_path / name), FileOptions(**options))  # type: ignore[arg-type]

    return make


async def rows(connector: FileConnector) -> tuple[list[Sighting], list[str]]:
    batches = await read(connector)
    return sightings(batches), bad_rows(batches)


async def test_well_known_columns_are_found_by_their_names(write: Write) -> None:
    (first, second), bad = await rows(write(CSV, source="hackernews"))
    assert bad == []
    assert first.title == 'Plums, pears and "other" fruit'
    assert (first.source, first.external_id, first.kind) == ("hackernews", "1", Kind.POST)
    assert (first.engagement.points, first.engagement.comments, first.author) == (116, 86, "ann")
    assert first.publisher == "fruit.example"
    assert first.published_at == first.observed_at == datetime(2016, 9, 7, 7, 59, tzinfo=UTC)
    assert (second.url, second.publisher) == (None, None)


async def test_names_of_other_sources_mean_the_same(write: Write) -> None:
    line = json.dumps(
        {
            "Id": 7, "Headline": "Title", "selftext": "Text", "Num-Comments": "1,200", "score": 5, "subreddit": "fruit",
            "created_utc": 1473235140.0, "by": "ann", "type": "story", "tags": ["a", "b"], "lang": "en",
        }
    )  # fmt: skip
    (seen,), bad = await rows(write(line.encode(), "x.jsonl"))
    assert bad == []
    assert (seen.external_id, seen.title, seen.body, seen.publisher) == ("7", "Title", "Text", "fruit")
    assert (seen.engagement.comments, seen.engagement.points, seen.tags, seen.lang) == (1200, 5, ("a", "b"), "en")
    assert seen.published_at == datetime(2016, 9, 7, 7, 59, tzinfo=UTC)


@pytest.mark.parametrize(("value", "tags"), [("a;b", ("a", "b")), (7, ("7",)), (True, ()), (None, ()), ({"a": 1}, ())])
async def test_tags_are_written_in_many_ways(write: Write, value: object, tags: tuple[str, ...]) -> None:
    (seen,), bad = await rows(write(json.dumps({"title": "Title", "tags": value}).encode(), "x.jsonl"))
    assert (seen.tags, bad) == (tags, [])


async def test_options_say_what_names_do_not(write: Write) -> None:
    data = b"nr,what,when_ms\n9,Something,1394470370698\n"
    (seen,), _ = await rows(write(data, map={"title": "what", "id": "nr", "published_at": "when_ms"}))
    assert (seen.external_id, seen.title, seen.published_at.year) == ("9", "Something", 2014)


@pytest.mark.parametrize(
    ("data", "options", "says"),
    [
        (b"a,b\n1,2\n", {}, "no column for title among a, b; say which one it is: --map title=COLUMN"),
        (b"title\nx\n", {"map": {"author": "who"}}, "no column for author"),
        (b"", {}, "it is empty, or its first line is"),
        (b"\xfe\xffx,b\n1,2\n", {}, r"among \?\?x, b"),
        (b"id,ti\rtle\n1,A\n", {}, "the first line is no CSV header"),
    ],
)
async def test_a_header_that_cannot_work_says_what_to_do(
    write: Write, data: bytes, options: dict[str, object], says: str
) -> None:
    with pytest.raises(SettingsError, match=says):
        await read(write(data, **options))


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="is a folder; name the files"):
        connector_of(f"file:{tmp_path}")


async def test_bad_rows_are_counted_and_their_neighbours_arrive(write: Write) -> None:
    good = b"%d,Good,2016-09-07T07:59:00Z\n"
    bad_lines = [
        b"x,too,many,2016-09-07T07:59:00Z\n",
        b"x,few\n",
        b"x,,2016-09-07T07:59:00Z\n",
        b"x,Untimely,yesterday\n",
        b"x,Timeless,\n",
        b"x,Future,2199-01-01\n",
        b"x,N\x00UL,2016-09-07T07:59:00Z\n",
        b"x,La\xe9tin,2016-09-07T07:59:00Z\n",
        b'x,"open quote,2016-09-07T07:59:00Z\n',
    ]
    data = b"id,title,created_at\n" + b"".join(good % n + line for n, line in enumerate(bad_lines)) + good % 99
    seen, bad = await rows(write(data))
    assert [each.external_id for each in seen] == [*map(str, range(len(bad_lines))), "99"]
    assert len(bad) == len(bad_lines)
    for line, reason in zip(
        bad,
        ("4 columns", "2 columns", "no title", "no time", "no time", "future", "NUL", "encoding", "unclosed quote"),
        strict=True,
    ):
        assert reason in line
        assert line.startswith("line ")


async def test_bad_json_lines_are_counted_and_their_neighbours_arrive(write: Write) -> None:
    good = b'{"id": "%d", "title": "Good", "time": 1473235140}\n'
    bad_lines = [
        b"{broken\n", b"[1]\n", b"7\n", b"\xff\xfe\n", b'{"id": 1, "time": 1473235140}\n',
        b'{"id": {"a": 1}, "title": "x", "time": 1473235140}\n', b'{"title": "x", "time": true}\n',
        b"[" * 5_000 + b"\n",
        b'{"id": 1, "title": "nul \x00", "time": 1473235140}\n',
    ]  # fmt: skip
    seen, bad = await rows(write(b"".join(good % n + line for n, line in enumerate(bad_lines)), "x.jsonl"))
    assert [each.external_id for each in seen] == [*map(str, range(len(bad_lines)))]
    assert len(bad) == len(bad_lines)


async def test_an_overlong_line_is_one_bad_row_and_a_long_body_is_none(write: Write) -> None:
    big = b"x" * (ROW_BYTES + 10)
    data = b'id,title,body\n1,Good,short\n2,Huge,"' + big + b'"\n3,Long,"' + b"y" * 2_000_000 + b'"\n4,Good,short\n'
    seen, bad = await rows(write(data))
    assert [(each.external_id, len(each.body)) for each in seen] == [("1", 5), ("3", 2_000_000), ("4", 5)]
    assert len(bad) == 1
    assert "longer than" in bad[0]


async def test_quoted_fields_may_span_lines(write: Write) -> None:
    (seen, after), bad = await rows(write(b'id,title,body\n1,T,"one\n\ntwo, ""three"""\n2,U,x\n'))
    assert (seen.body, after.external_id, bad) == ('one\n\ntwo, "three"', "2", [])


@pytest.mark.parametrize("name", ["posts.csv", "posts.csv.gz", "posts", "posts.txt"])
async def test_gzip_and_format_are_told_by_the_bytes(write: Write, name: str) -> None:
    data = gzip.compress(CSV) if name.endswith("gz") else CSV
    seen, _ = await rows(write(data, name))
    assert len(seen) == 2


async def test_a_broken_gzip_delivers_what_could_be_read_and_says_so(write: Write) -> None:
    many = b"id,title\n" + b"".join(b"%d,Title number %d\n" % (n, n * n) for n in range(20_000))
    report, memory = await collect(write(gzip.compress(many)[:-4_000], "x.csv.gz"))
    assert not report.ok
    assert "end-of-stream" in str(report.error)
    assert len(memory.delivered) > BATCH_SIGHTINGS
    assert report.failures == 1


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
async def test_other_delimiters_are_told_by_the_header(write: Write, delimiter: str) -> None:
    (seen,), _ = await rows(write(CSV[:46].replace(b",", delimiter.encode()) + b"\n1;A;;2;3;x;2016-09-07\n".replace(b";", delimiter.encode())))  # fmt: skip  # noqa: E501
    assert (seen.title, seen.engagement.points) == ("A", 2)


async def test_byte_order_mark_and_windows_lines(write: Write) -> None:
    seen, bad = await rows(write(b"\xef\xbb\xbf" + CSV.replace(b"\n", b"\r\n")))
    assert (len(seen), bad, seen[0].external_id) == (2, [], "1")


async def test_another_encoding_is_an_option(write: Write) -> None:
    (seen,), _ = await rows(write("id,title\n1,Crème\n".encode("latin-1"), encoding="latin-1"))
    assert seen.title == "Crème"


async def test_rows_without_times_get_increasing_ones(write: Write) -> None:
    start = datetime(2020, 1, 1, tzinfo=UTC)
    seen, bad = await rows(write(b"id,title\n1,A\n2,B\n3,C\n", start=start, step_s=60.0))
    assert bad == []
    assert [each.published_at - start for each in seen] == [timedelta(minutes=n) for n in range(3)]


async def test_rows_without_ids_keep_the_same_one(write: Write) -> None:
    data = b"title,url,date\nA,https://x.example/1,2020-01-01\nA,https://x.example/2,2020-01-01\n"
    first, _ = await rows(write(data))
    again, _ = await rows(write(data, "other.csv"))
    assert [each.external_id for each in first] == [each.external_id for each in again]
    assert len({each.external_id for each in first}) == 2


async def test_a_post_without_title_is_called_by_its_first_words(write: Write) -> None:
    line = {"id": 1, "text": "word " * 100, "time": 1473235140}
    (seen,), _ = await rows(write(json.dumps(line).encode(), "x.jsonl"))
    assert seen.title.startswith("word word")
    assert len(seen.title) <= 120


async def test_deleted_rows_need_no_title(write: Write) -> None:
    (seen,), bad = await rows(write(b"id,title,kind,time\n1,,deleted,2020-01-01\n"))
    assert (seen.kind, bad) == (Kind.DELETED, [])


# -- cursors -----------------------------------------------------------------------------------------------------------


def lines(first: int, last: int) -> bytes:
    return b"".join(b"%d,Title %d,%s\n" % (n, n, b"2016-09-07" if n % 7 else b"") for n in range(first, last + 1))


async def test_a_file_that_has_grown_goes_on_where_it_ended(write: Write, tmp_path: Path) -> None:
    connector = write(b"id,title,date\n" + lines(1, 3))
    _, memory = await collect(connector)
    with (tmp_path / "posts.csv").open("ab") as file:
        file.write(lines(4, 6))
    report, _ = await collect(connector, memory)
    assert report.delivered == 3
    assert [each.external_id for each in memory.delivered] == list("123456")
    again, _ = await collect(connector, memory)
    assert again.delivered == 0


async def test_another_file_of_the_same_name_is_read_from_its_beginning(write: Write) -> None:
    _, memory = await collect(write(b"id,title\n1,A\n2,B\n"))
    report, _ = await collect(write(b"id,title\n8,Y\n9,Z\n"), memory)
    assert report.delivered == 2


async def test_a_file_read_another_way_has_another_cursor(write: Write) -> None:
    _, memory = await collect(write(CSV))
    report, _ = await collect(write(CSV, source="hackernews"), memory)
    assert report.delivered == 2


async def test_simulated_times_go_on_after_a_resume(write: Write, tmp_path: Path) -> None:
    data = b"id,title\n" + b"".join(b"%d,T\n" % n for n in range(1_200))
    connector = write(data)
    batches = await read(connector)
    os.utime(tmp_path / "posts.csv", (1, 1))
    rest = await read(connector, batches[0].cursor)
    assert sightings(rest) == sightings(batches[1:])


async def test_rubbish_as_a_cursor_counts_as_none(write: Write) -> None:
    assert len(sightings(await read(write(CSV), b'{"feeds": 3}'))) == 2
    assert len(sightings(await read(write(CSV), b"\xff"))) == 2


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.binary(max_size=400), st.sampled_from([b"id,title,date\n", b'{"title": "x"}\n', b""]), st.sampled_from(list(Format)))  # fmt: skip  # noqa: E501
def test_whatever_the_bytes_are_nothing_is_fatal(tmp_path: Path, data: bytes, head: bytes, form: Format) -> None:
    path = tmp_path / "any.csv"
    path.write_bytes(head + data + b"\n1,Good,2016-09-07\n")
    try:
        batches = asyncio.run(read(FileConnector(str(path), FileOptions(format=form))))
    except SettingsError:  # a header without a title
        return
    except SourceError:  # what begins like gzip and is none cannot be read at all
        assert (head + data).startswith(b"\x1f\x8b")
        return
    assert sightings(batches) or bad_rows(batches)


async def test_memory_is_constant(write: Write) -> None:
    row = b"%d,Title," + b"w" * 6_000 + b",2016-09-07\n"
    connector = write(b"id,title,body,date\n" + b"".join(row % n for n in range(6_000)), "big.csv")
    batches = 0
    tracemalloc.start()
    try:
        context = Context(Clockwork(), Fetcher("file", connector.limits, Clockwork()))
        async for _ in connector.batches(None, context):
            batches += 1
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert batches == 12
    assert peak < 12_000_000  # of 36 MB


async def test_standard_input_is_read_and_can_be_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        os.write(writing, b'{"id": 1, "title": "A", "time": 1473235140}\n' * BATCH_SIGHTINGS)
        task = asyncio.create_task(collect(FileConnector("-")))
        await asyncio.sleep(0.3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(task, 3.0)
        os.close(writing)


async def test_standard_input_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        os.write(writing, gzip.compress(CSV))
        os.close(writing)
        report, memory = await collect(FileConnector("-"))
    assert (report.delivered, report.ok, memory.delivered[1].title) == (2, True, "Second")
    assert memory.delivered[1].observed_at < NOW
