"""The parts of the local stack without servers: finding Java and Maven, fetching jars, knowing processes, the state."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from streams.errors import SettingsError, UnavailableError
from trends.stack import StackState, kafka, postgres
from trends.stack.processes import ProcessId, choose_ports, port_is_free, spawn, stop
from trends.stack.stack import KafkaState, ShardState, Stack


def program(folder: Path, name: str, script: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An own search path, with nothing but the shell's tools."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


class TestJava:
    def test_missing_java_says_what_to_install_or_to_set(self, path: Path) -> None:
        with pytest.raises(SettingsError, match=r"install Java 17.*TRENDS_KAFKA_BOOTSTRAP"):
            kafka.find_java(None)

    def test_old_java_is_refused(self, path: Path) -> None:
        program(path, "java", """echo 'openjdk version "11.0.2" 2019' >&2""")
        with pytest.raises(SettingsError, match="version 11"):
            kafka.find_java(None)

    def test_ancient_numbering_is_understood(self, path: Path) -> None:
        program(path, "java", """echo 'java version "1.8.0_392"' >&2""")
        with pytest.raises(SettingsError, match="version 8"):
            kafka.find_java(None)

    def test_java_home_is_used_alone(self, path: Path, tmp_path: Path) -> None:
        program(path, "java", """echo 'openjdk version "21" 2023' >&2""")
        home = tmp_path / "jdk"
        there = program(home / "bin", "java", """echo 'openjdk version "17.0.15" 2025' >&2""")
        assert kafka.find_java(home) == kafka.Java(str(there), 17)
        with pytest.raises(SettingsError, match="JAVA_HOME"):
            kafka.find_java(tmp_path / "elsewhere")


FAKE_MAVEN = """for word in "$@"; do case $word in -DoutputDirectory=*) out=${word#*=};; esac; done
/bin/mkdir -p "$out"; echo jar > "$out/kafka_2.13-4.1.2.jar"; echo run >> "$COUNT" """


class TestJars:
    def test_missing_maven_says_what_to_install_or_to_set(self, path: Path, tmp_path: Path) -> None:
        with pytest.raises(SettingsError, match=r"install Maven.*TRENDS_KAFKA_BOOTSTRAP"):
            kafka.prepare_jars([tmp_path / "cache"])

    def test_jars_are_fetched_once(self, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        count = tmp_path / "count"
        monkeypatch.setenv("COUNT", str(count))
        program(path, "mvn", FAKE_MAVEN)
        cache = tmp_path / "cache"
        leftover = cache / f"{kafka.jars_name()}.new-123"
        leftover.mkdir(parents=True)
        for _ in range(2):
            jars = kafka.prepare_jars([cache])
            assert [jar.name for jar in jars.iterdir()] == ["kafka_2.13-4.1.2.jar"]
        assert count.read_text() == "run\n"
        assert not leftover.exists()

    def test_a_download_that_fails_leaves_nothing(self, path: Path, tmp_path: Path) -> None:
        script = FAKE_MAVEN.replace('>> "$COUNT"', ""), "echo no route >&2; exit 1"
        program(path, "mvn", "\n".join(script))
        cache = tmp_path / "cache"
        with pytest.raises(UnavailableError, match="no route"):
            kafka.prepare_jars([cache])
        assert [each.name for each in cache.iterdir()] == ["lock"]

    def test_jars_that_are_there_need_no_maven(self, path: Path, tmp_path: Path) -> None:
        there = tmp_path / "second" / kafka.jars_name()
        there.mkdir(parents=True)
        assert kafka.prepare_jars([tmp_path / "first", tmp_path / "second"]) == there

    def test_a_cache_that_cannot_be_written_is_passed_over(
        self, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("COUNT", "/dev/null")
        program(path, "mvn", FAKE_MAVEN)
        (tmp_path / "file").write_text("a file, no folder")
        jars = kafka.prepare_jars([tmp_path / "file" / "cache", tmp_path / "home"])
        assert jars.parent == tmp_path / "home"


def test_paths_of_any_script_stand_in_javas_properties_files(tmp_path: Path) -> None:
    files = kafka.KafkaFiles(tmp_path)
    rendered = kafka.render_properties(files, Path("/data/Ünï\\x"), 1, 2, 1024)
    assert "log.dirs=/data/\\u00dcn\\u00ef\\\\x\n" in rendered
    assert rendered.isascii()


def test_the_disk_bound_is_shared_among_partitions(tmp_path: Path) -> None:
    def retention(disk_mib: int) -> int:
        text = kafka.render_properties(kafka.KafkaFiles(tmp_path), tmp_path, 1, 2, disk_mib)
        values = dict(line.split("=", 1) for line in text.splitlines())
        return int(values["log.retention.bytes"])

    assert retention(16_384) * kafka.KEYED_PARTITIONS == 16_384 * 1024 * 1024
    assert retention(1) == 2 * kafka.SEGMENT_BYTES, "a partition keeps a whole segment beside the one being written"


def test_a_comma_in_the_path_is_refused_before_kafka_takes_it_for_two(tmp_path: Path) -> None:
    files = kafka.KafkaFiles(tmp_path / "a,b")
    with pytest.raises(SettingsError, match="','"):
        kafka.start(files, tmp_path, tmp_path, kafka.Java("java", 17), port=1, controller_port=2, disk_mib=1024)


class TestProcesses:
    def test_a_stubborn_server_is_killed_in_the_end(self, tmp_path: Path) -> None:
        deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)"
        code = f"{deaf}; print('on', flush=True); time.sleep(60)"
        log = tmp_path / "log"
        server = spawn([sys.executable, "-c", code], log, environment={})
        while "on" not in log.read_text():
            time.sleep(0.01)
        assert not stop(server, first=signal.SIGTERM, grace_s=0.2)
        assert not server.alive

    def test_a_recycled_pid_is_a_stranger(self, tmp_path: Path) -> None:
        stranger = spawn(["/bin/sleep", "60"], tmp_path / "log", environment={})
        try:
            server = ProcessId(stranger.pid, stranger.started - 100)
            assert not server.alive
            assert stop(server, first=signal.SIGKILL, grace_s=1)
            assert stranger.alive
        finally:
            stop(stranger, first=signal.SIGKILL, grace_s=5)

    def test_a_zombie_is_dead(self) -> None:
        child = subprocess.Popen(["/bin/true"])
        deadline = time.monotonic() + 5
        while ProcessId.of(child.pid) is not None:
            assert time.monotonic() < deadline
        child.wait()

    def test_a_large_log_is_moved_aside(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("trends.stack.processes.LOG_KEEP_BYTES", 3)
        log = tmp_path / "log"
        log.write_text("older")
        server = spawn(["/bin/echo", "new"], log, environment={})
        stop(server, first=signal.SIGCONT, grace_s=5)
        assert log.read_text() == "new\n"
        assert (tmp_path / "log.1").read_text() == "older"

    def test_wanted_ports_are_kept_where_free_and_replaced_where_not(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            busy = taken.getsockname()[1]
            assert not port_is_free(busy)
            (free,) = choose_ports([0])
            first, second, third = choose_ports([free, busy, 0])
        assert first == free
        assert len({first, second, third, busy}) == 4


class TestState:
    def test_it_is_read_as_it_was_written(self) -> None:
        state = StackState(
            KafkaState(1, 2, ProcessId(3, 4.5)), (ShardState(5, "pw"), ShardState(6, "pw", ProcessId(7, 8)))
        )
        assert StackState.from_json(state.to_json()) == state

    @pytest.mark.parametrize("text", ["", "{", "[]", '{"version": 0}', '{"version": 1}'])
    def test_a_broken_file_counts_as_none(self, tmp_path: Path, text: str) -> None:
        stack = Stack(tmp_path, cache=tmp_path)
        stack.state_file.write_text(text)
        assert stack.state() == StackState()

    def test_what_does_not_run_has_no_address(self) -> None:
        gone = ProcessId(2**22 + 1, 0.0)
        state = StackState(
            KafkaState(1, 2, gone), (ShardState(3, "pw", ProcessId.of(os.getpid())), ShardState(4, "pw", gone))
        )
        assert state.bootstrap is None
        assert state.dsns == ()

    def test_passwords_are_not_printed(self) -> None:
        assert "hunter2" not in repr(StackState(None, (ShardState(1, "hunter2"),)))

    def test_data_without_its_state_file_is_not_thrown_away(self, tmp_path: Path) -> None:
        shard = tmp_path / "postgres" / "shard-0"
        shard.mkdir(parents=True)
        (shard / "PG_VERSION").write_text("18")
        with pytest.raises(SettingsError, match="shard-0"):
            Stack(tmp_path, cache=tmp_path, with_kafka=False).up()
        assert (shard / "PG_VERSION").exists()


def test_as_root_without_an_unprivileged_user_the_error_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)

    def nobody(_name: str) -> None:
        raise KeyError

    monkeypatch.setattr("pwd.getpwnam", nobody)
    with pytest.raises(SettingsError, match=r"useradd.*TRENDS_POSTGRES_DSNS"):
        postgres.choose_account()


def test_not_as_root_postgresql_runs_as_ourselves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert postgres.choose_account() is None
