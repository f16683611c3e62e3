"""The demo as a newcomer runs it: killed in the middle, run again, and again."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[2]
ITEMS = 400


def demo(home: Path) -> subprocess.Popen[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TRENDS_")} | {"TRENDS_HOME": str(home)}
    return subprocess.Popen(
        [sys.executable, "-m", "trends", "demo", "--items", str(ITEMS), "--json"],
        cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def processes_of(home: Path) -> list[str]:
    """Everything that still runs over a data folder."""
    found = []
    for process in psutil.process_iter(["cmdline", "environ"]):
        command = " ".join(process.info["cmdline"] or [])
        home_of = (process.info["environ"] or {}).get("TRENDS_HOME", "")
        if str(home) in command or home_of.startswith(str(home)):
            found.append(command)
    return found


def collected(home: Path) -> bool:
    """The embed flow of the demo is at work."""
    log = home / "logs" / "embed-0.log"
    return log.exists() and "running" in log.read_text()


@pytest.mark.timeout(400)
def test_a_demo_killed_in_the_middle_and_run_again_ends_in_the_same_counts(tmp_path: Path) -> None:
    home = tmp_path / "home"
    first = demo(home)
    deadline = time.monotonic() + 90
    while not collected(home):
        assert first.poll() is None, first.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    time.sleep(1.5)
    first.send_signal(signal.SIGKILL)
    first.wait()

    told = []
    for _ in range(2):
        out, err = demo(home).communicate(timeout=150)
        told.append(json.loads(out) if out else pytest.fail(err))
    again, once_more = told
    for run in told:
        counts = run["counts"]
        assert (counts["items"], counts["item_ids"], counts["items_placed"]) == (ITEMS, ITEMS, ITEMS)
        assert run["dead_letters"] == 0
    assert once_more["delivered"] == 0
    assert once_more["counts"] == again["counts"]
    assert again["quality"]["items"] == ITEMS
    assert (home / "report.html").read_text().startswith("<!doctype html>")
    assert processes_of(home) == []
