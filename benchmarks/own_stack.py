"""A stack of the benchmark's own, in a temporary folder: nothing of it is left afterwards."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from connectors.base import Connector
from streams.errors import UnavailableError
from trends.collecting import collect
from trends.demo import Stages
from trends.settings import Settings
from trends.supervisor import Supervisor

POLL_S: Final = 0.25


@contextmanager
def own_stack(**settings: object) -> Iterator[Settings]:
    """Kafka and PostgreSQL, started for this run and stopped after it."""
    with tempfile.TemporaryDirectory(prefix="trends-bench-") as folder:
        made = Settings(home=Path(folder) / "home", kafka_bootstrap=None, postgres_dsns=(), **settings)  # type: ignore[arg-type]
        local = made.local_stack()
        try:
            local.up()
            yield made
        finally:
            local.down()


def stored_after(
    settings: Settings, connector: Connector | None, flows: Supervisor, stages: Stages, within_s: float
) -> float:
    """Seconds from the first row read until everything is stored; without a connector, what is in the streams already.

    Raises:
        UnavailableError: the flows have given up, or it takes longer than ``within_s``.
    """
    began = time.perf_counter()
    if connector is not None:
        asyncio.run(collect(settings, [connector]))
    while any(stage.done != stage.total for stage in stages.look()):
        if flows.failure:
            raise UnavailableError(flows.failure)
        if time.perf_counter() - began > within_s:
            raise UnavailableError(f"not stored after {within_s:.0f} s; see {settings.home / 'logs'}")
        time.sleep(POLL_S)
    return time.perf_counter() - began
