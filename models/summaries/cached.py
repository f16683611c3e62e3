"""Between topics and a language model: what is known already is not asked again, and nothing that the model does or
fails to do ends a flow. Stores are handed in: this process's memory, and one that all processes share.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Final, Protocol

import msgspec
from msgspec.structs import replace

from models.budget import DailyBudget, Ledger, MaybeAway, MemoryLedger
from models.remote import RefusedInputError
from models.summaries.base import Fallback, Summary
from models.summaries.extractive import coherence, extract
from models.summaries.llm import ReplyError, Told
from streams.errors import SettingsError, TrendsError, UnavailableError
from streams.metrics import CACHE_HITS, SUMMARY_FALLBACKS, SUMMARY_TOKENS
from streams.records import TopicUpdate

log = logging.getLogger(__name__)

FROM_ITEMS: Final = 6
MIN_COHERENCE: Final = 0.45
"""Topics whose leading items have less in common are many stories or none: a model would make one up. Of the summaries
of labelled headlines that are due from six items on, 92% lie above, of those of unselected posts 39%."""
KEPT: Final = timedelta(days=30)
"""A summary is used again for so long."""
MEMORY_KEPT: Final = timedelta(days=1)
"""The same in the memory of a process; then the shared store is asked once more."""
MEMORY_ENTRIES: Final = 10_000
"""Summaries kept in memory, about 1 kB each."""
OUTAGE_FIRST_S: Final = 15.0
OUTAGE_MAX_S: Final = 600.0
"""After an outage the model is left alone for so long; doubled with every further one in a row."""


Entries = Mapping[bytes, tuple[bytes, tuple[str, ...]]]
"""By key: the summary as bytes, and the items that it was made from, so that whoever forgets one of them finds it."""


class SummaryStore(Ledger, Protocol):
    """Keeps summaries by key (32 bytes), and counts tokens; may be shared by many processes.

    All raise UnavailableError where it cannot be reached; none waits for longer than a few seconds.
    """

    def get(self, keys: Sequence[bytes], now: datetime) -> dict[bytes, bytes]:
        """What is known of these keys and has not expired."""
        ...

    def put(self, entries: Entries, expires: datetime) -> None:
        """Keeps summaries until then, or for less long."""
        ...

    def forget(self, items: Sequence[str]) -> None:
        """Deletes whatever was made from one of these items."""
        ...


class MemoryStore(MemoryLedger):
    """The store of one process: bounded, the longest unused forgotten first. Any number of threads may use it."""

    def __init__(self, entries: int = MEMORY_ENTRIES) -> None:
        if entries < 1:
            raise ValueError(f"a store needs room for at least one entry, not {entries}")
        super().__init__()
        self._entries = entries
        self._kept: OrderedDict[bytes, tuple[bytes, tuple[str, ...], datetime]] = OrderedDict()

    def get(self, keys: Sequence[bytes], now: datetime) -> dict[bytes, bytes]:
        """See :class:`SummaryStore`."""
        with self._lock:
            found = {key: kept[0] for key in keys if (kept := self._kept.get(key)) is not None and kept[2] > now}
            for key in found:
                self._kept.move_to_end(key)
            return found

    def put(self, entries: Entries, expires: datetime) -> None:
        """See :class:`SummaryStore`."""
        with self._lock:
            for key, (summary, items) in entries.items():
                self._kept[key] = (summary, items, expires)
                self._kept.move_to_end(key)
            while len(self._kept) > self._entries:
                self._kept.popitem(last=False)

    def forget(self, items: Sequence[str]) -> None:
        """See :class:`SummaryStore`."""
        gone = set(items)
        with self._lock:
            for key in [key for key, kept in self._kept.items() if not gone.isdisjoint(kept[1])]:
                del self._kept[key]


class Model(Protocol):
    """What is asked: :class:`models.summaries.llm.ChatModel`."""

    def key(self, update: TopicUpdate) -> bytes: ...

    def estimate(self, update: TopicUpdate) -> int: ...

    def ask(self, update: TopicUpdate) -> Told: ...

    def close(self) -> None: ...


class CachedSummariser:
    """Summaries by a model, each asked for once; where there is none, the extractive one, marked.

    Equal inputs are asked for once, also by several threads at the same time. The budget counts what requests are
    estimated to take before they are made, and what the endpoint says afterwards (:class:`models.budget.DailyBudget`).
    A store that is away is done without.

    Args:
        shared: beside this process's memory; None: there is none.
        concurrency: requests under way at the same time.
        from_items: smaller topics, and those that tell no one story, are not worth a request: extractive for good.
        tokens_per_day: of all processes that share a store, prompts included, by days of UTC.
        clock: for the day, what has expired, and pauses after an outage.
    """

    def __init__(
        self,
        model: Model,
        shared: SummaryStore | None,
        clock: Callable[[], datetime],
        *,
        concurrency: int = 4,
        tokens_per_day: int = 2_000_000,
        from_items: int = FROM_ITEMS,
        memory_entries: int = MEMORY_ENTRIES,
    ) -> None:
        self._model = model
        self._memory = MemoryStore(memory_entries)
        self._shared = shared
        self._store: MaybeAway[SummaryStore] = MaybeAway(shared, clock, "summaries are")
        self._budget = DailyBudget(tokens_per_day, self._store, clock)
        self._clock = clock
        self._from_items = from_items
        self._pool = ThreadPoolExecutor(concurrency, thread_name_prefix="summaries")
        self._flying: dict[bytes, Future[Summary]] = {}
        self._lock = threading.Lock()
        self._outages = 0
        self._away_until: datetime | None = None
        self._forgotten = 0
        """Grows whenever something is forgotten: what was asked for before is not kept."""

    def summarise(self, updates: Sequence[TopicUpdate]) -> list[Summary]:
        """See :class:`models.summaries.base.Summariser`."""
        worth = {i: u for i, u in enumerate(updates) if u.size >= self._from_items and coherence(u) >= MIN_COHERENCE}
        told = dict(zip(worth, self._told(list(worth.values())), strict=True))
        return [told[i] if i in told else extract(update) for i, update in enumerate(updates)]

    def _told(self, updates: Sequence[TopicUpdate]) -> list[Summary]:
        keys = [self._model.key(update) for update in updates]
        wanted: dict[bytes, TopicUpdate] = {}
        for key, update in zip(keys, updates, strict=True):
            wanted.setdefault(key, update)
        known = self._known(wanted)
        futures: dict[bytes, Future[Summary]] = {}
        mine: set[bytes] = set()
        with self._lock:
            known |= self._remembered(
                [key for key in wanted if key not in known]
            )  # another thread may have had it made
            for key, update in wanted.items():
                if key in known:
                    continue
                if key not in self._flying:
                    self._flying[key] = self._pool.submit(self._asked, key, update, self._forgotten)
                    mine.add(key)
                futures[key] = self._flying[key]
        CACHE_HITS.labels("summary", "miss").inc(len(mine))
        CACHE_HITS.labels("summary", "hit").inc(len(keys) - len(mine))
        try:
            found = {key: future.result() for key, future in futures.items()}
        finally:
            with self._lock:
                for key in mine:
                    self._flying.pop(key, None)
        told: list[Summary] = []
        for key, update in zip(keys, updates, strict=True):
            summary = known[key] if key in known else found[key]
            told.append(summary if key in mine else self._again(summary, update))
            mine.discard(key)
        return told

    def forget(self, items: Sequence[str]) -> None:
        """See :class:`models.summaries.base.Summariser`."""
        with self._lock:
            self._forgotten += 1
        self._memory.forget(items)
        if self._shared is not None:
            self._shared.forget(items)

    def close(self) -> None:
        """See :class:`models.summaries.base.Summariser`."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._model.close()
        self._store.close()

    @staticmethod
    def _again(summary: Summary, update: TopicUpdate) -> Summary:
        """A summary that was made for an equal input; quotes and headline are then of this topic's own items."""
        return extract_marked(update, summary.fallback) if summary.fallback else replace(summary, cached=True)

    # -- the stores ---------------------------------------------------------------------------------------------

    def _known(self, wanted: Mapping[bytes, TopicUpdate]) -> dict[bytes, Summary]:
        now = self._clock()
        known = self._memory.get(list(wanted), now)
        missing = [key for key in wanted if key not in known]
        if missing:
            nothing: dict[bytes, bytes] = {}
            found = self._store.ask(lambda store: store.get(missing, now), nothing)
            # The process forgets it with its own items, and sooner than the store does.
            self._memory.put({k: (v, _items(wanted[k])) for k, v in found.items()}, now + MEMORY_KEPT)
            known |= found
        return _summaries(known)

    def _remembered(self, keys: Sequence[bytes]) -> dict[bytes, Summary]:
        return _summaries(self._memory.get(keys, self._clock()))

    def _keep(self, key: bytes, update: TopicUpdate, summary: Summary, forgotten: int) -> None:
        with self._lock:
            if forgotten != self._forgotten:
                return
        entries, now = {key: (msgspec.json.encode(summary), _items(update))}, self._clock()
        self._memory.put(entries, now + MEMORY_KEPT)
        self._store.ask(lambda store: store.put(entries, now + KEPT), None)

    # -- the model ----------------------------------------------------------------------------------------------

    def _asked(self, key: bytes, update: TopicUpdate, forgotten: int) -> Summary:
        """One request; the extractive summary, marked, where nothing comes of it."""
        if self._is_away():
            return extract_marked(update, Fallback.UNAVAILABLE)
        taken = self._budget.take(self._model.estimate(update))
        if taken is None:
            return extract_marked(update, Fallback.BUDGET)
        used: int | None = None
        try:
            told = self._model.ask(update)
        except ReplyError as error:
            used, why = error.tokens, error.why
            self._is_back()
            log.info("topic %s: %s", update.topic_id, error)
        except RefusedInputError as error:
            used, why = 0, Fallback.REFUSED
            log.warning("topic %s: %s", update.topic_id, error)
        except (SettingsError, UnavailableError) as error:
            used, why = 0, Fallback.REFUSED if isinstance(error, SettingsError) else Fallback.UNAVAILABLE
            self._went_away(error)
        else:
            used = told.tokens
            self._is_back()
            self._keep(key, update, told.summary, forgotten)
            return told.summary
        finally:
            spent = taken.tokens if used is None else used
            self._budget.settle(taken, spent)
            SUMMARY_TOKENS.inc(spent)
        return extract_marked(update, why)

    def _is_away(self) -> bool:
        with self._lock:
            return self._away_until is not None and self._clock() < self._away_until

    def _went_away(self, error: TrendsError) -> None:
        with self._lock:
            if self._away_until is not None and self._clock() < self._away_until:
                return  # one of several requests that failed together
            pause_s = min(OUTAGE_MAX_S, OUTAGE_FIRST_S * 2.0**self._outages)
            self._outages += 1
            self._away_until = self._clock() + timedelta(seconds=pause_s)
        log.warning("summaries are extractive for %.0f s, then the model is asked again: %s", pause_s, error)

    def _is_back(self) -> None:
        with self._lock:
            self._outages, self._away_until = 0, None


def extract_marked(update: TopicUpdate, why: Fallback) -> Summary:
    """The extractive summary in the place of a model's, and why."""
    SUMMARY_FALLBACKS.labels(why.value).inc()
    return replace(extract(update), fallback=why)


def _items(update: TopicUpdate) -> tuple[str, ...]:
    return tuple(item.item_id for item in update.items)


def _summaries(found: Mapping[bytes, bytes]) -> dict[bytes, Summary]:
    return {key: summary for key, value in found.items() if (summary := _decoded(value)) is not None}


def _decoded(value: bytes) -> Summary | None:
    """A summary from a store; None where another release has written what this one cannot read."""
    try:
        return msgspec.json.decode(value, type=Summary)
    except msgspec.MsgspecError:
        return None
