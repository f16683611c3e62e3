"""The supervisor, over real processes: what it starts again, what it never does, and how everything ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.errors import ExitCode
from tests.waiting import until
from trends.runfiles import announced, running
from trends.stack.processes import ProcessId
from trends.supervisor import (
    BACKOFF_FIRST_S,
    BACKOFF_MAX_S,
    HEALTHY_S,
    HUNG_HEALTHY_S,
    MAX_FAILURES,
    PROBES_FAILED,
    Again,
    Done,
    Fatal,
    ProcessSpec,
    Pulse,
    Supervisor,
    Watch,
    decide,
)

ROOT = Path(__file__).resolve().parents[2]


def shell(name: str, script: str, *, finite: bool = False) -> ProcessSpec:
    return ProcessSpec(name, ("/bin/sh", "-c", script), finite=finite)


class TestDecide:
    @pytest.mark.parametrize("code", [ExitCode.FENCED, ExitCode.NEEDS_OPERATOR, ExitCode.USAGE])
    def test_what_a_person_must_see_ends_everything_with_its_code(self, code: ExitCode) -> None:
        decision = decide(code, finite=False, ran_s=1e6, failures=0)
        assert isinstance(decision, Fatal)
        assert decision.code is code

    def test_a_moved_assignment_is_started_again_at_once_and_is_no_failure(self) -> None:
        decision = decide(ExitCode.RESTART, finite=False, ran_s=1, failures=7)
        assert isinstance(decision, Again)
        assert decision.after_s < BACKOFF_FIRST_S
        assert decision.failures == 0

    def test_the_end_of_a_finite_process_is_an_end_and_of_another_a_failure(self) -> None:
        assert decide(ExitCode.OK, finite=True, ran_s=1, failures=0) == Done()
        assert decide(ExitCode.OK, finite=False, ran_s=1, failures=0) == Again(BACKOFF_FIRST_S, 1)

    @given(code=st.integers(-64, 255), ran_s=st.floats(0, 1e9), failures=st.integers(0, 10**6))
    def test_a_wait_is_always_bounded(self, code: int, ran_s: float, failures: int) -> None:
        decision = decide(code, finite=False, ran_s=ran_s, failures=failures)
        if isinstance(decision, Again):
            assert 0 < decision.after_s <= BACKOFF_MAX_S

    def test_failures_in_a_row_wait_longer_and_longer_and_end_it(self) -> None:
        waits, failures = [], 0
        while isinstance(decision := decide(-signal.SIGKILL, finite=False, ran_s=1, failures=failures), Again):
            failures = decision.failures
            waits.append(decision.after_s)
        assert waits == sorted(waits)
        assert waits[0] == BACKOFF_FIRST_S
        assert len(waits) == MAX_FAILURES - 1
        assert isinstance(decision, Fatal)
        assert decision.code is ExitCode.FAILED

    def test_an_outage_is_waited_for_without_end(self) -> None:
        assert decide(ExitCode.UNAVAILABLE, finite=False, ran_s=1, failures=10**6) == Again(BACKOFF_MAX_S, 10**6 + 1)

    def test_a_healthy_time_forgives(self) -> None:
        decision = decide(ExitCode.FAILED, finite=False, ran_s=HEALTHY_S, failures=MAX_FAILURES)
        assert decision == Again(BACKOFF_FIRST_S, 1)

    def test_one_kill_is_made_good_at_once(self) -> None:
        decision = decide(-signal.SIGKILL, finite=False, ran_s=1, failures=0)
        assert isinstance(decision, Again)
        assert decision.after_s <= 0.5

    def test_one_that_hangs_every_few_minutes_is_a_defect_in_the_end(self) -> None:
        failures = 0
        for _ in range(MAX_FAILURES - 1):
            decision = decide(-9, finite=False, ran_s=HUNG_HEALTHY_S - 1, failures=failures, hung=True)
            assert isinstance(decision, Again)
            failures = decision.failures
        decision = decide(-9, finite=False, ran_s=HUNG_HEALTHY_S - 1, failures=failures, hung=True)
        assert isinstance(decision, Fatal)
        assert "hung" in decision.why
        assert decide(-9, finite=False, ran_s=HUNG_HEALTHY_S, failures=failures, hung=True) == Again(BACKOFF_FIRST_S, 1)


class TestPulse:
    watch = Watch(lambda _name, _pid: None, silent_s=15, start_s=120)

    def test_silence_is_hanging_after_its_bound_and_several_probes(self) -> None:
        pulse = Pulse(1, began=0, address="127.0.0.1:1")
        for now in range(0, 15, 3):
            pulse.silent(now)
            assert pulse.hung(now + 2.9, self.watch) is None
        assert "not answered at 127.0.0.1:1" in (pulse.hung(15, self.watch) or "")

    def test_a_machine_that_slept_through_a_probe_kills_nothing(self) -> None:
        pulse = Pulse(1, began=0, address="127.0.0.1:1")
        for _ in range(PROBES_FAILED - 1):
            pulse.silent(10)
        assert pulse.hung(10_000, self.watch) is None
        pulse.answered({"phase": "running"})
        pulse.silent(10_001)
        assert pulse.hung(10_002, self.watch) is None

    def test_a_process_that_never_serves_its_health_hangs(self) -> None:
        pulse = Pulse(1, began=100)
        assert pulse.hung(220, self.watch) is None
        assert pulse.hung(221, self.watch) is not None


SERVES = """
import os, pathlib, sys, time
from streams.health import FlowStatus, Phase
from trends.health import FlowAccount, HealthServer
status = FlowStatus("embed", "a", "g1")
status.enter(Phase.RUNNING)
server = HealthServer("127.0.0.1", 0, FlowAccount(status, hang_s=float(sys.argv[2])))
new = pathlib.Path(sys.argv[1], f".{os.getpid()}")
new.write_text(server.address)
new.replace(new.with_name(str(os.getpid())))
while True:
    status.behind(int(pathlib.Path(sys.argv[1], "lag").read_text()))
    time.sleep(0.05)
