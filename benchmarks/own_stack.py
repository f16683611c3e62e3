"""A stack of the benchmark's own, in a temporary folder: nothing of it is left afterwards."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from trends.settings import Settings


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
