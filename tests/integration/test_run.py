"""``trends run`` with a real flow on a real broker: it runs, is listed, is started again, and ends cleanly."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from tests.conftest import LocalStack
from trends.runfiles import running
from trends.stack.processes import ProcessId

ROOT = Path(__file__).resolve().parents[2]


def until(condition: Callable[[], bool], timeout_s: float = 40.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def test_a_flow_runs_is_started_again_after_a_kill_and_ends_cleanly(stack: LocalStack, tmp_path: Path) -> None:
    kafka = stack.kafka_named()
    environment = os.environ | {
        "TRENDS_HOME": str(tmp_path),
        "TRENDS_STACK": kafka.stack,
        "TRENDS_KAFKA_BOOTSTRAP": kafka.bootstrap,
        "TRENDS_KAFKA_PARTITIONS": "1",
        "TRENDS_POSTGRES_DSNS": ",".join(stack.dsns),
        "TRENDS_EMBEDDER": "null",
        "TRENDS_KAFKA_SESSION_TIMEOUT_MS": "2000",
    }
    command = [sys.executable, "-m", "trends"]
    subprocess.run([*command, "streams", "apply"], cwd=ROOT, env=environment, check=True, capture_output=True)
    run = subprocess.Popen(
        [*command, "run", "embed"],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    lines: list[str] = []
    reader = threading.Thread(target=lambda: lines.extend(run.stdout or ()), daemon=True)
    reader.start()
    try:

        def started() -> int:
            log = tmp_path / "logs" / "embed-0.log"
            return log.read_text().count(" running") if log.exists() else 0

        until(lambda: started() == 1)
        (first,) = [entry for entry in running(tmp_path) if entry.role == "embed"]
        assert first.metrics is not None
        os.kill(first.process.pid, signal.SIGKILL)
        until(lambda: started() == 2)
        (second,) = [entry for entry in running(tmp_path) if entry.role == "embed"]
        assert second.process.pid != first.process.pid

        status = subprocess.run(
            [*command, "status", "--json"], cwd=ROOT, env=environment, capture_output=True, check=True
        )
        names = {process["name"] for process in json.loads(status.stdout)["processes"]}
        assert names == {"embed-0", "run-embed-0"}

        run.send_signal(signal.SIGINT)
        assert run.wait(30) == 0
        reader.join(5)
    finally:
        run.kill()
        run.wait()
    assert any(line.startswith("embed-0     │ ") for line in lines)
    assert "Traceback" not in "".join(lines)
    assert ProcessId.of(second.process.pid) is None
    assert running(tmp_path) == ()
