"""What the local stack promises about its life: repeated, interrupted, killed, grown, and beside another one.

One stack of its own, with one shard, goes through all of it: each test leaves it up.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import asyncpg
import psutil
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from streams.errors import SettingsError
from tests.conftest import LocalStack
from trends.settings import load_settings
from trends.stack import Stack, StackState

ROOT = Path(__file__).resolve().parents[2]


def trends(home: Path, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    """The real command line, in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "trends", "--home", str(home), *arguments],
        cwd=ROOT,
        env=os.environ | {"TRENDS_POSTGRES_SHARDS": "1"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def sleeper(uid: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(["sleep", "60"], user=uid if os.geteuid() == 0 else None)


def processes(state: StackState) -> list[int]:
    parts = [state.kafka, *state.shards]
    return [part.process.pid for part in parts if part and part.process]


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Brought up the hard way: an `up` that is killed in the middle, then two at once."""
    home = tmp_path_factory.mktemp("lifecycle") / "a home with spaces"
    local = load_settings(home=home, postgres_shards=1).local_stack()
    try:
        killed = trends(home, "up")
        time.sleep(1.0)
        killed.kill()
        killed.communicate()
        both = [trends(home, "up", "--json"), trends(home, "up", "--json")]
        said = [each.communicate(timeout=90) for each in both]
        assert [each.returncode for each in both] == [0, 0], said
        first, second = (json.loads(out) for out, _ in said)
        assert first["running"]
        assert [part["pid"] for part in first["parts"]] == [part["pid"] for part in second["parts"]]
        yield local
    finally:
        local.down()


def test_servers_outlive_the_up_that_started_them(own: Stack) -> None:
    assert own.status().running


def test_a_second_up_changes_nothing(own: Stack) -> None:
    before = own.state_file.read_bytes()
    started = time.monotonic()
    own.up()
    assert time.monotonic() - started < 2
    assert own.state_file.read_bytes() == before


def test_the_state_file_is_for_its_owner_alone(own: Stack) -> None:
    assert own.state_file.stat().st_mode & 0o077 == 0


async def leave_data(state: StackState, mark: str) -> None:
    assert state.kafka
    admin = AdminClient({"bootstrap.servers": state.kafka.bootstrap})
    admin.create_topics([NewTopic(mark, 1, 1)])[mark].result(10)
    producer = Producer({"bootstrap.servers": state.kafka.bootstrap, "acks": "all"})
    producer.produce(mark, mark.encode())
    assert producer.flush(10) == 0
    connection = await asyncpg.connect(state.shards[0].dsn)
    await connection.execute(f"CREATE TABLE {mark} AS SELECT 1 AS one")
    await connection.close()


async def find_data(state: StackState, mark: str) -> None:
    assert state.kafka
    reader = Consumer(
        {"bootstrap.servers": state.kafka.bootstrap, "group.id": f"find-{mark}", "auto.offset.reset": "earliest"}
    )
    reader.assign([TopicPartition(mark, 0, 0)])
    try:
        message = reader.poll(20)
        assert message is not None
        assert message.value() == mark.encode()
    finally:
        reader.close()
    connection = await asyncpg.connect(state.shards[0].dsn)
    assert await connection.fetchval(f"SELECT one FROM {mark}") == 1
    await connection.close()


async def test_data_and_ports_survive_down_and_up(own: Stack) -> None:
    before = own.state()
    await leave_data(before, "kept")
    assert own.down() == ("Kafka", "PostgreSQL shard 0")
    assert not any(psutil.pid_exists(pid) for pid in processes(before))
    assert not own.status().running
    assert own.down() == ()
    started = time.monotonic()
    after = own.up()
    assert time.monotonic() - started < 10
    assert (after.bootstrap, after.dsns) == (before.kafka and before.kafka.bootstrap, (before.shards[0].dsn,))
    await find_data(after, "kept")


async def test_a_kill_of_every_part_is_mended_by_the_next_up(own: Stack) -> None:
    before = own.state()
    await leave_data(before, "survivor")
    for pid in processes(before):
        os.kill(pid, signal.SIGKILL)
    data = own.home / "postgres" / "shard-0"
    # After a restart of the machine the pid of the old lock file belongs to a stranger of the same user.
    stranger = sleeper(data.stat().st_uid)
    try:
        lock = data / "postmaster.pid"
        lock.write_text(lock.read_text().replace(str(before.shards[0].process.pid), str(stranger.pid), 1))  # type: ignore[union-attr]
        after = own.up()
        assert stranger.poll() is None, "a stranger was killed"
    finally:
        stranger.kill()
        stranger.wait()
    assert set(processes(after)).isdisjoint(processes(before))
    await find_data(after, "survivor")


def test_a_killed_part_alone_is_started_again(own: Stack) -> None:
    before = own.state()
    assert before.shards[0].process
    os.kill(before.shards[0].process.pid, signal.SIGKILL)
    after = own.up()
    assert after.kafka == before.kafka
    assert own.status().running


def test_servers_that_the_state_file_does_not_know_are_found(own: Stack) -> None:
    """As after an `up` that was killed between starting a server and writing down that it did."""
    before = own.state()
    assert before.kafka
    shards = tuple(replace(shard, process=None) for shard in before.shards)
    own.state_file.write_text(StackState(replace(before.kafka, process=None), shards).to_json())
    after = own.up()
    assert not any(psutil.pid_exists(pid) for pid in processes(before))
    assert own.status().running
    assert (after.kafka and after.kafka.port) == before.kafka.port


def test_a_port_that_is_taken_is_replaced(own: Stack) -> None:
    own.down()
    before = own.state()
    with socket.create_server(("127.0.0.1", before.shards[0].port)):
        after = own.up()
    assert after.shards[0].port != before.shards[0].port
    assert own.status().running


def test_shards_can_be_added_but_not_removed(own: Stack) -> None:
    half = own.home / "postgres" / "shard-1"
    half.mkdir()
    (half / "leftover").write_text("of an initdb that was killed")
    if os.geteuid() == 0:
        os.chown(half, (own.home / "postgres" / "shard-0").stat().st_uid, -1)
    before = own.state()
    grown = load_settings(home=own.home, postgres_shards=2).local_stack()
    after = grown.up()
    assert after.shards[0] == before.shards[0]
    assert len(after.dsns) == 2
    with pytest.raises(SettingsError, match="TRENDS_POSTGRES_SHARDS=2"):
        own.up()


def test_two_stacks_live_side_by_side(own: Stack, stack: LocalStack) -> None:
    assert stack.stack.status().running
    assert own.status().running
    assert set(processes(own.state())).isdisjoint(processes(stack.stack.state()))


def test_nothing_local_is_started_for_what_stands_outside(stack: LocalStack, tmp_path: Path) -> None:
    outside = {"TRENDS_KAFKA_BOOTSTRAP": stack.bootstrap, "TRENDS_POSTGRES_DSNS": ",".join(stack.dsns)}
    process = trends(tmp_path / "none", "up", "--json", **outside)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert [(part["status"], part["pid"]) for part in json.loads(out)["parts"]] == [("up", None)] * 3
    assert not (tmp_path / "none").exists()
    password = stack.dsns[0].split(":")[2].split("@")[0]
    assert password not in out


def test_an_outside_broker_that_is_away_is_an_exit_code(stack: LocalStack, tmp_path: Path) -> None:
    outside = {"TRENDS_KAFKA_BOOTSTRAP": "127.0.0.1:1", "TRENDS_POSTGRES_DSNS": ",".join(stack.dsns)}
    process = trends(tmp_path / "none", "status", "--json", **outside)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 69
    assert json.loads(out)["parts"][0]["status"] == "not answering"
