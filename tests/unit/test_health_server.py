"""The server of /health, /ready and /metrics: real HTTP, and no client keeps another one waiting."""

from __future__ import annotations

import asyncio
import json
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from streams.errors import SettingsError
from streams.health import FlowStatus, Phase
from tests.unit.conftest import Clock
from trends.health import COLLECT_HANG_S, CONNECTIONS, EXCHANGE_S, CollectAccount, FlowAccount, HealthServer, ask


@pytest.fixture
def server(status: FlowStatus) -> Iterator[HealthServer]:
    with HealthServer("127.0.0.1", 0, FlowAccount(status, 60.0)) as server:
        yield server


def get(server: HealthServer, path: str, method: str = "GET") -> tuple[int, bytes]:
    request = urllib.request.Request(f"http://{server.address}{path}", method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def test_a_process_that_joins_or_restores_is_healthy_and_not_ready(server: HealthServer, status: FlowStatus) -> None:
    for enter in (lambda: status.enter(Phase.JOINING), lambda: status.restoring(3, 9)):
        enter()
        code, body = get(server, "/health")
        assert code == 200
        assert json.loads(body)["hung"] is None
        code, body = get(server, "/ready")
        assert code == 503
        assert json.loads(body)["phase"] == status.phase
        assert json.loads(body)["restore"] == {"done": status.restored, "total": status.to_restore}


@pytest.mark.parametrize("phase", [Phase.RUNNING, Phase.STANDING_BY])
def test_working_and_standing_by_are_healthy_and_ready(server: HealthServer, status: FlowStatus, phase: Phase) -> None:
    status.enter(phase)
    status.partitions = "raw.rss/0-3"
    assert get(server, "/health")[0] == 200
    code, body = get(server, "/ready")
    assert code == 200
    said = json.loads(body)
    assert (said["flow"], said["process"], said["generation"]) == ("embed", "embed-0", "g1")
    assert (said["partitions"], said["ready"]) == ("raw.rss/0-3", True)


def test_a_hung_process_is_neither_and_says_why(server: HealthServer, status: FlowStatus, clock: Clock) -> None:
    status.enter(Phase.RUNNING)
    status.behind(12)
    clock.now += 61
    for path in ("/health", "/ready"):
        code, body = get(server, path)
        assert code == 503
        assert "12 records behind" in json.loads(body)["hung"]


def test_metrics_stand_on_the_same_port(server: HealthServer) -> None:
    code, body = get(server, "/metrics")
    assert code == 200
    assert b"# HELP trends_items_total" in body


def test_what_is_not_there_is_said_in_http(server: HealthServer) -> None:
    assert get(server, "/nothing")[0] == 404
    assert get(server, "/health", "POST")[0] == 405
    assert get(server, "/health", "HEAD")[1] == b""
    with socket.create_connection(("127.0.0.1", server.port), 10) as client:
        client.sendall(b"\x16\x03\x01 hello\r\n\r\n")
        assert client.recv(100).startswith(b"HTTP/1.1 400 ")


def test_slow_clients_keep_nobody_out(server: HealthServer) -> None:
    slow = [socket.create_connection(("127.0.0.1", server.port), 10) for _ in range(CONNECTIONS + 20)]
    try:
        for client in slow:
            client.sendall(b"GET /health HTTP/1.1\r\n")
        assert get(server, "/health")[0] == 200
        slow[-1].settimeout(EXCHANGE_S + 30)
        assert slow[-1].recv(100) == b"", "a request that does not end is ended"
    finally:
        for client in slow:
            client.close()


def test_a_request_without_end_is_refused(server: HealthServer) -> None:
    def shout(client: socket.socket) -> None:
        for _ in range(1_000):
            client.sendall(b"x" * 1_024)
            time.sleep(0.001)

    with socket.create_connection(("127.0.0.1", server.port), 10) as client, pytest.raises(ConnectionError):
        shout(client)
    assert get(server, "/health")[0] == 200


def test_a_port_that_is_taken_is_an_error_that_names_the_setting(server: HealthServer, status: FlowStatus) -> None:
    with pytest.raises(SettingsError, match="TRENDS_METRICS_PORT"):
        HealthServer("127.0.0.1", server.port, FlowAccount(status, 60.0))


def test_a_process_is_asked_within_a_bound(server: HealthServer, status: FlowStatus) -> None:
    status.enter(Phase.RUNNING)
    verdict = asyncio.run(ask(server.address, "/ready", 10))
    assert verdict is not None
    assert verdict.ok
    assert verdict.body["phase"] == "running"
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        assert asyncio.run(ask(address, "/ready", 0.2)) is None
    assert asyncio.run(ask(address, "/ready", 10)) is None, "nobody listens there any more"


def test_collecting_is_ready_once_its_loop_turns_and_hung_when_it_stands_still(clock: Clock) -> None:
    account = CollectAccount(clock=clock)
    assert account.health().ok
    assert not account.ready().ok
    account.turned()
    account.delivered["rss"] = 7
    assert account.ready().ok
    assert account.ready().body["delivered"] == {"rss": 7}
    clock.now += COLLECT_HANG_S + 1
    assert not account.health().ok
    account.turned()
    account.stopping = True
    assert account.health().ok
    assert not account.ready().ok
