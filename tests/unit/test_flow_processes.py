"""Which processes `trends run` starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from streams.errors import SettingsError
from trends.flow_processes import counts, specs_of
from trends.flows import FLOWS
from trends.runfiles import announced
from trends.settings import load_settings


def test_words_say_how_many_of_each() -> None:
    assert counts(["embed=3", "store"], 2) == {"embed": 3, "store": 2}
    assert counts(FLOWS) == dict.fromkeys(FLOWS, 1)


@pytest.mark.parametrize("word", ["nothing", "embed=", "embed=0", "embed=65", "embed=two"])
def test_a_word_that_is_none_is_refused(word: str) -> None:
    with pytest.raises(SettingsError):
        counts([word])


def test_a_second_run_takes_names_that_are_free(tmp_path: Path) -> None:
    settings = load_settings(home=tmp_path)
    with announced(tmp_path, "embed-0", "embed"):
        assert [spec.name for spec in specs_of(settings, {"embed": 2, "store": 1})] == ["embed-1", "embed-2", "store-0"]


def test_metrics_ports_are_free_ones_or_follow_each_other(tmp_path: Path) -> None:
    def ports(port: int) -> list[str]:
        specs = specs_of(load_settings(home=tmp_path, metrics_port=port), {"embed": 2, "store": 1})
        return [spec.environment["TRENDS_METRICS_PORT"] for spec in specs]

    assert ports(0) == ["0", "0", "0"]
    assert ports(9100) == ["9101", "9102", "9103"], "the supervisor itself is at 9100"