"""
"""A process that serves its health, and has the lag that a file says."""


def watched(folder: Path, hang_s: float, **bounds: float) -> Supervisor:
    (folder / "lag").write_text("0")

    def address_of(_name: str, pid: int) -> str | None:
        path = folder / str(pid)
        return path.read_text() if path.exists() else None

    spec = ProcessSpec("a", (sys.executable, "-c", SERVES, str(folder), str(hang_s)), group="embed")
    watch = Watch(address_of, silent_s=0.5, every_s=0.05, timeout_s=0.5, **bounds)
    return Supervisor([spec], environment=os.environ | {"PYTHONPATH": str(ROOT)}, watch=watch)


def test_a_process_that_is_stopped_and_does_not_answer_is_killed_and_started_again(tmp_path: Path) -> None:
    with watched(tmp_path, hang_s=60) as supervisor:
        until(lambda: bool(supervisor.report()[0].said), 60)
        (before,) = supervisor.report()
        assert (before.group, before.said["phase"], before.restarts) == ("embed", "running", 0)
        assert before.pid is not None
        os.kill(before.pid, signal.SIGSTOP)
        until(lambda: supervisor.pids.get("a", before.pid) != before.pid, 60)
        until(lambda: bool(supervisor.report()[0].said), 60)
        (after,) = supervisor.report()
        assert (after.restarts, after.hangs) == (1, 1)
        assert ProcessId.of(before.pid) is None
        assert not supervisor.wait(0)


def test_a_process_with_lag_and_without_progress_is_killed_and_started_again(tmp_path: Path) -> None:
    heard: list[str] = []
    with watched(tmp_path, hang_s=1.0) as supervisor:
        supervisor.echo = lambda _name, line: heard.append(line)
        until(lambda: bool(supervisor.report()[0].said), 60)
        assert supervisor.report()[0].hangs == 0, "without lag there is nothing to get on with"
        (tmp_path / "lag").write_text("5")
        until(lambda: supervisor.report()[0].hangs > 0, 60)
        (tmp_path / "lag").write_text("0")
        until(lambda: bool(supervisor.report()[0].said), 60)
    assert any("5 records behind" in line for line in heard)


def test_a_process_that_never_serves_its_health_is_killed_and_started_again() -> None:
    watch = Watch(lambda _name, _pid: None, silent_s=1, start_s=0.3, every_s=0.05)
    with Supervisor([shell("a", "exec sleep 60")], environment={}, watch=watch) as supervisor:
        until(lambda: supervisor.report()[0].hangs > 0, 60)
        until(lambda: supervisor.restarts["a"] > 0, 60)


def test_a_process_is_added_and_removed_while_its_neighbour_goes_on() -> None:
    leaves = "trap 'exit 0' USR1; trap 'exit 5' TERM; echo up; while :; do sleep 0.05; done"
    heard: list[tuple[str, str]] = []
    environment = {"PATH": os.defpath}
    with Supervisor([shell("a", leaves)], echo=lambda *each: heard.append(each), environment=environment) as supervisor:
        supervisor.add(shell("b", leaves))
        until(lambda: {("a", "up"), ("b", "up")} <= set(heard))
        with pytest.raises(ValueError, match="b already"):
            supervisor.add(shell("b", leaves))
        kept = supervisor.pids["a"]
        gone = supervisor.pids["b"]
        removed = supervisor.remove("b")
        assert (removed.code, removed.killed) == (0, False)
        assert ProcessId.of(gone) is None
        assert supervisor.pids == {"a": kept}
        with pytest.raises(KeyError):
            supervisor.remove("b")
        supervisor.remove("a")
        assert not supervisor.wait(0.1), "without processes it waits for new ones"
        supervisor.add(shell("c", "exec sleep 60"))
        until(lambda: "c" in supervisor.pids)
        assert supervisor.restarts == {"c": 0}


def test_one_that_does_not_leave_when_told_is_killed() -> None:
    deaf = shell("deaf", "trap '' USR1 TERM; echo up; while :; do sleep 0.05; done")
    heard: list[str] = []
    with Supervisor(
        [deaf], echo=lambda _name, line: heard.append(line), environment={"PATH": os.defpath}
    ) as supervisor:
        until(lambda: "up" in heard)
        removed = supervisor.remove("deaf", grace_s=0.3)
        assert (removed.code, removed.killed) == (-signal.SIGKILL, True)
        assert supervisor.pids == {}


def test_output_comes_line_by_line_with_the_name_and_into_a_bounded_log(tmp_path: Path) -> None:
    heard: list[tuple[str, str]] = []
    specs = [shell("a", "echo one; echo two >&2", finite=True), shell("b", "printf three", finite=True)]
    with Supervisor(specs, echo=lambda *each: heard.append(each), logs=tmp_path, environment={}) as supervisor:
        assert supervisor.wait(10)
    assert sorted(heard) == [("a", "one"), ("a", "two"), ("b", "three")]
    assert supervisor.exit_code is ExitCode.OK
    assert (tmp_path / "a.log").read_text() == "one\ntwo\n"


def test_a_killed_process_is_started_again_while_its_neighbour_goes_on(tmp_path: Path) -> None:
    specs = [shell("a", "exec sleep 60"), shell("b", "exec sleep 60")]
    with Supervisor(specs, environment={}) as supervisor:
        until(lambda: len(supervisor.pids) == 2)
        before = supervisor.pids
        os.kill(before["a"], signal.SIGKILL)
        until(lambda: supervisor.pids.get("a", before["a"]) != before["a"])
        assert supervisor.pids["b"] == before["b"]
        assert supervisor.restarts == {"a": 1, "b": 0}
        assert not supervisor.wait(0)
    assert supervisor.pids == {}
    assert supervisor.exit_code is ExitCode.OK


def test_a_process_that_asks_for_it_is_started_again_at_once(tmp_path: Path) -> None:
    script = f"echo x >> {tmp_path}/count; [ $(wc -l < {tmp_path}/count) -gt 3 ] && exit 0; exit {ExitCode.RESTART:d}"
    started = time.monotonic()
    with Supervisor([shell("a", script, finite=True)], environment={"PATH": os.defpath}) as supervisor:
        assert supervisor.wait(10)
    assert supervisor.restarts == {"a": 3}
    assert time.monotonic() - started < 3


def test_a_fenced_process_ends_everything_with_its_code_and_its_last_words() -> None:
    script = f"echo taken over by embed-0; exit {ExitCode.FENCED:d}"
    with Supervisor([shell("a", "exec sleep 60"), shell("b", script)], environment={}) as supervisor:
        assert supervisor.wait(10)
        pid = supervisor.pids["a"]
    assert supervisor.exit_code is ExitCode.FENCED
    assert supervisor.failure is not None
    assert "b ended with 76" in supervisor.failure
    assert "taken over by embed-0" in supervisor.failure
    assert ProcessId.of(pid) is None
    assert supervisor.restarts == {"a": 0, "b": 0}


def test_stopping_is_clean_and_bounded_even_for_the_deaf() -> None:
    polite = shell("polite", "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.05; done")
    deaf = shell("deaf", "trap '' TERM; echo up; while :; do sleep 0.05; done")
    heard: list[tuple[str, str]] = []
    environment = {"PATH": os.defpath}
    supervisor = Supervisor([polite, deaf], echo=lambda *each: heard.append(each), environment=environment)
    supervisor.start()
    until(lambda: len([line for line in heard if line[1] == "up"]) == 2)
    pids = supervisor.pids
    supervisor.stop(grace_s=0.5)
    assert ("polite", "bye") in heard
    assert all(ProcessId.of(pid) is None for pid in pids.values())


def test_children_die_with_a_supervisor_that_is_killed(tmp_path: Path) -> None:
    code = (
        "from trends.supervisor import *; import time\n"
        "s = Supervisor([ProcessSpec('a', ('/bin/sleep', '60'))], environment={}); s.start()\n"
        "while 'a' not in s.pids: time.sleep(0.01)\n"
        "print(s.pids['a'], flush=True); time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    until(lambda: Path(f"/proc/{child}/cmdline").read_bytes().startswith(b"/bin/sleep"))
    parent.kill()
    parent.communicate()
    until(lambda: ProcessId.of(child) is None)


def test_an_announced_process_is_listed_until_it_ends(tmp_path: Path) -> None:
    assert running(tmp_path) == ()
    with announced(tmp_path, "embed-0", "embed", "127.0.0.1:9100") as entry:
        assert running(tmp_path) == (entry,)
    assert running(tmp_path) == ()


def test_a_process_that_cannot_write_anywhere_runs_unlisted(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    home = tmp_path / "file" / "home"  # not even root can make a folder in a file
    with announced(home, "embed-0", "embed", "127.0.0.1:9100") as entry:
        assert entry.process.pid == os.getpid()
        assert running(home) == ()


def test_the_file_of_a_killed_process_lists_nobody(tmp_path: Path) -> None:
    with announced(tmp_path, "embed-0", "embed"):
        path = tmp_path / "run" / "embed-0.json"
        stale = path.read_text().replace(f'"pid": {os.getpid()}', '"pid": 4194305')
        path.write_text(stale)
        assert running(tmp_path) == ()
    assert path.read_text() == stale, "a file that is not ours is left alone"
