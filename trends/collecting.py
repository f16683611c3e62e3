"""Collecting as one call: connectors, the router with its catalogue and memory, and Kafka, wired together.

Used by ``trends collect`` and by the demo. What a source does stands in `connectors/`, where an item belongs in
`models.routing`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Final, TypeAlias, TypeVar

from connectors.base import Connector, routing
from connectors.runner import ProgressFn, Runner, SourceReport
from models.routing import Router
from streams.admin import StreamAdmin
from streams.errors import UnavailableError
from streams.feedback import FeedbackFollower
from streams.producer import CatalogFollower, Publisher
from streams.records import Feedback, FeedbackKind, TrendDefinition
from trends.settings import Settings

log = logging.getLogger(__name__)

ROUTER_MEMORY: Final = "router"
"""Under this name the router's memory stands among the cursors."""
ROUTER_SAVE_S: Final = 30.0
CATALOG_POLL_S: Final = 0.5
SETTLE_ATTEMPTS: Final = 10
SETTLE_S: Final = 0.3

T = TypeVar("T")
Changes: TypeAlias = deque[TrendDefinition | Feedback]


async def collect(
    settings: Settings,
    connectors: Sequence[Connector],
    *,
    follow: bool = False,
    resume: bool = True,
    for_s: float | None = None,
    progress: ProgressFn | None = None,
) -> tuple[SourceReport, ...]:
    """Collects until all sources are done; with ``follow`` until it is cancelled, or for so many seconds.

    Streams that are missing are created. A cancelled call raises nothing: it returns the reports so far, and has saved
    the cursors of what was delivered.

    Raises:
        UnavailableError: Kafka takes nothing any more.
        StreamTableError: the streams on the broker are not those of the settings.
    """
    kafka = settings.kafka()
    await asyncio.to_thread(StreamAdmin(kafka, settings.generation).apply)
    async with Publisher(kafka, settings.generation) as publisher, _router(settings, publisher) as router:
        runner = Runner(publisher, routing(router), follow=follow, resume=resume, progress=progress)
        try:
            async with asyncio.timeout(for_s):
                return await runner.run(connectors)
        except (TimeoutError, asyncio.CancelledError):
            return runner.reports()


@asynccontextmanager
async def _router(settings: Settings, publisher: Publisher) -> AsyncIterator[Router]:
    """The router with what it knew last time, following the catalogue; its memory is saved now and then."""
    router = Router()
    memory = await _patiently(lambda: publisher.load_cursor(ROUTER_MEMORY))
    if memory is not None:
        try:
            router.load(memory)
        except ValueError as error:
            log.warning("the router begins without memory: %s", error)
    kafka = settings.kafka()
    changes: Changes = deque()
    followers: list[CatalogFollower | FeedbackFollower] = [
        await asyncio.to_thread(CatalogFollower, kafka, settings.generation, changes.append),
        await asyncio.to_thread(FeedbackFollower, kafka, changes.append),
    ]
    for each in followers:
        await _patiently(partial(asyncio.to_thread, each.catch_up))
    _apply(changes, router)
    tasks = [
        *(asyncio.create_task(_follow(each, changes, router)) for each in followers),
        asyncio.create_task(_remember(publisher, router)),
    ]
    try:
        yield router
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for each in followers:
            await asyncio.to_thread(each.close)
        with contextlib.suppress(UnavailableError):
            await publisher.save_cursor(ROUTER_MEMORY, router.dump().encode(), len(router))


async def _patiently(read: Callable[[], Awaitable[T]]) -> T:
    """Reads from a stream that may just have been created: its leader is known to all brokers a moment later."""
    for _ in range(SETTLE_ATTEMPTS):
        with contextlib.suppress(UnavailableError):
            return await read()
        await asyncio.sleep(SETTLE_S)
    return await read()


def _apply(changes: Changes, router: Router) -> None:
    while changes:
        change = changes.popleft()
        if isinstance(change, TrendDefinition):
            router.update(change)
        elif change.kind is FeedbackKind.NOT_A_TREND and change.trend_id:
            router.refuse(change.trend_id, change.active)


async def _follow(follower: CatalogFollower | FeedbackFollower, changes: Changes, router: Router) -> None:
    """Applies changes of the catalogue, and what people say, in the loop's own thread, where routing happens."""
    while True:
        try:
            await asyncio.to_thread(follower.poll, CATALOG_POLL_S)
        except UnavailableError as error:
            log.warning("the catalogue, or feedback: %s", error)
            await asyncio.sleep(CATALOG_POLL_S)
        _apply(changes, router)


async def _remember(publisher: Publisher, router: Router) -> None:
    while True:
        await asyncio.sleep(ROUTER_SAVE_S)
        try:
            await publisher.save_cursor(ROUTER_MEMORY, router.dump().encode(), len(router))
        except UnavailableError as error:
            log.warning("the router's memory is not saved: %s", error)
