"""The command line: help that teaches, errors in one line with their exit code, results alone on stdout."""

from __future__ import annotations

import json
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import typer

import trends.cli
from streams.errors import (
    ExitCode,
    FencedError,
    RestartRequired,
    SettingsError,
    StateMismatchError,
    TrendsError,
    UnavailableError,
)
from trends.__main__ import main


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """The exit code of the real entry point."""
    monkeypatch.setattr(sys, "argv", ["trends", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def raising(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Replace the command line by one with a command that raises."""

    def build() -> typer.Typer:
        app = typer.Typer(pretty_exceptions_enable=False)

        @app.command()
        def fail() -> None:
            raise error

        @app.callback()
        def root() -> None:
            pass

        return app

    monkeypatch.setattr("trends.__main__.build", build)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (TrendsError("what [bold]happened[/bold]"), ExitCode.FAILED),
        (SettingsError("what [bold]happened[/bold]"), ExitCode.USAGE),
        (UnavailableError("what [bold]happened[/bold]"), ExitCode.UNAVAILABLE),
        (RestartRequired("what [bold]happened[/bold]"), ExitCode.RESTART),
        (FencedError("what [bold]happened[/bold]"), ExitCode.FENCED),
        (StateMismatchError("what [bold]happened[/bold]"), ExitCode.NEEDS_OPERATOR),
    ],
)
def test_an_error_raised_on_purpose_is_one_line_and_its_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: TrendsError, code: ExitCode
) -> None:
    raising(monkeypatch, error)
    assert run(monkeypatch, "fail") == code
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == "error: what [bold]happened[/bold]\n"


def test_ctrl_c_ends_with_130_and_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    raising(monkeypatch, KeyboardInterrupt())
    assert run(monkeypatch, "fail") == 130
    assert "Traceback" not in capsys.readouterr().err


def test_a_defect_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    raising(monkeypatch, ZeroDivisionError())
    monkeypatch.setattr(sys, "argv", ["trends", "fail"])
    with pytest.raises(ZeroDivisionError):
        main()


def test_wrong_usage_ends_with_2(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch, "no-such-command") == ExitCode.USAGE
    assert run(monkeypatch, "up", "--no-such-option") == ExitCode.USAGE


def test_a_wrong_setting_ends_with_2_and_names_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TRENDS_POSTGRES_POOL_SIZE", "soon")
    assert run(monkeypatch, "status") == ExitCode.USAGE
    assert "TRENDS_POSTGRES_POOL_SIZE" in capsys.readouterr().err


def test_every_command_teaches_with_examples() -> None:
    app = trends.cli.build()
    assert app.registered_commands
    for command in app.registered_commands:
        text = (command.callback and command.callback.__doc__) or ""
        assert "Examples:" in text or "Example:" in text, command


def test_every_command_has_help(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for command in trends.cli.build().registered_commands:
        name = command.name or command.callback.__name__  # type: ignore[union-attr]
        assert run(monkeypatch, name.replace("_", "-"), "--help") == 0
        assert "Usage:" in capsys.readouterr().out


def test_help_flows_with_the_terminal_and_keeps_its_examples(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    assert run(monkeypatch, "run", "--help") == 0
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    told = lines[lines.index("") + 1 : lines.index("Examples:")]
    assert all(len(line) > 40 for line, follows in pairwise(told) if line and follows)
    assert "trends run embed=2 cluster score summarize store" in lines


def test_settings_as_json_are_complete_and_alone_on_stdout(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("TRENDS_POSTGRES_POOL_SIZES", "1")
    assert run(monkeypatch, "--home", str(tmp_path / "h"), "settings", "--json") == 0
    said = capsys.readouterr()
    rows = {row["name"]: row for row in json.loads(said.out)}
    assert rows["home"]["value"] == str(tmp_path / "h")
    assert rows["home"]["source"] == "command line"
    assert "did you mean TRENDS_POSTGRES_POOL_SIZE?" in said.err


def test_status_without_a_stack_says_down_and_makes_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    home = tmp_path / "none"
    assert run(monkeypatch, "--home", str(home), "status", "--json") == ExitCode.UNAVAILABLE
    parts = json.loads(capsys.readouterr().out)["parts"]
    assert [(part["name"], part["status"]) for part in parts] == [("Kafka", "down"), ("PostgreSQL", "down")]
    assert run(monkeypatch, "--home", str(home), "down") == 0
    assert capsys.readouterr().out == "nothing was running\n"
    assert not home.exists()
