"""Waiting in tests: for what must come true, with a bound that decides nothing as long as it does."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trends.demo import Stages

POLL_S = 0.05
DRAIN_POLL_S = 0.3


def until(condition: Callable[[], object], timeout_s: float = 90.0) -> None:
    """Waits until a condition holds.

    Raises:
        AssertionError: it does not after ``timeout_s``; says what was waited for, and what was there instead.
    """
    __tracebackhide__ = True
    deadline = time.monotonic() + timeout_s
    while not (last := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s:g} s: {_source(condition)} (at last it was {last!r})")
        time.sleep(POLL_S)


def drained(stages: Stages, timeout_s: float, failed: Callable[[], object] = lambda: None) -> str:
    """Waits until every flow has dealt with all that it reads; empty once it has, else what is in the way.

    Args:
        failed: asked at each look; what is true of it ends the waiting.
    """
    deadline = time.monotonic() + timeout_s
    while behind := [
        f"{stage.flow} {stage.total - stage.done}" for stage in stages.look() if stage.done != stage.total
    ]:
        if why := failed():
            return f"{why} (behind: {behind})"
        if time.monotonic() > deadline:
            return f"not drained after {timeout_s:.0f} s: {behind}"
        time.sleep(DRAIN_POLL_S)
    return ""


def _source(condition: Callable[[], object]) -> str:
    try:
        return " ".join(inspect.getsource(condition).split())
    except (OSError, TypeError):
        return repr(condition)
