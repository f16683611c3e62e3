"""Which flows there are, and that each gets its model from the settings."""

from pathlib import Path

import pytest

from streams.errors import SettingsError
from trends.flows import FLOWS, embedder_of, prepare
from trends.settings import load_settings


def test_every_flow_has_a_specification_of_its_own(tmp_path: Path) -> None:
    settings = load_settings(home=tmp_path)
    assert [prepare(flow, settings)[0].name for flow in FLOWS] == list(FLOWS)


def test_an_unknown_flow_names_those_that_there_are(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="embed, cluster, score, summarize, store"):
        prepare("enrich", load_settings(home=tmp_path))


def test_the_embedder_of_the_settings_is_made(tmp_path: Path) -> None:
    embedder = embedder_of(load_settings(home=tmp_path, embedder="null", embedder_dimensions=16))
    assert embedder.embed(["a title"]).shape == (1, 16)


def test_vectors_of_other_dimensions_than_the_generation_has_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="TRENDS_EMBEDDER_DIMENSIONS"):
        embedder_of(load_settings(home=tmp_path, embedder_dimensions=768))


def test_a_remote_embedder_without_an_address_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="address"):
        embedder_of(load_settings(home=tmp_path, embedder="openai"))
