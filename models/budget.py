"""What a remote model may cost in a day, all processes together; and how a shared store that is away is done without.

The model itself, and what follows when a day's tokens are spent, are its user's affair.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Generic, Protocol, TypeVar

from streams.errors import TrendsError, UnavailableError

log = logging.getLogger(__name__)

T = TypeVar("T")

STORE_PAUSE: Final = timedelta(seconds=30)
"""A shared store that is away is left alone for so long."""


class BudgetSpentError(TrendsError):
    """A day's tokens are spent; ``until``: when there are new ones."""

    def __init__(self, message: str, until: datetime) -> None:
        super().__init__(message)
        self.until = until


class Ledger(Protocol):
    """Counts tokens by days; may be shared by many processes."""

    def spend(self, day: str, tokens: int) -> int:
        """Adds tokens (or, negative, gives them back) to a day's (2016-09-07); those of the day so far, all processes
        together.

        Raises:
            UnavailableError: it cannot be reached.
        """
        ...

    def close(self) -> None:
        """Gives connections back; may be called twice."""
        ...


S_co = TypeVar("S_co", bound=Ledger, covariant=True)


class MemoryLedger:
    """The ledger of one process; only the last day is counted. Any number of threads may use it."""

    def __init__(self) -> None:
        self._day, self._spent = "", 0
        self._lock = threading.Lock()

    def spend(self, day: str, tokens: int) -> int:
        """See :class:`Ledger`; of an earlier day than the last one nothing is known."""
        with self._lock:
            if day > self._day:
                self._day, self._spent = day, 0
            elif day < self._day:
                return max(0, tokens)
            self._spent += tokens
            return self._spent

    def close(self) -> None:
        """Nothing is open."""


class MaybeAway(Generic[S_co]):
    """A shared store, done without for a while after it could not be reached; None: there is none."""

    def __init__(self, store: S_co | None, clock: Callable[[], datetime], what: str) -> None:
        self._store, self._clock, self._what = store, clock, what
        self._away_until = datetime.min.replace(tzinfo=UTC)

    def ask(self, do: Callable[[S_co], T], otherwise: T) -> T:
        """What the store says; ``otherwise`` where it is away."""
        if self._store is None or self._clock() < self._away_until:
            return otherwise
        try:
            return do(self._store)
        except UnavailableError as error:
            self._away_until = self._clock() + STORE_PAUSE
            log.warning("%s not shared for %s: %s", self._what, STORE_PAUSE, error)
            return otherwise

    def close(self) -> None:
        """Gives the store's connections back."""
        if self._store is not None:
            self._store.close()


@dataclass(frozen=True, slots=True)
class Taken:
    """Tokens that were taken from a day's before they are used."""

    day: str
    tokens: int


class DailyBudget:
    """Tokens of a day (UTC). What a request is estimated to take is taken before it is made, what it took is settled
    afterwards: a process that is killed in between has counted too much, never too little. While the shared ledger is
    away, the budget is this process's.

    Args:
        at_least_one: what is taken first on a day is granted whatever its size: work that comes in pieces larger than
            the budget gets on by one piece a day, instead of never.
    """

    def __init__(
        self, tokens_per_day: int, shared: MaybeAway[Ledger], clock: Callable[[], datetime], *,
        at_least_one: bool = False,
    ) -> None:  # fmt: skip
        self.tokens_per_day = tokens_per_day
        self._shared = shared
        self._clock = clock
        self._at_least_one = at_least_one
        self._mine = MemoryLedger()

    def take(self, tokens: int) -> Taken | None:
        """Tokens of today; None: there are not so many left."""
        day = self._clock().astimezone(UTC).strftime("%Y-%m-%d")
        total = self._spend(day, tokens)
        if total > self.tokens_per_day and not (self._at_least_one and total == tokens):
            self._spend(day, -tokens)
            return None
        return Taken(day, tokens)

    def settle(self, taken: Taken, used: int) -> None:
        """What was used of what was taken; it may be more."""
        if used != taken.tokens:
            self._spend(taken.day, used - taken.tokens)

    def renewed_at(self) -> datetime:
        """When the next day begins."""
        today = self._clock().astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        return today + timedelta(days=1)

    def close(self) -> None:
        """Closes the shared ledger."""
        self._shared.close()

    def _spend(self, day: str, tokens: int) -> int:
        mine = self._mine.spend(day, tokens)
        return max(mine, self._shared.ask(lambda ledger: ledger.spend(day, tokens), mine))
