"""Collecting: connectors, the router and the catalogue, put together. Used by `trends collect` and `trends demo`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Final

from connectors.base import Connector, RouteFn, Sighting
from connectors.runner import ProgressFn, Runner, SourceReport
from models.routing import Router
from streams.producer import CatalogFollower, Publisher
from trends.settings import Settings

CATALOGUE_POLL_S: Final = 0.5
"""How soon a subject that was tracked just now is followed."""


def routing(router: Router) -> RouteFn:
    """The router as the runner wants it."""

    def route(seen: Sighting) -> object:
        return router.route(seen.title, seen.body, seen.tags, at=seen.event_time, lang=seen.lang)

    return route  # type: ignore[return-value]


async def collect(
    settings: Settings,
    connectors: Sequence[Connector],
    *,
    follow: bool = False,
    resume: bool = True,
    progress: ProgressFn | None = None,
) -> tuple[SourceReport, ...]:
    """Collects from all connectors, until they are done (``follow``: until cancelled, which returns the reports too).

    Raises:
        UnavailableError: Kafka takes nothing any more; cursors stand at what was acknowledged.
    """
    kafka = settings.kafka()
    router = Router()
    follower = CatalogFollower(kafka, settings.generation, router.update)
    try:
        await asyncio.to_thread(follower.catch_up)
        async with Publisher(kafka, settings.generation) as publisher:
            runner = Runner(publisher, routing(router), follow=follow, resume=resume, progress=progress)
            following = asyncio.create_task(_follow(follower))
            try:
                await runner.run(connectors)
            except asyncio.CancelledError:
                if not follow:
                    raise
            finally:
                following.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await following
            return runner.reports()
    finally:
        follower.close()


async def _follow(follower: CatalogFollower) -> None:
    while True:
        follower.poll()
        await asyncio.sleep(CATALOGUE_POLL_S)
