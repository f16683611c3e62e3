"""A command of `trends` that dies at a dangerous place: it sends itself SIGKILL when it comes there for the Nth time.

``python -m tests.integration.crashing PLACE[:N] COMMAND …``, such as ``produced:3 flow embed --name embed-0``. The last
line that it writes is "dies at PLACE". Nothing of the product knows of it: the function at the place is wrapped.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any
from unittest.mock import patch

from streams.io import Outgoing, Positions
from streams.rewriting import Rewrite
from streams.session import Session
from streams.state import StateReader, high_watermarks
from streams.writer import Writer

Pass = Callable[[], None]
"""Called whenever the process is at its place."""


def _wrap(owner: Any, name: str, make: Callable[[Any], Callable[..., Any]]) -> None:
    patch.object(owner, name, make(getattr(owner, name))).start()


def _before(owner: Any, name: str, at: Pass) -> None:
    def make(whole: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            at()
            return whole(*args, **kwargs)

        return wrapped

    _wrap(owner, name, make)


def _after(owner: Any, name: str, at: Pass) -> None:
    def make(whole: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            result = whole(*args, **kwargs)
            at()
            return result

        return wrapped

    _wrap(owner, name, make)


# ---------------------------------------------------------------------------------------------------- in flows


def in_transaction(calls: int, after: bool, at: Pass) -> None:
    """Around the first (offsets) or second (commit) call of a transaction that matters: it moves on, and writes records
    (store writes none; its rows stand in the shards by then)."""
    made, matters = 0, False

    def write(whole: Callable[..., int]) -> Callable[..., int]:
        def wrapped(session: Session, records: Iterable[Outgoing], positions: Positions) -> int:
            nonlocal made, matters
            records = list(records)
            made, matters = 0, bool(positions) and (bool(records) or session.spec.name == "store")
            return whole(session, records, positions)

        return wrapped

    def call(whole: Callable[..., None]) -> Callable[..., None]:
        def wrapped(writer: Writer, do: Callable[[], None]) -> None:
            nonlocal made
            made += 1
            here = matters and made == calls
            if here and not after:
                writer._producer.flush(10)  # what it wrote stands in the log
                at()
            whole(writer, do)
            if here and after:
                at()

        return wrapped

    _wrap(Session, "_write", write)
    _wrap(Writer, "_call", call)


def in_restore(at: Pass) -> None:
    """Some of the state is read back, and some is not."""
    patch("streams.state.READ_BATCH_RECORDS", 10).start()

    def poll(whole: Callable[..., int]) -> Callable[..., int]:
        def wrapped(reader: StateReader, timeout_s: float) -> int:
            applied = whole(reader, timeout_s)
            if applied:
                ends = high_watermarks(reader._kafka, reader._stream, reader.partitions)
                if any(reader._position[p] < end for p, end in ends.items()):
                    at()
            return applied

        return wrapped

    _wrap(StateReader, "poll", poll)


def in_rebalance(callback: str, before: bool, at: Pass) -> None:
    """Partitions (the role) are taken away, or have just been given."""

    def make(whole: Callable[..., None]) -> Callable[..., None]:
        def wrapped(session: Session, consumer: Any, partitions: list[Any]) -> None:
            if partitions and before:
                at()
            whole(session, consumer, partitions)
            if partitions and not before:
                at()

        return wrapped

    _wrap(Session, callback, make)


def between_shards(at: Pass) -> None:
    """Of a batch for both shards, one has committed its part, and the other one has not begun."""
    from sinks.postgres.writer import PostgresWriter

    turn, entered = asyncio.Lock(), set[int]()

    def make(whole: Callable[..., Any]) -> Callable[..., Any]:
        async def wrapped(writer: PostgresWriter, shard: int, *args: Any) -> Any:
            entered.add(shard)
            await asyncio.sleep(0)  # the other shard's part comes here, too
            async with turn:
                done = await whole(writer, shard, *args)
                if len(entered) == 2:
                    at()
                entered.discard(shard)
                return done

        return wrapped

    _wrap(PostgresWriter, "_attempt", make)


# ------------------------------------------------------------------------------------------------- in commands


def rebuild(step: str, at: Pass) -> None:
    """Behind a step of a rewrite of state: the covers are taken away (begin), some of it is written (_flush)."""
    patch("streams.rewriting.TRANSACTION_RECORDS", 40).start()
    _after(Rewrite, step, at)


def rebuild_cut(at: Pass) -> None:
    """The former state is deleted, and the new one has no covers yet."""
    _after(sys.modules["streams.rewriting"], "cut", at)


def redirecting(at: Pass) -> None:
    """Some topics of the former generation are redirected."""
    from sinks.postgres.generations import GenerationReader

    patch("sinks.postgres.generations.PAGE_TOPICS", 1).start()

    def make(whole: Callable[..., Any]) -> Callable[..., Any]:
        async def wrapped(*args: Any) -> None:
            await whole(*args)
            at()

        return wrapped

    _wrap(GenerationReader, "_write_redirects", make)


def promotion(after: bool, at: Pass) -> None:
    """Around the one record that makes a generation live."""
    import trends.generations

    (_after if after else _before)(trends.generations, "_make_live", at)


PLACES: dict[str, Callable[[Pass], None]] = {
    "produced": partial(in_transaction, 1, False),
    "offsets": partial(in_transaction, 2, False),
    "committed": partial(in_transaction, 2, True),
    "restore": in_restore,
    "revoked": partial(in_rebalance, "_on_revoke", True),
    "assigned": partial(in_rebalance, "_on_assign", False),
    "shards": between_shards,
    "rebuild-begun": partial(rebuild, "begin"),
    "rebuild-written": partial(rebuild, "_flush"),
    "rebuild-cut": rebuild_cut,
    "redirecting": redirecting,
    "redirected": partial(promotion, False),
    "promoted": partial(promotion, True),
}
"""Of transactions: all records stand in the log, the offsets are not in it (``produced``); they are, and it is not
committed (``offsets``); it is, and the process does not know (``committed``)."""


def main() -> None:
    place, _, times = sys.argv[1].partition(":")
    left = int(times or 1)

    def at() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.write(2, f"dies at {place}\n".encode())
            os.kill(os.getpid(), signal.SIGKILL)

    PLACES[place](at)
    sys.argv = ["trends", *sys.argv[2:]]
    from trends.__main__ import main as trends

    trends()


if __name__ == "__main__":
    main()
