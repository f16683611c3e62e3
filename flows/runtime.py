"""Running one flow as one process: join, restore, run the dataflow, end with the exit code that says why."""

from __future__ import annotations

import gc
import logging
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.run import cli_main

from flows.guard import Decoded, Guard, Step
from streams import metrics
from streams.dead_letters import Decoder
from streams.errors import ExitCode, RestartRequired, TrendsError
from streams.health import Phase
from streams.io import Addresser, Chunk, Outbox
from streams.session import Session
from streams.sink import TICK, KafkaSink
from streams.source import KafkaSource
from streams.state import Restore
from streams.table import DEAD_LETTERS

log = logging.getLogger(__name__)

GC_THRESHOLDS: Final = (20_000, 20, 50)
"""A batch makes tens of thousands of records, and none in a cycle: Python's defaults look through them 50 times."""


@dataclass(frozen=True, slots=True)
class Wired:
    """A dataflow, and what its state is restored with."""

    dataflow: Dataflow
    restore: Restore | None = None
    before_run: Callable[[], None] = lambda: None
    """Called once the state has been read back."""
    close: Callable[[], None] = lambda: None


def pipeline(session: Session, step: Step, *, stateless: bool = False) -> Dataflow:
    """The shape that all flows have: read → decode → step → commit.

    Args:
        stateless: the step keeps nothing that matters, so that it may be asked again after it has failed.
    """
    name = session.spec.name
    letters = session.address.name(DEAD_LETTERS)
    kinds = {session.address.name(s): s.record for s in session.spec.inputs if s.record}
    decoder: Decoder[Any] = Decoder(kinds, name, session.kafka.max_record_bytes)
    guarded = Guard(session, step, stateless=stateless)

    def decode(chunk: Chunk) -> Decoded[Any]:
        oks, errs = decoder(chunk)
        return Decoded(oks, errs, chunk.positions)

    def work(decoded: Decoded[Any]) -> tuple[str, Outbox]:
        if session.failure is not None:
            return "only", Outbox({})
        began = time.monotonic()
        try:
            outbox = guarded(decoded)
        except Exception as error:
            session.failure = error
            return "only", Outbox({})
        if records := len(decoded.oks) + len(decoded.errs):
            metrics.STAGE_SECONDS.labels(name).observe(time.monotonic() - began)
            lost = sum(out.stream == letters for out in outbox.records)
            metrics.ITEMS.labels(name, "ok").inc(max(0, records - lost))
            metrics.ITEMS.labels(name, "dead_letter").inc(lost)
        return "only", outbox

    flow = Dataflow(name)
    chunks = op.input("read", flow, KafkaSource(session))
    decoded = op.map("decode", chunks, decode)
    outboxes = op.map(name, decoded, work)
    op.output("commit", outboxes, KafkaSink(session))
    return flow


def outbox(decoded: Decoded[Any], address: Addresser) -> Outbox:
    """An outbox with the dead letters of a decoded chunk already in it."""
    return Outbox(decoded.positions, address.dead_letters(decoded.errs))


def run(session: Session, wire: Callable[[Session], Wired]) -> ExitCode:
    """Runs one flow process until it is stopped (SIGTERM, SIGINT), told to leave for good (SIGUSR1), or fails.

    When its partitions change it begins anew with the new ones: fresh models, the state read back. That is what a new
    process would do, without the seconds that an interpreter takes to start.

    Returns:
        The exit code; the reason is logged in one line, an unexpected exception with its traceback.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: session.stop())
    signal.signal(signal.SIGUSR1, lambda *_: session.leave())
    gc.set_threshold(*GC_THRESHOLDS)
    try:
        while True:
            try:
                _run_once(session, wire)
            except RestartRequired as change:
                log.info("beginning anew: %s", change)
            else:
                log.info("stopped")
                return ExitCode.OK
    except TrendsError as error:
        session.status.enter(Phase.FAILED, str(error))
        log.error("%s: %s", type(error).__name__, error)
        return error.exit_code
    except Exception as error:
        session.status.enter(Phase.FAILED, f"{type(error).__name__}: {error}")
        log.exception("unexpected failure")
        return ExitCode.FAILED
    finally:
        session.close()


def _run_once(session: Session, wire: Callable[[Session], Wired]) -> None:
    """From getting partitions to losing them, or to the end."""
    wired = wire(session)
    gc.freeze()  # models live as long as the process: never looked through again
    try:
        if session.open(wired.restore, log.info):
            wired.before_run()
            log.info("running")
            cli_main(wired.dataflow, epoch_interval=TICK)  # type: ignore[no-untyped-call]
            if session.failure is not None:
                raise session.failure
    finally:
        wired.close()
