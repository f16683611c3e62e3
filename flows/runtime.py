"""Running one flow as one process: join, restore, run the dataflow, end with the exit code that says why."""

from __future__ import annotations

import contextlib
import gc
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.run import cli_main

from flows.guard import Decoded, Guard, Step
from flows.stopping import StopSignals
from streams import metrics
from streams.dead_letters import Decoder
from streams.errors import ExitCode, RestartRequired, TrendsError, UnavailableError
from streams.health import Phase
from streams.io import Addresser, Chunk, Outbox
from streams.session import Session
from streams.sink import TICK, KafkaSink
from streams.source import KafkaSource
from streams.state import Restore
from streams.table import DEAD_LETTERS

log = logging.getLogger(__name__)

LOCAL_MODEL_S: Final = 300.0
"""For one batch of a model in this process: hundreds of long texts at 48 a second, on a machine that is busy."""
REMOTE_MODEL_S: Final = 1_200.0
"""For one batch of a model behind an API: five attempts of 30 s with pauses of up to 75 s, several requests in turn."""
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


def pipeline(session: Session, step: Step, *, stateless: bool = False, bound_s: float = 0.0) -> Dataflow:
    """The shape that all flows have: read → decode → step → commit.

    Args:
        stateless: the step keeps nothing that matters, so that it may be asked again after it has failed.
        bound_s: one call of the step may take so many seconds before the process counts as hung, where that is longer
            than a running process may go without progress: for steps that wait for a model.
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
            oks, moved_on = session.sort(decoded.oks)
            if moved_on:
                decoded = Decoded(oks, decoded.errs, decoded.positions)
            if decoded.oks:
                with session.status.during(f"{len(decoded.oks):,} records in one batch", bound_s):
                    outbox = guarded(decoded)
            else:
                outbox = guarded(decoded)  # nothing to do is no progress
            outbox.records.extend(moved_on)
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


def run(session: Session, wire: Callable[[Session], Wired], signals: StopSignals | None = None) -> ExitCode:
    """Runs one flow process until it is stopped (SIGTERM, SIGINT), told to leave for good (SIGUSR1), or fails.

    When its partitions change it begins anew with the new ones: fresh models, the state read back. That is what a new
    process would do, without the seconds that an interpreter takes to start.

    Args:
        signals: already entered, where they were taken before the session was made.

    Returns:
        The exit code; the reason is logged in one line, an unexpected exception with its traceback.
    """
    with contextlib.ExitStack() as stack:
        signals = signals or stack.enter_context(StopSignals())
        stack.callback(session.close)
        signals.tell(session)
        gc.set_threshold(*GC_THRESHOLDS)
        return _run_to_the_end(session, wire)


def _run_to_the_end(session: Session, wire: Callable[[Session], Wired]) -> ExitCode:
    try:
        while not session.stopping:
            try:
                _run_once(session, wire)
            except RestartRequired as change:
                log.info("beginning anew: %s", change)
            else:
                break
        log.info("stopped")
        return ExitCode.OK
    except UnavailableError as error:
        if session.stopping:  # nothing is lost: what was not committed is read again
            log.warning("stopped without finishing what it had begun: %s", error)
            return ExitCode.OK
        return _failed(session, error)
    except TrendsError as error:
        return _failed(session, error)
    except Exception as error:
        session.status.enter(Phase.FAILED, f"{type(error).__name__}: {error}")
        log.exception("unexpected failure")
        return ExitCode.FAILED


def _failed(session: Session, error: TrendsError) -> ExitCode:
    session.status.enter(Phase.FAILED, str(error))
    log.error("%s: %s", type(error).__name__, error)
    return error.exit_code


def _run_once(session: Session, wire: Callable[[Session], Wired]) -> None:
    """From getting partitions to losing them, or to the end."""
    wired = wire(session)
    # Models live as long as the process: never looked through again, unless they are those of a run before this one.
    gc.unfreeze()
    gc.collect()
    gc.freeze()
    try:
        if session.open(wired.restore, log.info):
            wired.before_run()
            gc.freeze()  # what was read back, too: millions of objects
            log.info("running")
            cli_main(wired.dataflow, epoch_interval=TICK)  # type: ignore[no-untyped-call]
            if session.failure is not None:
                raise session.failure
    finally:
        wired.close()
