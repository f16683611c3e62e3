"""Opens the read side of the store with the model that orders trends. What is asked of it is the callers' affair."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from models.scoring import rising
from sinks.postgres import SyncReader
from sinks.views import Standing
from streams.records import TrendScore
from trends.following import following
from trends.settings import Settings


def rising_standings(scores: Sequence[TrendScore], now: datetime) -> list[Standing]:
    """The rising ones among some scores at an instant, the strongest first, see :func:`models.scoring.rising`."""
    return [
        Standing(r.score.trend_id, r.items, r.expected, r.burst, r.strength, r.peaked_at) for r in rising(scores, now)
    ]


def open_reader(settings: Settings, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> SyncReader:
    """The read side of the store of these settings: of the generation that was set, else of the live one.

    Close it, or use it as a context manager.

    Raises:
        SettingsError: there is no store, or the generation is dropped.
        UnavailableError: no generation was set, and Kafka does not say which one is live.
    """
    return SyncReader(following(settings).settings.postgres(), clock=clock, order=rising_standings)


def query_vector(settings: Settings, text: str) -> NDArray[np.float32] | None:
    """The vector of a search text, shape (d,), by the generation's embedder; None where that one has no meaning.

    Raises:
        SettingsError, UnavailableError: the embedder cannot be made, or does not answer.
    """
    settings = following(settings).settings
    if settings.embedder == "null" or not text.strip():
        return None
    from trends.flows import embedder_of

    embedder = embedder_of(settings)
    try:
        vector: NDArray[np.float32] = embedder.embed([text])[0]
        return vector
    finally:
        embedder.close()
