"""The Hacker News source against a local API that also fails, stalls, limits and lies."""

from __future__ import annotations

from datetime import timedelta

import msgspec
import pytest

from connectors.hackernews import TRACKED, HackerNewsConnector, HackerNewsOptions
from streams.errors import SettingsError
from streams.records import Kind
from tests.unit.connectors.helpers import NOW, Hands, Memory, bad_rows, collect, read, sightings
from tests.unit.connectors.hn_api import TIME, Api
from tests.unit.connectors.server import Answer, Server, page


def connector(server: Server, **options: object) -> HackerNewsConnector:
    return HackerNewsConnector(
        HackerNewsOptions(base_url=server.base, requests_per_s=1_000.0, **{"timeout_s": 0.3, **options})  # type: ignore[arg-type]
    )


async def test_lists_are_joined_and_every_item_is_looked_up_once(server: Server) -> None:
    api = Api(server)
    api.lists(new=[3, 2, 2], top=[1, 3], best=[1])
    for number in (1, 2, 3):
        api.item(number)
    seen = sightings(await read(connector(server)))
    assert [each.external_id for each in seen] == ["1", "2", "3"]
    assert [api.asked(number) for number in (1, 2, 3)] == [1, 1, 1]


async def test_what_items_become(server: Server) -> None:
    api = Api(server)
    api.lists(new=[1, 2, 3, 4, 5, 6])
    api.item(1, score=12, descendants=3, title="A &amp; B")
    api.item(2, title="Ask HN: why?", url=None, text="<p>One<p>two &quot;x&quot;")
    api.item(3, type="job")
    api.item(4, type="poll", url=None)
    api.item(5, dead=True)
    api.item(6, page({"id": 6, "deleted": True, "type": "story", "time": TIME}))
    one, ask, job, poll, dead, deleted = sightings(await read(connector(server)))
    assert (one.title, one.engagement.points, one.engagement.comments, one.author) == ("A & B", 12, 3, "ann")
    assert (one.publisher, one.url) == ("site1.example", "https://www.site1.example/x")
    assert one.observed_at - NOW < timedelta(seconds=1)
    assert (ask.kind, ask.body, ask.publisher) == (Kind.QUESTION, 'One\ntwo "x"', "news.ycombinator.com")
    assert [each.kind for each in (one, job, poll, dead, deleted)] == [
        Kind.POST, Kind.JOB, Kind.POLL, Kind.DELETED, Kind.DELETED,
    ]  # fmt: skip


async def test_comments_and_items_that_are_not_there_are_passed_over(server: Server) -> None:
    api = Api(server)
    api.lists(new=[1, 2, 3])
    api.item(1, type="comment", title="")
    api.item(2, page(None))
    api.item(3)
    batches = await read(connector(server))
    assert [each.external_id for each in sightings(batches)] == ["3"]
    assert bad_rows(batches) == []


async def test_lies_about_items_are_bad_rows_and_nothing_more(server: Server) -> None:
    api = Api(server)
    api.lists(new=[1, "2", None, 3, 4, 5, 6, 7, 8, 9, True, -1, 1.5])
    api.item(1, Answer(b"<html>Sorry</html>", headers={"Content-Type": "text/html"}))
    api.item(3, page([1, 2]))
    api.item(4, page({"id": 5, "type": "story"}))
    api.item(5, Answer(b'{"id": 5, "ti'))
    api.item(6, title=None)
    api.item(7, time="soon")
    api.item(8, Answer(b"x" * 10_000_000))
    api.item(9)
    batches = await read(connector(server))
    assert [each.external_id for each in sightings(batches)] == ["9"]
    assert len(bad_rows(batches)) == 7


async def test_an_item_that_fails_is_asked_for_again_later(server: Server) -> None:
    api = Api(server)
    api.lists(new=[1, 2])
    api.item(1, Answer(status=404))
    api.item(2)
    hands, memory, source = Hands(), Memory(), connector(server)
    await collect(source, memory, hands)
    api.item(1)
    await collect(source, memory, hands)
    assert memory.titles() == ["Story 2"]  # not yet due
    hands.at_s += 3_600
    await collect(source, memory, hands)
    assert memory.titles() == ["Story 2", "Story 1"]


async def test_a_failing_list_leaves_the_others_alone(server: Server) -> None:
    api = Api(server)
    api.lists(new=[1], top=[2], best=[3])
    server.put("/topstories.json", Answer(status=500))
    server.put("/beststories.json", Answer(b"no json"))
    server.put("/updates.json", page([1]))
    server.put("/maxitem.json", page(None))
    api.item(1)
    batches = await read(connector(server))
    assert [each.external_id for each in sightings(batches)] == ["1"]
    assert len(bad_rows(batches)) == 2


async def test_without_any_list_the_pass_fails(server: Server) -> None:
    report, _ = await collect(connector(server))
    assert not report.ok
    assert "HTTP 404" in str(report.error)


