"""A topic's label: headline, keywords, names and language. It changes only when another one is clearly better.

Pure functions of the topic's last update and of the label before. What a topic says in sentences is the summarisers'.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from functools import cache
from typing import Final, NamedTuple

from wordfreq import DATA_PATH, read_cBpack

from models.summaries.base import MAX_ENTITIES, MAX_HEADLINE_CHARS, MAX_KEYWORDS, cut
from models.text import clean_title, salience, strip_markup, terms, tokens
from streams.records import LeadingItem, TopicUpdate

FLAW: Final = 0.25
"""What one flaw of a title costs, in shares of the topic's terms."""
BETTER: Final = 0.15
"""A headline gives way to one that says so much more of the topic's terms …"""
KEPT_BONUS: Final = 1.25
"""… and a keyword to one that weighs so many times as much."""
KEYWORD_DIVERSITY: Final = 0.3
"""Weight of what a keyword shares with those before it, against its own weight."""
MIN_KEYWORD: Final = 0.15
"""Of the heaviest term's weight: what weighs less is no keyword."""
_NAME_SALIENCE: Final = 3.5
"""A name has a word that is rarer than this …"""
_FIRST_SALIENCE: Final = 4.5
"""… and where a sentence begins, or all words have capitals, a word that is more common than this is no name."""


class Label(NamedTuple):
    """What a topic is called."""

    headline: str
    headline_of: str | None
    """The item whose title it is; None: nobody's."""
    keywords: tuple[str, ...]


def label_of(update: TopicUpdate, before: Label | None = None) -> Label:
    """A topic's label; that of before as far as no other is clearly better."""
    headline, headline_of = headline_in(update)
    if before is not None and before.headline and not clearly_better(headline, before.headline, update):
        headline, headline_of = before.headline, before.headline_of
    return Label(headline, headline_of, keywords_of(update, before.keywords if before else ()))


def title_of(item: LeadingItem) -> str:
    """An item's title as it is shown."""
    return clean_title(item.title, item.publisher, item.url)


def weights_of(update: TopicUpdate) -> dict[str, float]:
    """The topic's terms, best first: (term, weight)."""
    return {clean: weight for term, weight in update.terms if (clean := strip_markup(term)) and weight > 0.0}


# --------------------------------------------------------------------------------------------------------- headline


def flaws(title: str) -> int:
    """What makes a title a bad headline: shouting, bait, too little or too much of it."""
    letters = [c for c in title if c.isalpha()]
    shouting = len(letters) >= 8 and sum(c.isupper() for c in letters) > 0.7 * len(letters)
    bait = bool(re.search(r"[!?]{2,}|!\s*$|\.{3}\s*$|…\s*$", title))
    short = len(title.split()) < 3 and len(tokens(title)) < 4
    return 2 * shouting + bait + short + (len(title) > 140)


def headline_in(update: TopicUpdate) -> tuple[str, str | None]:
    """The medoid's title, cleaned, and the medoid; where that title has flaws, the next one's that has none.

    A topic without any title is called by its heaviest term.
    """
    titled = [(title, item.item_id) for item in update.items if (title := title_of(item))]
    if not titled:
        return cut(next(iter(weights_of(update)), update.topic_id), MAX_HEADLINE_CHARS), None
    title, item_id = titled[0]
    if flaws(title):
        title, item_id = next(((t, i) for t, i in titled if not flaws(t)), (title, item_id))
    return cut(title, MAX_HEADLINE_CHARS), item_id


def fit(headline: str, update: TopicUpdate) -> float:
    """How well a headline stands for a topic: the share of the weight of its terms that it says, less its flaws."""
    weights = weights_of(update)
    said = set(terms(headline))
    covered = sum(weight for term, weight in weights.items() if term in said)
    return covered / (sum(weights.values()) or 1.0) - FLAW * flaws(headline)


def clearly_better(headline: str, before: str, update: TopicUpdate) -> bool:
    """Whether a headline is worth the change."""
    return fit(headline, update) >= fit(before, update) + BETTER


