"""How a flow process ends when it is asked to: in order, or without order, but always in time and with 0."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

SCRIPT = """
import logging, sys, threading, time
from flows.stopping import StopSignals
logging.basicConfig(format="%(message)s", stream=sys.stdout, level=logging.INFO)
way = sys.argv[1]

class Session:
    ended = False
    def stop(self): print("told to stop", flush=True); self.ended = way == "orderly"
    def leave(self): print("told to leave", flush=True); self.ended = way == "orderly"

with StopSignals(stop_s=float(sys.argv[2])) as signals:
    session = Session()
    if way != "early":
        signals.tell(session)
    print("up", flush=True)
    if way == "deaf":  # the main thread is inside a call that does not end
        lock = threading.Lock(); lock.acquire(); lock.acquire()
    while not session.ended:
        time.sleep(0.01)
    print("in order", flush=True)
"""


def started(way: str, stop_s: float) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, way, str(stop_s)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    return process


@pytest.mark.parametrize(
    ("number", "says"),
    [(signal.SIGTERM, "told to stop"), (signal.SIGINT, "told to stop"), (signal.SIGUSR1, "told to leave")],
)
def test_a_process_that_is_asked_to_end_does_so_in_order(number: signal.Signals, says: str) -> None:
    process = started("orderly", 60)
    process.send_signal(number)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert out.splitlines() == [says, "in order"]


def test_one_that_is_inside_a_call_without_end_ends_all_the_same_with_0() -> None:
    process = started("deaf", 0.2)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert out.startswith("told to stop\nstopped without finishing what it had begun")


def test_a_second_signal_ends_it_at_once() -> None:
    process = started("deaf", 600)
    assert process.stdout is not None
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == "told to stop\n"
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert out == "stopped at once, as asked twice\n"


def test_before_anything_was_begun_it_ends_at_once_with_0() -> None:
    process = started("early", 600)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert out == "stopped before it had begun\n"
