"""``trends replay``: a range that is none is told before anything is asked of a broker."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from streams.errors import SettingsError
from trends.cli import build
from trends.cli.replay import partition_numbers


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "which range?"),
        (("--from", "2026-03-02", "--to", "2026-03-01T00:00"), "no range"),
        (("--log-from", "2026-03-02T10:00", "--log-to", "2026-03-02T10:00"), "no range"),
        (("--from", "yesterday"), "is no time"),
        (("--from", "2026-03-02", "--partitions", "3-1"), "no list of partitions"),
        (("--from", "2026-03-02", "--sources", "nowhere"), "no source 'nowhere'"),
    ],
)
def test_mistakes_are_told(arguments: tuple[str, ...], says: str) -> None:
    refused = CliRunner().invoke(build(), ["replay", "store", *arguments]).exception
    assert isinstance(refused, SettingsError)
    assert says in str(refused)


def test_partitions_are_numbers_and_spans() -> None:
    assert partition_numbers("0, 3-5,7") == frozenset({0, 3, 4, 5, 7})
    for wrong in ("", "a", "1-", "1024", "-1"):
        with pytest.raises(SettingsError):
            partition_numbers(wrong)