async def test_stalling_items_end_the_pass_only_when_all_do(server: Server) -> None:
    api = Api(server)
    api.lists(new=list(range(1, 31)))
    for number in range(1, 31):
        api.item(number, Answer(stall_s=30.0)) if number == 5 else api.item(number)
    source = connector(server, timeout_s=0.5)
    batches = await read(source)
    assert len(sightings(batches)) == 29
    for number in range(1, 31):
        api.item(number, Answer(stall_s=30.0))
    report, _ = await collect(connector(server, timeout_s=0.05))
    assert "no answer" in str(report.error)
    assert report.delivered == 0


async def test_limits_are_honoured_and_the_pass_goes_on(server: Server) -> None:
    api = Api(server)
    api.lists(new=[1])
    api.item(1, Answer(status=429, headers={"Retry-After": "30"}), Answer(status=429), page({"id": 1, "title": "x", "type": "story"}))  # fmt: skip  # noqa: E501
    hands = Hands()
    report, memory = await collect(connector(server), hands=hands)
    assert (report.delivered, report.limited, report.ok) == (1, 1, True)
    assert hands.at_s >= 30
    assert memory.delivered[0].published_at == memory.delivered[0].observed_at


# -- again -------------------------------------------------------------------------------------------------------------


async def test_only_what_has_changed_is_sent_again(server: Server) -> None:
    api = Api(server)
    api.lists(new=[1, 2])
    api.item(1)
    api.item(2)
    hands, memory, source = Hands(), Memory(), connector(server)
    await collect(source, memory, hands)
    api.item(2, score=9)
    await collect(source, memory, hands)
    assert len(memory.delivered) == 2  # neither is due
    hands.at_s += 301
    await collect(source, memory, hands)
    assert [(each.external_id, each.engagement.points) for each in memory.delivered] == [("1", 1), ("2", 1), ("2", 9)]
    assert memory.delivered[1].item_id == memory.delivered[2].item_id


async def test_what_is_sent_again_says_so(server: Server) -> None:
    api = Api(server)
    api.lists(new=[1])
    api.item(1)
    hands, source, cursor = Hands(), connector(server), None
    again = []
    for points in (1, 5, 9):
        api.item(1, score=points)
        batches = await read(source, cursor, hands)
        cursor = batches[-1].cursor
        again += [each.again for each in sightings(batches)]
        hands.at_s += 600
    assert again == [False, True, True]


async def test_quiet_items_are_asked_for_less_and_less_and_moving_ones_are_not(server: Server) -> None:
    api = Api(server)
    api.lists(new=[1, 2])
    api.item(1)
    hands, memory, source = Hands(), Memory(), connector(server)
    for minute in range(0, 600, 5):
        api.item(2, score=minute + 1)
        hands.at_s = minute * 60 + 1.0
        await collect(source, memory, hands)
    assert api.asked(1) <= 8
    assert api.asked(2) >= 110
    assert [each.external_id for each in memory.delivered].count("1") == 1


async def test_updates_are_looked_at_at_once(server: Server) -> None:
    api = Api(server)
    api.lists(new=[1])
    api.item(1)
    hands, memory, source = Hands(), Memory(), connector(server)
    await collect(source, memory, hands)
    api.item(1, dead=True)
    api.lists(new=[1], updates=[1, 77])
    await collect(source, memory, hands)
    assert [each.kind for each in memory.delivered] == [Kind.POST, Kind.DELETED]
    assert api.asked(77) == 0  # nothing that is known


async def test_what_came_and_went_while_nobody_looked_is_found(server: Server) -> None:
    api = Api(server)
    api.lists(new=[2, 1], newest=3)
    for number in range(1, 12):
        api.item(number, type="comment" if number % 2 else "story")
    hands, memory, source = Hands(), Memory(), connector(server)
    await collect(source, memory, hands)
    api.lists(new=[11, 10], newest=11)
    await collect(source, memory, hands)
    assert sorted(int(each.external_id) for each in memory.delivered) == [2, 4, 6, 8, 10]


async def test_old_items_are_forgotten_but_not_while_a_list_names_them(server: Server) -> None:
    api = Api(server)
    api.lists(new=[1], best=[2])
    api.item(1)
    api.item(2)
    hands, memory, source = Hands(), Memory(), connector(server)
    await collect(source, memory, hands)
    api.lists(best=[2])
    for day in range(1, 9):
        hands.at_s = day * 86_400.0
        await collect(source, memory, hands)
    asked = api.asked(1)
    assert asked < 9
    hands.at_s = 20 * 86_400.0
    await collect(source, memory, hands)
    assert api.asked(1) == asked
    assert len(memory.delivered) == 2


async def test_the_cursor_is_bounded(server: Server) -> None:
    api = Api(server)
    api.lists(new=[1])
    api.item(1)
    now = int(NOW.timestamp())
    crowd = {n: ["0" * 12, now + 900, 300, now - n] for n in range(10, 10 + 2 * TRACKED)}
    cursor = msgspec.json.encode({"newest": 0, "items": crowd})
    last = (await read(connector(server), cursor))[-1].cursor
    items = msgspec.json.decode(last)["items"]
    assert len(items) == TRACKED
    assert "1" in items
    assert len(last) < 500_000


def test_base_url_must_be_one() -> None:
    with pytest.raises(SettingsError, match="base_url"):
        HackerNewsConnector(HackerNewsOptions(base_url="news"))
