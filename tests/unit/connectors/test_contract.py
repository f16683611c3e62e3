"""What every connector promises, whatever it reads: one suite over all of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from connectors import KINDS
from connectors.base import BATCH_SIGHTINGS, Connector
from connectors.file import FileConnector
from connectors.hackernews import HackerNewsConnector, HackerNewsOptions
from connectors.rss import RssConnector, RssOptions
from connectors.runner import Runner
from connectors.synthetic import SyntheticConnector, SyntheticOptions
from streams.codec import decode, encode
from streams.records import Observation
from streams.table import SOURCES
from tests.unit.connectors.helpers import Hands, Home, Memory, bad_rows, by_first_word, collect, read, sightings
from tests.unit.connectors.hn_api import Api
from tests.unit.connectors.server import Server, serving
from tests.unit.connectors.test_rss import item, rss, served

Make = Callable[[], Connector]


async def a_file(server: Server, folder: Path) -> Make:
    path = folder / "posts.csv"
    rows = (f'{n},"Title {n}",2016-09-07\n' if n % 50 else f"{n},broken\n" for n in range(1, 2_201))
    path.write_text("id,title,date\n" + "".join(rows))
    return lambda: FileConnector(str(path))


async def a_world(server: Server, folder: Path) -> Make:
    return lambda: SyntheticConnector(SyntheticOptions(items=1_200))


async def some_feeds(server: Server, folder: Path) -> Make:
    for n in range(8):
        server.put(f"/{n}", served(rss(*(item(10 * n + k) for k in range(10)), "<item></item>"), ETag=f'"{n}"'))
    path = folder / "feeds.txt"
    path.write_text("\n".join(f"{server.base}/{n}" for n in range(8)))
    return lambda: RssConnector(str(path), RssOptions(requests_per_s=1_000.0, concurrency=2))


async def an_api(server: Server, folder: Path) -> Make:
    api = Api(server)
    api.lists(new=list(range(1, 181)))
    for number in range(1, 181):
        api.item(number, **({"title": None} if number % 40 == 0 else {}))
    options = HackerNewsOptions(base_url=server.base, requests_per_s=10_000.0)
    return lambda: HackerNewsConnector(options)


SETUPS: dict[str, Callable[[Server, Path], Awaitable[Make]]] = {
    "file": a_file,
    "synthetic": a_world,
    "rss": some_feeds,
    "hackernews": an_api,
}


@pytest_asyncio.fixture(params=list(SETUPS))
async def make(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Make]:
    """Makes the same connector again and again, as restarted processes do."""
    async with serving() as server:
        yield await SETUPS[request.param](server, tmp_path)


def test_every_connector_is_in_this_suite() -> None:
    assert SETUPS.keys() == KINDS.keys()


def identities(memory: Memory) -> list[tuple[str, str]]:
    """What was delivered: items, and in the synthetic world the sightings of them."""
    return [(o.item_id, o.observed_at.isoformat() if o.source == "synthetic" else "") for o in memory.delivered]


async def test_whoever_goes_on_from_a_cursor_gets_the_rest_and_nothing_twice(make: Make) -> None:
    batches = await read(make())
    assert len(batches) > 2
    everything = {(seen.item_id, seen.title, seen.engagement) for seen in sightings(batches)}
    for position in {0, len(batches) // 2, len(batches) - 2}:
        before = sightings(batches[: position + 1])
        after = sightings(await read(make(), batches[position].cursor))
        assert len(before) + len(after) == len(sightings(batches))
        assert {(seen.item_id, seen.title, seen.engagement) for seen in [*before, *after]} == everything


async def test_a_run_that_is_cancelled_anywhere_and_begun_again_delivers_everything_once(make: Make) -> None:
    expected = len(sightings(await read(make())))

    class Slow(Memory):
        async def publish(self, observations: object) -> None:
            await super().publish(observations)  # type: ignore[arg-type]
            await asyncio.sleep(0.005)

    memory = Slow()
    for wait_s in (0.0, 0.01, 0.03, 0.05):
        task = asyncio.create_task(Runner(memory, by_first_word, clockwork=Hands().clockwork()).run([make()]))
        await asyncio.sleep(wait_s)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    report, _ = await collect(make(), memory)
    assert report.ok
    assert len(identities(memory)) == expected
    assert len(set(identities(memory))) == expected


async def test_a_second_run_has_nothing_to_do(make: Make) -> None:
    report, memory = await collect(make())
    assert report.ok
    assert report.delivered > 0
    again, _ = await collect(make(), memory)
    assert (again.ok, again.delivered) == (True, 0)


async def test_bad_input_is_counted_and_never_fatal(make: Make, request: pytest.FixtureRequest) -> None:
    batches = await read(make())
    if "synthetic" not in request.node.name:
        assert bad_rows(batches)
    assert all(len(line) <= 300 and "\n" not in line for line in bad_rows(batches))


async def test_rubbish_as_a_cursor_counts_as_none(make: Make) -> None:
    expected = len(sightings(await read(make())))
    for rubbish in (b"", b"\xff", b"null", b'{"rows": "x", "items": 3, "feeds": [], "world": 1}'):
        assert len(sightings(await read(make(), rubbish))) == expected


async def test_batches_are_bounded_and_tell_how_far_they_are(make: Make) -> None:
    batches = await read(make())
    assert all(len(each.sightings) <= BATCH_SIGHTINGS for each in batches)
    fractions = [each.fraction for each in batches]
    assert fractions == sorted(fraction for fraction in fractions if fraction is not None)
    assert fractions[-1] == 1.0


async def test_sightings_are_records_of_a_known_source(make: Make) -> None:
    connector = make()
    assert connector.source in SOURCES
    assert 0 < len(connector.name) <= 200
    for seen in sightings(await read(connector)):
        record = seen.routed(Home())
        assert seen.source == connector.source
        assert decode(Observation, encode(record)) == record


async def test_the_same_target_has_the_same_name(make: Make) -> None:
    assert make().name == make().name
