"""``trends collect`` without a broker: what it lists, and what it says about a wrong source or option."""

from __future__ import annotations

import json
import sys

import pytest

from connectors import KINDS
from connectors.runner import Progress, SourceReport
from streams.errors import ExitCode
from trends.__main__ import main
from trends.cli.collect import Bar, _table, shown


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["trends", "collect", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_sources_and_their_options_are_listed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "--list", "--json") == 0
    listed = {each["name"]: each for each in json.loads(capsys.readouterr().out)}
    assert listed.keys() == KINDS.keys()
    assert "base_url" in {option["name"] for option in listed["hackernews"]["options"]}
    assert run(monkeypatch, "--list") == 0
    assert "synthetic" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "which sources? There are: file, rss, hackernews, synthetic"),
        (("plums",), "no source 'plums'"),
        (("synthetic", "-o", "size=3"), "no option 'size' in synthetic"),
        (("synthetic", "-o", "items"), "write it as key=value"),
        (("synthetic", "-o", "noise=2"), "noise"),
        (("synthetic", "--map", "title=headline"), "no option 'map.title'"),
        (("file:/no/such.csv",), "there is no file"),
    ],
)
def test_wrong_usage_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], says: str
) -> None:
    assert run(monkeypatch, *arguments) == ExitCode.USAGE
    said = capsys.readouterr()
    assert said.out == ""
    assert says in said.err


def test_digests_are_not_shown() -> None:
    assert shown("file:posts.csv:0123456789ab") == "file:posts.csv"
    assert shown("hackernews") == "hackernews"


def test_a_report_is_one_row_a_source() -> None:
    report = SourceReport("file:a.csv:0123456789ab", "file", 5, 1, ("line 1: [bad]",), 0, 3, 0, 0, 0, "[x] gone", 2.0)
    table = _table([report, report])
    assert table.row_count == 2


def test_the_bar_takes_every_step() -> None:
    with Bar() as bar:
        bar(Progress("a", 1, 0, None))
        bar(Progress("a", 2, 3, 0.5))
        bar(Progress("a", 2, 3, None, "[done]"))
        bar(Progress("b", 0, 0, None, "failed: x"))