# --------------------------------------------------------------------------------------------------------- keywords


def keywords_of(update: TopicUpdate, before: Sequence[str] = ()) -> tuple[str, ...]:
    """Terms that tell a topic from others and each say something new, best first.

    Weights are class-based tf-idf (Grootendorst 2022) with the inverse frequency of a fixed list instead of one counted
    over all topics, see ``models.clustering``; diversity is maximal marginal relevance (Carbonell and Goldstein 1998),
    what two terms share being the titles that they stand in. Those of ``before`` stay until clearly outweighed.
    """
    weights = weights_of(update)
    most = max(weights.values(), default=0.0)
    places = _places(update.items, weights)
    left = {
        term: weight / most * (KEPT_BONUS if term in before else 1.0)
        for term, weight in weights.items()
        if any(c.isalpha() for c in term) and weight >= MIN_KEYWORD * most
    }
    kept: list[str] = []
    while left and len(kept) < MAX_KEYWORDS:
        best = max(left, key=lambda term: left[term] - KEYWORD_DIVERSITY * _shared(term, kept, places))
        del left[best]
        if not any(_same(best, other) for other in kept):
            kept.append(best)
    return tuple(kept)


def _places(items: Sequence[LeadingItem], weights: Iterable[str]) -> dict[str, frozenset[int]]:
    said = [set(terms(title_of(item))) for item in items]
    return {term: frozenset(i for i, found in enumerate(said) if term in found) for term in weights}


def _shared(term: str, kept: Sequence[str], places: Mapping[str, frozenset[int]]) -> float:
    """The largest share of titles that a term has in common with one of the others (Jaccard)."""
    mine = places[term]
    return max((len(mine & places[o]) / len(mine | places[o]) for o in kept if mine or places[o]), default=0.0)


def _same(a: str, b: str) -> bool:
    """Whether one is a form or a part of the other."""
    short, long = sorted((a, b), key=len)
    if " " in long and short in long.split(" "):
        return True
    return long.startswith(short) and (len(short) >= 5 or long[len(short) :] in ("s", "es", "'s"))


# --------------------------------------------------------------------------------------------------------- entities

_WORD = re.compile(r"\d+(?:[.,]\d+)+|[^\W_]+(?:[.'’&\-][^\W_]+)*")


def entities_of(update: TopicUpdate) -> tuple[str, ...]:
    """Names, as the items write them: runs of capitalised words (and numbers after them), said by most items first.

    By case alone, so none in scripts without it, and none in texts that were lower-cased. A word that stands anywhere
    with a small letter is no name; in titles that capitalise every word only rare words are.
    """
    texts = [[strip_markup(text) for text in (title_of(item), item.body)] for item in update.items]
    small = {word for of_item in texts for text in of_item for word in _WORD.findall(text) if word[0].islower()}
    found: Counter[str] = Counter()
    shown: dict[str, str] = {}
    for of_item in texts:
        names = {name.casefold(): name for text in of_item for name in _names(text, small)}
        for key, name in names.items():
            found[key] += 1
            shown.setdefault(key, name)
    least = 2 if len(update.items) > 2 else 1
    ranked = sorted((-count, -len(key.split()), key) for key, count in found.items() if count >= least)
    kept: list[str] = []
    for _, _, key in ranked:
        if len(kept) < MAX_ENTITIES and not any(f" {key} " in f" {other.casefold()} " for other in kept):
            kept.append(shown[key])
    return tuple(kept)


