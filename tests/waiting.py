"""Waiting in tests: for what must come true, with a bound that decides nothing as long as it does."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable

POLL_S = 0.05


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


def _source(condition: Callable[[], object]) -> str:
    try:
        return " ".join(inspect.getsource(condition).split())
    except (OSError, TypeError):
        return repr(condition)
