"""Summaries in the sources' own words: the sentences that are nearest to all the others and repeat least.

Centrality is that of LexRank with degrees (Erkan and Radev 2004), between items instead of sentences, so that a long
article does not vote for itself; redundancy is kept down by maximal marginal relevance (Carbonell and Goldstein 1998).
Sentences are those of titles and bodies, quoted exactly.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from models.summaries import labels
from models.summaries.base import MAX_SUMMARY_CHARS, MAX_SUMMARY_WORDS, Summary, words_in
from models.text import salience, strip_markup, terms
from streams.records import TopicUpdate

MODEL: Final = "extractive-2"
SENTENCES: Final = 3
"""At most so many."""
MAX_SENTENCE_CHARS: Final = 320
MIN_SENTENCE_CHARS: Final = 40
"""Of a body: what is shorter is a cry or a caption."""
MIN_DENSE_CHARS: Final = 12
"""The same where words have no spaces between them."""
DIVERSITY: Final = 0.5
"""Weight of what a sentence shares with the headline and those before it, against its centrality."""
NEW_TERMS: Final = 2
"""A sentence says at least so many terms that neither headline nor summary has said."""
LIKE_ENOUGH: Final = 0.05
"""Least centrality: what is nearer to nothing is not on the subject."""


class ExtractiveSummariser:
    """Says it in the sources' own words: the title nearest to the topic's centre, and the sentences that add most."""

    def summarise(self, updates: Sequence[TopicUpdate]) -> list[Summary]:
        """See :class:`models.summaries.base.Summariser`. Deterministic: equal updates have equal summaries."""
        return [extract(update) for update in updates]

    def forget(self, items: Sequence[str]) -> None:
        """Nothing is kept."""

    def close(self) -> None:
        """Nothing is open."""


def extract(update: TopicUpdate, before: labels.Label | None = None) -> Summary:
    """The extractive summary of a topic; without anything that adds to it, the headline stands for it.

    Args:
        before: the label that the topic has, and keeps as far as no other is clearly better.
    """
    headline, headline_of, keywords = labels.label_of(update, before)
    chosen = _chosen(list(_sentences_of(update)), headline, labels.weights_of(update))
    return Summary(
        headline=headline,
        headline_of=headline_of,
        summary=" ".join(_ended(s.text) for s in chosen) or headline,
        quotes=tuple(s.item_id for s in chosen),
        keywords=keywords,
        entities=labels.entities_of(update),
        lang=labels.language_of(update),
        method="extractive",
        model=MODEL,
    )


# -------------------------------------------------------------------------------------------------------- sentences


@dataclass(frozen=True, slots=True)
class _Sentence:
    text: str
    item_id: str
    terms: frozenset[str]


_END = re.compile(
    "(?<=[.!?؟۔।॥።])[\"”’»')\\]]*\\s+(?=[\"“‘«¿¡'(\\[]*[^\\W_a-zа-яα-ω])"  # a space and no small letter after it …
    "|(?<=[。！？｡])[”’』」》）]*(?=[^”’』」》）])"  # … or a script that needs no space
)
_CLOSING = "\"”’»』」》）')]"
_ENDS = (".", "!", "?", "…", "。", "！", "？", "｡", "؟", "۔", "।", "॥", "።")
_ABBREVIATION = re.compile(
    r"(?:\b(?:mr|mrs|ms|dr|prof|inc|ltd|co|corp|vs|no|nr|st|gen|sen|gov|bzw|ca|dir|sr|sra|mme|e\.g|i\.e|u\.s|z\.b)"
    r"|\b[^\W\d_]|\b\d{1,2})\.$",
    re.IGNORECASE,
)
_CUT_OFF = ("...", "…")
_NO_NEWS = re.compile(r"://|@\w|\bwww\.|\b(?:subscribe|sign up|newsletter|cookies?|click here|read more)\b", re.I)


def sentences_of(body: str) -> list[str]:
    """The whole sentences of a body without markup, in order; the last one only where it is complete."""
    parts: list[str] = []
    at = 0
    for end in _END.finditer(body):
        part = body[at : end.end()].strip()
        at = end.end()
        if parts and _ABBREVIATION.search(parts[-1]):
            parts[-1] += " " + part
        else:
            parts.append(part)
    last = body[at:].strip()
    if last and parts and _ABBREVIATION.search(parts[-1]):
        parts[-1] += " " + last
    elif last:
        parts.append(last)
    return [part for part in parts if part.rstrip(_CLOSING).endswith(_ENDS)]


def _sentences_of(update: TopicUpdate) -> Iterator[_Sentence]:
    """Titles and sentences of bodies that could stand in a summary; each once."""
    seen: set[str] = set()
    for item in update.items:
        title = labels.title_of(item)
        texts = [title] if labels.flaws(title) < 2 and not title.endswith(_CUT_OFF) else []
        texts += [text for text in sentences_of(strip_markup(item.body)) if _fit_to_print(text)]
        for text in texts:
            if text and text not in seen and len(text) <= MAX_SENTENCE_CHARS:
                seen.add(text)
                yield _Sentence(text, item.item_id, frozenset(terms(text)))


def _fit_to_print(text: str) -> bool:
    dense = words_in(text) > 2 * len(text.split())
    return len(text) >= (MIN_DENSE_CHARS if dense else MIN_SENTENCE_CHARS) and not _NO_NEWS.search(text)


def _ended(text: str) -> str:
    return text if text.rstrip(_CLOSING).endswith(_ENDS) else f"{text}."


# --------------------------------------------------------------------------------------------------------- choosing


def _chosen(sentences: Sequence[_Sentence], headline: str, weights: Mapping[str, float]) -> list[_Sentence]:
    """In the order of the items, and of the sentences in them."""
    said = _Sentence(headline, "", frozenset(terms(headline)))
    central = {s.text: value for s in sentences if (value := _centrality(s, sentences, weights)) >= LIKE_ENOUGH}
    left = [s for s in sentences if s.text in central and s.text != headline]
    chosen: list[_Sentence] = []
    words, chars = MAX_SUMMARY_WORDS, MAX_SUMMARY_CHARS
    while len(chosen) < SENTENCES:
        told = [said, *chosen]
        heard = frozenset[str]().union(*(s.terms for s in told))
        left = [
            s for s in left
            if len(s.terms - heard) >= NEW_TERMS and words_in(s.text) <= words and len(s.text) + 2 <= chars
        ]  # fmt: skip
        if not left:
            break
        best = max(left, key=lambda s: (1 - DIVERSITY) * central[s.text] - DIVERSITY * max(_cosine(s, o) for o in told))
        chosen.append(best)
        left.remove(best)
        words -= words_in(best.text)
        chars -= len(best.text) + 2
    return sorted(chosen, key=sentences.index)


def coherence(update: TopicUpdate) -> float:
    """How much a topic's leading items tell one story: the mean over their titles of the cosine to the most similar
    other one, 0 … 1; 1 for a single title."""
    found = [
        _Sentence(title, i.item_id, frozenset(terms(title))) for i in update.items if (title := labels.title_of(i))
    ]
    titles = [title for title in found if title.terms]
    if len(titles) < 2:
        return 1.0
    return sum(max(_cosine(one, o) for o in titles if o is not one) for one in titles) / len(titles)


def _centrality(sentence: _Sentence, others: Sequence[_Sentence], weights: Mapping[str, float]) -> float:
    """How near a sentence is to the other items (the mean over items of their most similar sentence) and to the
    topic's terms, half each; 0 … 1."""
    nearest: dict[str, float] = {}
    for other in others:
        if other.item_id != sentence.item_id:
            nearest[other.item_id] = max(nearest.get(other.item_id, 0.0), _cosine(sentence, other))
    topic = _length(weights) * math.sqrt(sum(map(salience, sentence.terms)))
    near = sum(weights.get(term, 0.0) * math.sqrt(salience(term)) for term in sentence.terms) / topic if topic else 0.0
    return 0.5 * near + 0.5 * sum(nearest.values()) / max(1, len(nearest))


def _length(weights: Mapping[str, float]) -> float:
    return math.sqrt(sum(weight * weight for weight in weights.values()))


def _cosine(one: _Sentence, other: _Sentence) -> float:
    """Of terms whose squared weight is their salience, as topics are compared."""
    lengths = _weight(one.terms) * _weight(other.terms)
    return _weight(one.terms & other.terms) / math.sqrt(lengths) if lengths else 0.0


def _weight(words: Collection[str]) -> float:
    return sum(map(salience, words))