def _names(text: str, small: Container[str]) -> list[str]:
    """The names in a text; words of ``small`` are none, whatever their case."""
    words = list(_WORD.finditer(text))
    lettered = [w[0] for w in words if w[0][0].isalpha() and len(w[0]) > 3]
    title_case = len(lettered) > 3 and sum(w[0][0].isupper() for w in lettered) > 0.75 * len(lettered)
    names: list[str] = []
    run: list[re.Match[str]] = []

    def end() -> None:
        if any(salience(w[0].casefold()) >= _NAME_SALIENCE for w in run if w[0][0].isalpha()):
            names.append(re.sub(r"['’]s$", "", text[run[0].start() : run[-1].end()]))
        run.clear()

    for word in words:
        if run and not text[run[-1].end() : word.start()].isspace():
            end()
        first = word.start() == 0 or title_case
        capital = (
            word[0][0].isupper()
            and word[0].casefold() not in small
            and (not first or salience(word[0].casefold()) >= _FIRST_SALIENCE)
        )
        if capital or (run and word[0].isdigit() and len(word[0]) <= 4):
            run.append(word)
        else:
            end()
    end()
    return [name for name in names if len(name) > 1]


# --------------------------------------------------------------------------------------------------------- category

_CATEGORY_SHARE: Final = 1 / 3
"""Of a topic's items, so many have a home trend of the category."""


def category_of(update: TopicUpdate, categories: Mapping[str, str]) -> str | None:
    """The category of the tracked subjects that most of a topic's items have as their home; None: too few have one.

    Args:
        categories: by trend, as the catalogue says.
    """
    counts: Counter[str] = Counter()
    for trend_id, items in update.trends.items():
        if trend_id in categories:
            counts[categories[trend_id]] += items
    best = min(counts, key=lambda name: (-counts[name], name), default=None)
    return best if best is not None and counts[best] >= _CATEGORY_SHARE * max(1, update.size) else None


# --------------------------------------------------------------------------------------------------------- language

_LISTED_ZIPF: Final = 5.0
"""Words above this frequency tell a language: about a thousand of each."""
_MIN_LANGUAGE: Final = 3.0
"""Weight of known words below which nothing is said …"""
_LEAD: Final = 1.2
"""… and how much more than the next language the first one must have."""
_SCRIPTS: Final = (
    (re.compile("[\u3040-\u30ff]"), "ja"),
    (re.compile("[\uac00-\ud7af]"), "ko"),
    (re.compile("[\u4e00-\u9fff]"), "zh"),
    (re.compile("[\u0e00-\u0e7f]"), "th"),
    (re.compile("[\u0370-\u03ff]"), "el"),
    (re.compile("[\u0590-\u05ff]"), "he"),
)
_CODES: Final = {"nb": "no", "fil": "tl"}


def language_of(update: TopicUpdate) -> str | None:
    """The language of most of what the leading items say (ISO 639-1): by script where that is enough, else by the
    frequent words of 42 languages (wordfreq's lists); None where neither tells."""
    text = " ".join(f"{title_of(item)} {item.body}" for item in update.items)
    letters = sum(c.isalpha() for c in text)
    for script, code in _SCRIPTS:
        if 3 * len(script.findall(text)) > letters > 0:
            return code
    scores: Counter[str] = Counter()
    for word in tokens(text):
        for code, weight in _frequent_words().get(word, ()):
            scores[code] += weight  # type: ignore[assignment]
    best = scores.most_common(2)
    if not best or best[0][1] < _MIN_LANGUAGE or (len(best) > 1 and best[0][1] < _LEAD * best[1][1]):
        return None
    return best[0][0]


@cache
def _frequent_words() -> dict[str, tuple[tuple[str, float], ...]]:
    """Frequent words of every language with their weight there: 1 at the threshold, 2 where they are ten times as
    frequent. 42,000 entries, about 10 MB; read once (.4 s)."""
    found: dict[str, list[tuple[str, float]]] = {}
    for path in sorted(DATA_PATH.glob("small_*.msgpack.gz")):
        code = path.name.removeprefix("small_").partition(".")[0]
        for centibels, words in enumerate(read_cBpack(str(path))[: int(100 * (9.0 - _LISTED_ZIPF))]):
            for word in words:
                found.setdefault(word, []).append(
                    (_CODES.get(code, code), 1.0 + (9.0 - centibels / 100) - _LISTED_ZIPF)
                )
    return {word: tuple(known) for word, known in found.items()}
