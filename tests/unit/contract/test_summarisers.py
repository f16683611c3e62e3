"""What every summariser promises."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.summaries import ExtractiveSummariser, Summariser
from tests.unit.topics import leading, topic

SUMMARISERS: dict[str, Summariser] = {"extractive": ExtractiveSummariser()}


@pytest.mark.parametrize("name", SUMMARISERS)
def test_a_summary_has_headline_sentence_and_keywords_and_says_how_it_was_made(name: str) -> None:
    update = topic("Harbour opens for small boats", "New harbour welcomes boats after ten years", "Boats return")
    summary = SUMMARISERS[name].summarise([update])[0]
    assert "arbour" in summary.headline
    assert summary.summary == summary.headline or summary.summary.endswith((".", "!", "?", "…"))
    assert "harbour" in summary.keywords
    assert summary.method
    assert summary.model


@settings(max_examples=80)
@given(
    titles=st.lists(st.text(max_size=300), min_size=1, max_size=5),
    bodies=st.lists(st.text(max_size=600), min_size=5, max_size=5),
    terms=st.lists(st.tuples(st.text(min_size=1, max_size=30), st.floats(0, 1)), max_size=20),
)
@pytest.mark.parametrize("name", SUMMARISERS)
def test_any_topic_has_a_bounded_summary_without_control_characters(
    name: str, titles: list[str], bodies: list[str], terms: list[tuple[str, float]]
) -> None:
    items = [leading(title, i, body=bodies[i], publisher=bodies[-1][:20] or None) for i, title in enumerate(titles)]
    summary = SUMMARISERS[name].summarise([topic(*items, terms=tuple(terms))])[0]
    assert 0 < len(summary.headline) <= 200
    assert 0 < len(summary.summary) <= 600
    assert len(summary.keywords) <= 8
    assert not any(c in "".join((summary.headline, summary.summary, *summary.keywords)) for c in "\x00\n\r\t")
