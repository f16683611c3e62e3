"""How fast the cluster engine decides with 5,000, 50,000 and 200,000 active topics, vectors given.

Everything that it does is in it: repeats and copies, the nearest topic, merges, topics that fade because there are as
many as may be, updates and state records; not in it are Kafka and the making of vectors. Half of the items begin a
story, the others belong to one that began lately, as on Hacker News. Words are drawn by their frequency in English, and
each story has words of its own, so that the lists of topics by term are as long as they would be. Rates are items a
second of the process's own time on one core, over ``--rounds`` stretches of 2,000 items each.
"""

from __future__ import annotations

import argparse
import gc
import time
from collections import deque
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import accumulate, islice
from random import Random
from typing import Final

import numpy as np
from numpy.typing import NDArray
from wordfreq import get_frequency_dict

from benchmarks.harness import Result, Row
from flows.runtime import GC_THRESHOLDS
from models.clustering import ClusterConfig
from models.engine import ClusterEngine
from models.text import embedding_text, text_hash
from streams.ids import item_id_of
from streams.records import EmbeddedItem, Kind, Observation
from streams.vectors import encode_vector

SIZES: Final = (5_000, 50_000, 200_000)
"""Topics; ``--items`` is the largest."""
STRETCH: Final = 2_000
CHUNK: Final = 256
DIMENSIONS: Final = 384
LATELY: Final = 4_000
"""An item belongs to the story of one of so many before it, or begins one."""
SPREAD: Final = 1.2
"""Length of what an item's vector has beside its story's: their cosine is .64, that of two items .41, so that some
items begin a topic of their own, which is merged when the story has more."""
BEGIN: Final = datetime(2026, 1, 5, tzinfo=UTC)
STEP: Final = timedelta(milliseconds=50)


class Stream:
    """Items of stories, endless; the same for the same seed."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)
        self._numbers = np.random.default_rng(seed)
        words = get_frequency_dict("en", "small")
        self._words = list(words)
        self._until = list(accumulate(words.values()))
        self._lately: deque[tuple[str, NDArray[np.float32]]] = deque(maxlen=LATELY)
        """The stories of the last items: the more items a story has, the more it gets."""
        self._count = 0

    def items(self, new: float) -> Iterator[EmbeddedItem]:
        """Items, of which so many begin a story."""
        while True:
            if not self._lately or self._random.random() < new:
                own = [f"{self._random.choice(self._words)}{self._random.randrange(10_000)}", *self._drawn(3)]
                words, centre = " ".join(own), self._unit()
            else:
                words, centre = self._random.choice(self._lately)
            self._lately.append((words, centre))
            yield self._item(f"{words} {' '.join(self._drawn(5))}", centre + SPREAD * self._unit())

    def _drawn(self, count: int) -> list[str]:
        return self._random.choices(self._words, cum_weights=self._until, k=count)

    def _unit(self) -> NDArray[np.float32]:
        vector = self._numbers.standard_normal(DIMENSIONS, np.float32)
        return vector / np.float32(np.linalg.norm(vector))

    def _item(self, title: str, vector: NDArray[np.float32]) -> EmbeddedItem:
        self._count += 1
        when = BEGIN + self._count * STEP
        item = Observation(
            item_id=item_id_of("bench", str(self._count)), source="bench", external_id=str(self._count), kind=Kind.POST,
            title=title, observed_at=when, published_at=when, trend_id="term:bench",
            url=f"https://site{self._count % 97}.example/{self._count}", publisher=f"site{self._count % 97}.example",
        )  # fmt: skip
        vector = vector / np.float32(np.linalg.norm(vector))
        return EmbeddedItem(
            item=item, text_hash=text_hash(embedding_text(item)), vector=encode_vector(vector), model="made",
            dimensions=DIMENSIONS,
        )  # fmt: skip


def run(args: argparse.Namespace, tell: Callable[[str], None]) -> Result:
    """Items a second at each size."""
    gc.set_threshold(*GC_THRESHOLDS)  # as a flow's process has them
    largest = args.items or SIZES[-1]
    rows = [at_size(size, args.rounds, args.seed, tell) for size in SIZES if size <= largest]
    return Result("engine", "items/s of one core", tuple(rows), {}, {"seed": args.seed, "stretch": STRETCH})


def at_size(topics: int, rounds: int, seed: int, tell: Callable[[str], None]) -> Row:
    """The engine with so many topics, each new one of which makes the one that has waited longest fade."""
    engine, stream = ClusterEngine(ClusterConfig(max_topics=topics), "bench"), Stream(seed)
    began = time.perf_counter()
    filling = stream.items(new=0.6)
    while engine.active_topics < topics:
        engine.apply(list(islice(filling, CHUNK)))
    tell(f"{topics:,} topics after {time.perf_counter() - began:.0f} s")
    live, rates, records, merges = stream.items(new=0.5), [], 0, 0
    for number in range(rounds + 1):
        items = list(islice(live, STRETCH))
        began = time.process_time()
        for begin in range(0, STRETCH, CHUNK):
            decided = engine.apply(items[begin : begin + CHUNK])
            records += len(decided.state)
            merges += sum(update.merged_into is not None for update in decided.updates)
        if number:  # the first stretch is for warming up
            rates.append(STRETCH / (time.process_time() - began))
            tell(f"round {number}/{rounds}  {topics:,} topics: {rates[-1]:,.0f}")
    count = (rounds + 1) * STRETCH
    note = f"{records / count:.1f} state records and {merges / count:.3f} merges an item"
    return Row(f"{topics:,} topics", tuple(rates), note)
