"""Who yields to whom: builds, flows of generations that are not live, and replays, to the flows of the live one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from streams.generations import GenerationsFollower, exists
from streams.lag import LagProbe
from streams.throttle import Seen, Throttle
from trends.flows import FLOWS, prepare
from trends.settings import Settings

ENTRIES: Final = ("embed", "history", "copy")
"""Flows at which records enter a generation: these yield, and what follows gets no more than they let in."""
BEHIND_ENTRY: Final = ("cluster",)
"""What follows them, and may have only so much waiting."""


class _Probe:
    """One look at the live flows, and at what waits behind the one that yields."""

    def __init__(self, settings: Settings, own: str | None, flows: Sequence[str]) -> None:
        self._settings = settings
        self._own = own
        self._flows = flows
        kafka = settings.kafka()
        self._follower = GenerationsFollower(kafka) if exists(kafka) else None
        self._live = ""
        self._probes: list[LagProbe] = []
        self._behind = [] if own is None else [_lag_probe(settings, own, flow) for flow in BEHIND_ENTRY]

    def __call__(self) -> Seen | None:
        record = self._follower.poll().live if self._follower else None
        live = record.name if record else self._settings.generation
        if live == self._own:
            return None
        if live != self._live:
            self._close(self._probes)
            self._live, self._probes = live, [_lag_probe(self._settings, live, flow) for flow in self._flows]
        lags = [lag for probe in self._probes for lag in probe.partitions()]
        waiting = sum(lag.records for probe in self._behind for lag in probe.lag().values())
        return Seen(max((lag.seconds for lag in lags), default=0.0), sum(lag.committed or 0 for lag in lags), waiting)

    def close(self) -> None:
        if self._follower is not None:
            self._follower.close()
        self._close(self._probes)
        self._close(self._behind)

    @staticmethod
    def _close(probes: Sequence[LagProbe]) -> None:
        for probe in probes:
            probe.close()


def _lag_probe(settings: Settings, generation: str, flow: str) -> LagProbe:
    of_it = settings.having(generation=generation)
    return LagProbe(of_it.kafka(), generation, flow, prepare(flow, of_it)[0].inputs)


@contextmanager
def yielding(
    settings: Settings, name: str, *, own: str | None = None, flows: Sequence[str] = FLOWS
) -> Iterator[Throttle]:
    """A throttle that follows the live generation's flows for as long as the context lasts.

    Args:
        settings: of any generation on the broker.
        name: who yields.
        own: the generation that it works for: it yields until that one is live, and to what waits behind it. None: it
            works on the live one.
        flows: of the live generation, those that must not be late.
    """
    probe = _Probe(settings, own, flows)
    throttle = Throttle(probe, name=name, to="the live generation").start()
    try:
        yield throttle
    finally:
        throttle.stop()
        probe.close()
