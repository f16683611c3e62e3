"""The control socket: its owner's alone, bounded, and errors come back with their exit code."""

from __future__ import annotations

import json
import os
import socket
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from streams.errors import ExitCode, SettingsError, UnavailableError
from trends.control import ControlError, ControlServer, Tell, control_path, request
from trends.scaling import ask_to_scale, going
from trends.supervisor import ProcessReport


def handle(what: Mapping[str, Any], tell: Tell) -> dict[str, Any]:
    if what.get("do") == "fail":
        raise SettingsError("no flow of that name")
    if what.get("do") == "break":
        raise ZeroDivisionError
    tell("at it")
    return {"echo": what}


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    path = control_path(tmp_path.joinpath(*["deep"] * 40), "run-embed-0")  # longer than the address of a socket may be
    with ControlServer(path, handle):
        yield path
    assert not path.exists()


def test_a_request_is_answered_with_what_is_being_done_and_the_result(path: Path) -> None:
    told: list[str] = []
    assert request(path, {"do": "it"}, told.append, 30) == {"echo": {"do": "it"}}
    assert told == ["at it"]


def test_nobody_but_the_owner_may_open_it(path: Path) -> None:
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize(("what", "code"), [("fail", ExitCode.USAGE), ("break", ExitCode.FAILED)])
def test_an_error_comes_back_with_its_exit_code_and_the_next_request_is_served(
    path: Path, what: str, code: ExitCode
) -> None:
    with pytest.raises(ControlError) as raised:
        request(path, {"do": what}, print, 30)
    assert raised.value.exit_code is code
    assert request(path, {"do": "it"}, lambda _line: None, 30)


@pytest.mark.parametrize("said", [b"\n", b"[]\n", b"\xff\n", b"x" * 100_000 + b"\n", b'{"do": '])
def test_what_is_no_request_is_refused_and_the_next_one_is_served(path: Path, said: bytes) -> None:

    folder = os.open(path.parent, os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(f"/proc/self/fd/{folder}/{path.name}")
        os.close(folder)
        try:
            client.sendall(said)
            client.shutdown(socket.SHUT_WR)
            answer = json.loads(client.makefile("rb").readline())
            assert answer["code"] == ExitCode.USAGE
        except (BrokenPipeError, ConnectionResetError):
            pass  # it did not even read it all
    assert request(path, {"do": "it"}, lambda _line: None, 30)


def test_the_socket_of_a_killed_run_is_in_nobodys_way(tmp_path: Path) -> None:
    path = control_path(tmp_path, "run-embed-0")
    path.parent.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    with pytest.raises(UnavailableError, match="does not answer"):
        request(path, {"do": "it"}, print, 30)
    with ControlServer(path, handle):
        assert request(path, {"do": "it"}, lambda _line: None, 30)


def test_a_data_folder_that_cannot_be_written_is_an_error_that_names_the_setting(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    server = ControlServer(control_path(tmp_path / "file", "run-embed-0"), handle)
    with pytest.raises(SettingsError, match="TRENDS_HOME"):
        server.__enter__()


def test_scaling_without_a_run_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="trends run --detach"):
        ask_to_scale(tmp_path, "embed", 2, 1, print)


def test_those_that_stand_by_go_first_then_the_highest_numbers() -> None:
    def report(name: str, phase: str) -> ProcessReport:
        return ProcessReport(name, "cluster", 1, 0, 0, {"phase": phase})

    reports = [report("cluster-0", "standing_by"), *(report(f"cluster-{i}", "running") for i in (1, 2, 10))]
    assert going(reports, 0) == []
    assert going(reports, -1) == []
    assert going(reports, 1) == ["cluster-0"]
    assert going(reports, 3) == ["cluster-0", "cluster-10", "cluster-2"]
    assert len(going(reports, 9)) == 4
