"""What the runner promises: delivery before the cursor, isolation of sources, bounds, clean ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from datetime import timedelta

import pytest

from connectors.base import Batch, Context, Limits, Sighting, SourceError
from connectors.runner import DeliveryError, Runner, Turns
from streams.errors import SettingsError, UnavailableError
from tests.unit.connectors.helpers import (
    NOW,
    Hands,
    Home,
    Memory,
    Notes,
    Scripted,
    batch,
    by_first_word,
    collect,
    sighting,
)


def counting(total: int, size: int = 2) -> Scripted:
    """A healthy source of so many items."""

    async def script(done: int, context: Context) -> AsyncGenerator[Batch, None]:
        for first in range(done + 1, total + 1, size):
            yield batch(*range(first, min(first + size, total + 1)))

    return Scripted(script)


async def test_cursor_is_saved_only_after_delivery_is_acknowledged() -> None:
    report, memory = await collect(counting(6))
    assert memory.log[0].startswith("publish")
    assert [each.external_id for each in memory.delivered] == list("123456")
    assert memory.cursors["scripted"] == b"6"
    assert memory.log[-1] == "cursor"
    assert (report.delivered, report.passes, report.failures, report.error) == (6, 1, 0, None)


async def test_nothing_is_saved_while_kafka_does_not_acknowledge() -> None:
    memory = Memory(fails=1_000)
    with pytest.raises(DeliveryError, match="not acknowledged"):
        await collect(counting(6), memory)
    assert memory.cursors == {}


async def test_a_refused_batch_is_sent_again() -> None:
    memory = Memory(fails=2)
    report, _ = await collect(counting(4), memory)
    assert len(memory.delivered) == report.delivered == 4


async def test_a_second_run_goes_on_where_the_first_ended() -> None:
    _, memory = await collect(counting(4))
    report, _ = await collect(counting(6), memory)
    assert report.delivered == 2
    assert [each.external_id for each in memory.delivered] == list("123456")


async def test_without_resume_everything_is_read_again() -> None:
    _, memory = await collect(counting(4))
    report, _ = await collect(counting(4), memory, resume=False)
    assert report.delivered == 4


async def test_a_source_that_fails_goes_on_from_its_last_batch() -> None:
    failures = 2

    async def script(done: int, context: Context) -> AsyncGenerator[Batch, None]:
        nonlocal failures
        yield batch(done + 1)
        if failures:
            failures -= 1
            raise SourceError("the source is away")
        yield batch(done + 2)

    hands = Hands()
    report, memory = await collect(Scripted(script), hands=hands)
    assert [each.external_id for each in memory.delivered] == ["1", "2", "3", "4"]
    assert (report.failures, report.passes, report.error) == (2, 1, None)
    assert hands.slept
    assert all(wait > 0 for wait in hands.slept)


async def test_a_source_that_always_fails_is_given_up_and_says_why() -> None:
    async def script(done: int, context: Context) -> AsyncGenerator[Batch, None]:
        raise UnavailableError("gone for good")
        yield

    report, _ = await collect(Scripted(script))
    assert (report.failures, report.error, report.ok) == (3, "gone for good", False)


async def test_a_wrong_option_is_told_once_without_a_trace(caplog: pytest.LogCaptureFixture) -> None:
    async def script(done: int, context: Context) -> AsyncGenerator[Batch, None]:
        raise SettingsError("no column for title")
        yield

    report, _ = await collect(Scripted(script))
    assert (report.failures, report.error) == (1, "no column for title")
    assert [(r.levelname, r.exc_info) for r in caplog.records if "no column" in r.message] == [("WARNING", None)]


async def test_one_source_in_trouble_leaves_the_others_alone() -> None:
    async def hangs(done: int, context: Context) -> AsyncGenerator[Batch, None]:
        yield batch(1)
        await asyncio.Event().wait()

    async def breaks(done: int, context: Context) -> AsyncGenerator[Batch, None]:
        raise ZeroDivisionError("a mistake of ours")
        yield

    limits = Limits(attempts=1, stall_s=0.2)
    memory = Memory()
    runner = Runner(memory, by_first_word)
    reports = await runner.run([Scripted(hangs, "hangs", limits), Scripted(breaks, "breaks", limits), counting(50)])
    assert [report.ok for report in reports] == [False, False, True]
    assert "nothing has happened" in str(reports[0].error)
    assert reports[0].delivered == 1
    assert reports[1].error == "a mistake of ours"
    assert reports[2].delivered == 50


async def test_waiting_on_purpose_is_no_stall() -> None:
    async def script(done: int, context: Context) -> AsyncGenerator[Batch, None]:
        await context.sleep(0.5)
        yield batch(1)

    memory = Memory()
    (report,) = await Runner(memory, by_first_word).run([Scripted(script, limits=Limits(attempts=1, stall_s=0.1))])
    assert report.ok
    assert len(memory.delivered) == 1


async def test_a_slow_kafka_holds_the_source_back() -> None:
    read = 0

    async def script(done: int, context: Context) -> AsyncGenerator[Batch, None]:
        nonlocal read
        for number in range(1, 1_000):
            read = number
            yield batch(number)

    memory = Memory(gate=asyncio.Event())
    task = asyncio.create_task(collect(Scripted(script, limits=Limits(queue_batches=3)), memory))
    await asyncio.sleep(0.05)
    assert 1 <= read <= 5  # three in the queue, one on its way, one in hand
    assert memory.gate is not None
    memory.gate.set()
    report, _ = await task
    assert report.delivered == 999


async def test_cancellation_keeps_what_was_delivered_and_closes_the_source() -> None:
    closed = False

    async def script(done: int, context: Context) -> AsyncGenerator[Batch, None]:
        nonlocal closed
        try:
            for number in range(done + 1, 1_000):
                yield batch(number)
                await asyncio.sleep(0.002)
        finally:
            closed = True

    memory = Memory()
    runner = Runner(memory, by_first_word)
    task = asyncio.create_task(runner.run([Scripted(script)]))
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert closed
    assert memory.delivered
    assert memory.cursors["scripted"] == memory.delivered[-1].external_id.encode()
    (report,) = runner.reports()
    assert report.delivered == len(memory.delivered)


async def test_following_begins_again_after_the_interval() -> None:
    fourth = asyncio.Event()

    async def script(done: int, context: Context) -> AsyncGenerator[Batch, None]:
        yield batch(done + 1)
        if done == 3:
            fourth.set()

    connector, hands, memory = Scripted(script), Hands(), Memory()
    connector.interval_s = 60.0
    task = asyncio.create_task(collect(connector, memory, hands, follow=True))
    await fourth.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [each.external_id for each in memory.delivered[:3]] == ["1", "2", "3"]
    assert all(54.0 <= wait <= 66.0 for wait in hands.slept)


async def followed(outage: range) -> tuple[Memory, Hands]:
    """What a source that is asked every minute leaves behind when some of its passes fail."""
    passes, over = 0, asyncio.Event()

    async def script(done: int, context: Context) -> AsyncGenerator[Batch, None]:
        nonlocal passes
        passes += 1
        if passes in outage:
            raise SourceError("503")
        yield batch(done + 1)
        if passes > outage.stop:
            over.set()

    connector, hands, memory = Scripted(script), Hands(), Memory()
    connector.interval_s = 60.0
    task = asyncio.create_task(collect(connector, memory, hands, follow=True))
    await over.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    return memory, hands


async def test_a_source_that_cannot_be_read_for_long_leaves_a_gap_from_its_last_pass_to_its_next() -> None:
    memory, _ = await followed(range(3, 500))
    assert len({gap.key for gap in memory.gaps}) == 1
    assert all(gap.until - gap.since >= timedelta(minutes=30) for gap in memory.gaps)
    longer = [gap.until for gap in memory.gaps]
    assert longer == sorted(longer)
    last = memory.gaps[-1]
    assert (last.source, last.reason) == ("file", "503")
    assert last.since == NOW + timedelta(seconds=60)  # the second pass was the last that went well


async def test_a_short_failure_is_no_gap() -> None:
    memory, _ = await followed(range(3, 5))
    assert memory.gaps == []


async def test_a_later_sighting_goes_the_way_of_the_first() -> None:
    async def script(done: int, context: Context) -> AsyncGenerator[Batch, None]:
        yield Batch((sighting(1, "apples are red"),), b"1")
        yield Batch((sighting(1, "pears after all"),), b"2")

    routed: list[Sighting] = []

    def route(seen: Sighting) -> Home:
        routed.append(seen)
        return by_first_word(seen)

    memory = Memory()
    await Runner(memory, route).run([Scripted(script)])
    assert [each.trend_id for each in memory.delivered] == ["apples", "apples"]
    assert len(routed) == 1


async def test_bad_rows_are_counted_and_some_are_shown() -> None:
    async def script(done: int, context: Context) -> AsyncGenerator[Batch, None]:
        yield batch(1, bad=tuple(f"line {n}: no title" for n in range(8)))

    report, _ = await collect(Scripted(script))
    assert (report.bad, len(report.samples), report.samples[0]) == (8, 5, "line 0: no title")


async def test_progress_is_told() -> None:
    notes = Notes()
    await collect(counting(4), progress=notes)
    assert [note.delivered for note in notes.all] == [2, 4, 4]
    assert notes.all[-1].note == "done"


async def test_two_connectors_of_one_name_would_share_a_cursor() -> None:
    with pytest.raises(ValueError, match="named twice: scripted"):
        await Runner(Memory(), by_first_word).run([counting(1), counting(1)])


async def test_turns_go_to_the_first_priority_and_starve_nobody() -> None:
    turns, order = Turns(1), []

    async def take(priority: int, name: str) -> None:
        async with turns.turn(priority):
            order.append(name)
            await asyncio.sleep(0)

    async with turns.turn(0):
        tasks = [asyncio.create_task(take(2, "late"))]
        await asyncio.sleep(0)
        tasks += [asyncio.create_task(take(0, f"first {n}")) for n in range(40)]
        await asyncio.sleep(0)
    await asyncio.gather(*tasks)
    assert order[0] == "first 0"
    assert 10 <= order.index("late") <= 20


async def test_a_cancelled_turn_is_handed_on() -> None:
    turns = Turns(1)

    async def take() -> None:
        async with turns.turn(0):
            pass

    async with turns.turn(0):
        given_up, waiting = asyncio.create_task(take()), asyncio.create_task(take())
        await asyncio.sleep(0)
        given_up.cancel()
        await asyncio.sleep(0)
    await asyncio.wait_for(waiting, 1.0)
    await asyncio.wait_for(take(), 1.0)
