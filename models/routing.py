"""Where an item belongs: its home trend and up to two more, from the catalogue or from its own most telling terms.

The router remembers how often terms were seen and chosen lately, never items. What a trend's score is stands in
``models.scoring``, which subject a text matches in ``models.catalogue``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import blake2b
from heapq import nlargest
from typing import Any, Final, NamedTuple, TypeAlias

from models.catalogue import Catalogue, hashtags, words
from models.languages import LATIN, language_of
from models.text import clean_title, salience, strip_markup, tokens
from streams.records import TrendDefinition

MAX_MENTIONS: Final = 2
TERM_PREFIX: Final = "term:"
MISC_PREFIX: Final = "misc:"
MISC_TRENDS: Final = 64
"""Items that no term tells anything about are spread over so many trends; those never trend."""
MIN_SALIENCE: Final = 2.5
"""Terms as common as this or more are never chosen."""
ACTIVITY_SHARE: Final = 0.2
"""What an item that only contains a term counts, against one whose home the term became."""
ESTABLISHED: Final = 2.0
"""A term that is no name is mentioned once it was chosen so often, decayed."""
NAME: Final = 4.0
"""How much more a name pulls than a word of which it is not known whether it is one …"""
NO_NAME: Final = 0.5
"""… and a word that is written small."""
CAPITAL_NOUNS: Final = frozenset({"de"})
"""Languages that write all nouns with a capital."""
MAX_TERMS: Final = 20_000
KEPT_TERMS: Final = 15_000
"""When ``MAX_TERMS`` is reached, the least active go until so many are left."""
SAVED_TERMS: Final = 2_000
"""Terms in a saved state: about 60 kB."""
MAX_TERM_CHARS: Final = 48
"""A longer word is a hash, a path or a mistake."""
MAX_BODY_CHARS: Final = 1_000
"""How far into a body the router looks."""
MAX_CACHED_WORDS: Final = 65_536
_RESCALE_HALF_LIVES: Final = 64.0

_WORDS: Final = """
    ask show tell hn yc rt vs via etc aka faq tl dr tldr eli5 til psa ama pdf video podcast slides thread
    introducing introduces introduced announcing announces announced launches launched launching launch unveils
    unveiled reveals revealed releases released releasing release raises raised acquires acquired buys sells files
    filed finds discovers explains explained says warns warned claims claimed wants gets makes made builds built
    building build using uses used goes comes takes turns becomes helps lets adds added gives needs meets beats
    near amid among across despite following ahead
    inside behind towards toward beyond within without instead versus beginners beginner tutorial tutorials guide
    guides tips tricks intro introduction overview review reviews roundup recap update updates updated upcoming
    latest newest simple simply easy easily quick quickly awesome amazing cool ultimate complete beautiful modern
    better best worst biggest ways things thing reasons lessons thoughts questions answers
    dont doesnt didnt cant couldnt wont wouldnt shouldnt isnt arent wasnt werent havent hasnt hadnt aint
    ive youve weve theyve youre theyre thats whats heres theres hes shes ill youll well theyll
    isn't don't doesn't didn't can't won't you're they're it's that's what's here's there's i've you've we've let's
"""
_NOBODY: Final = frozenset[str]()
_ENDS: Final = ".:!?|–—-…"
"""After these a capital is that of a sentence."""
_SHORT: Final = "a an the of to in on for and or but nor as at by from is are was be with into over its it your my"
_FORM: Final = frozenset(_SHORT.split())
"""What stands small also in titles that capitalise every word."""
_MARKS: Final = ".,;:!?'\"()[]’‘“”…"
_AMOUNT: Final = re.compile(r"\d[\d.]*(?:[kmb]|bn|mn|mm|x|st|nd|rd|th|s|[kmgt]b|km|kg|mph)?")
"""500m, 14bn, 2nd: how much, not what."""
_ACCOUNT: Final = re.compile(r"(?<![\w@.])@\w+")
"""Who is spoken to; not what is spoken about."""
_HEADLINE_WORDS: Final = frozenset(_WORDS.split())
"""Words of headlines, not of subjects: what announces, frames or fills. None of them is ever a trend of its own."""


class Route(NamedTuple):
    """The home trend of an item, and at most two more that it mentions."""

    trend_id: str
    mentions: tuple[str, ...] = ()


@dataclass(slots=True)
class _Term:
    """How often a term was seen in items, and chosen as their home: forward-decayed sums."""

    seen: float = 0.0
    chosen: float = 0.0
    case: float = 0.0
    """Seen written as a name, less seen written small, where that tells something: above 0 it is one."""

    def activity(self) -> float:
        return ACTIVITY_SHARE * self.seen + self.chosen


_Candidate: TypeAlias = tuple[float, str, _Term, bool]
"""Minus its pull, a term, what is known of it, and whether it is a name. Sorted, the strongest comes first, and then
spelling decides."""


class _Gains(dict[str, float]):
    """Salience above the floor, by word; 0 for what is never chosen. Filled as words are met."""

    def __init__(self, lang: str | None) -> None:
        super().__init__()
        self._lang = lang

    def __missing__(self, name: str) -> float:
        usable = 1 < len(name) <= MAX_TERM_CHARS and name not in _HEADLINE_WORDS and not _AMOUNT.fullmatch(name)
        gain = max(0.0, salience(name, self._lang) - MIN_SALIENCE) if usable else 0.0
        if len(self) >= MAX_CACHED_WORDS:
            self.clear()
        self[name] = gain
        return gain


def is_misc(trend_id: str) -> bool:
    """Whether a trend only gathers items without any telling term; such a one says nothing by growing."""
    return trend_id.startswith(MISC_PREFIX)


class Router:
    """First the catalogue, then that term of the item which is most active lately and tells most.

    Among the item's terms the largest of (0.2 · seen + chosen) × (salience − 2.5) × case wins; case is 4 for names and
    ½ for words that are written small, in this title or mostly in those before; a plural counts as its singular once
    that is the more frequent form. Seen and chosen fade with a half-life in event time. They are sums of
    2^(time / half-life), compared without being rewritten (forward decay: Cormode et al., ICDE 2009), so a late item
    simply weighs less.
    """

    def __init__(self, half_life: timedelta = timedelta(days=3)) -> None:
        if half_life <= timedelta(0):
            raise ValueError(f"the half-life must be positive, not {half_life}")
        self._half_life_s = half_life.total_seconds()
        self._origin_s: float | None = None
        self._newest = 0.0
        """Of the items so far, in half-lives since the origin."""
        self._terms: dict[str, _Term] = {}
        self._gains: dict[str | None, _Gains] = {}
        """By the language of the text that the words stand in."""
        self._catalogue = Catalogue()
        self._refused: set[str] = set()
        """Terms that people say are no subjects."""

    def __len__(self) -> int:
        return len(self._terms)

    def update(self, definition: TrendDefinition) -> None:
        """Adds, changes or retires a tracked subject; the next item already follows it."""
        self._catalogue.update(definition)

    def refuse(self, trend_id: str, refused: bool = True) -> None:
        """A term that is no subject is never chosen or mentioned again, until that is taken back. No effect on others
        than those that the router finds itself."""
        if not trend_id.startswith(TERM_PREFIX):
            return
        name = trend_id.removeprefix(TERM_PREFIX)
        if refused:
            self._refused.add(name)
            self._terms.pop(name, None)
        else:
            self._refused.discard(name)

    def route(
        self,
        title: str,
        body: str = "",
        tags: Sequence[str] = (),
        *,
        at: datetime,
        lang: str | None = None,
        publisher: str | None = None,
        url: str | None = None,
        again: bool = False,
    ) -> Route:
        """The trends of an item. Counts it, unless it comes again.

        Args:
            title: raw; boilerplate such as "Show HN:" and the site's own name is stripped here, ``@names`` are nobody's
                trend.
            body: raw; subjects of the catalogue that stand only here are mentioned, terms count where the title has
                none.
            tags: count like words of the title.
            at: the event time of the item.
            lang: its language (BCP 47), for subjects that ask for one and for which words are common; where there is
                none, it is told by the words.
            publisher: whose name is no part of the title.
            url: of whose site the same is true.
            again: whether the item was seen before: it is placed by what is known now, and its terms are not counted.
        """
        weight = self._weight(at)
        head = clean_title(title, publisher, url)
        body = body[:MAX_BODY_CHARS]
        found = self._candidates(head, tags, lang, weight, not again)
        if not found and body:
            found = self._candidates(strip_markup(body), (), lang, weight, not again)
        found.sort()
        trends, mentioned, covered = self._tracked(head, body, tags, lang) if len(self._catalogue) else ([], [], ())
        if not trends and found:
            _, name, term, _ = found.pop(0)
            if not again:
                term.chosen += weight
            trends = [TERM_PREFIX + name]
        elif not trends:
            trends = [_misc(head or body)]
        trends += [trend for trend in mentioned if trend not in trends]
        enough = ESTABLISHED * 2.0**self._newest
        for _, name, term, named in found:
            if len(trends) > MAX_MENTIONS:
                break
            if (named or term.chosen >= enough) and name not in covered and TERM_PREFIX + name not in trends:
                trends.append(TERM_PREFIX + name)
        if len(self._terms) >= MAX_TERMS:
            self._forget()
        return Route(trends[0], tuple(trends[1 : 1 + MAX_MENTIONS]))

    def _tracked(
        self, head: str, body: str, tags: Sequence[str], lang: str | None
    ) -> tuple[list[str], list[str], Collection[str]]:
        """Tracked subjects that title or tags name, those that only the body names, and the words that named them."""
        front = words(head)
        for tag in tags:  # a word that no phrase contains keeps tags apart from the title and from each other
            front += ("", *words(tag))
        if "#" in head:
            for spoken in hashtags(head):
                front += ("", *spoken)
        found = self._catalogue.matches(front, words(strip_markup(body)) if body else (), lang)
        named = [match.trend_id for match in found if match.position < len(front)]
        beside = [match.trend_id for match in found if match.position >= len(front)]
        return named, beside, {word for match in found for word in match.phrase}

    def _candidates(
        self, text: str, tags: Sequence[str], lang: str | None, weight: float, count: bool
    ) -> list[_Candidate]:
        """The distinct terms of a text that may become trends, as if each had been seen once more with this weight;
        ``count``: so it is remembered."""
        spoken = tokens(_ACCOUNT.sub(" ", text) if "@" in text else text)
        for tag in tags:
            spoken += tokens(tag)
        lang = _latin(lang) if lang else language_of(spoken)
        gains, terms, refused = self._gains_of(lang), self._terms, self._refused
        names, small = _written(text) if lang not in CAPITAL_NOUNS else (_NOBODY, _NOBODY)
        found: dict[str, _Candidate] = {}
        for written in spoken:
            name, gain = written, gains[written]
            if gain <= 0.0 or name in found:
                continue
            term = terms.get(name)
            if name[-1] == "s" and len(name) > 3:
                stem = terms.get(name[:-1])
                if stem is not None and (term is None or stem.seen > term.seen):
                    name, term = name[:-1], stem
                    if name in found:
                        continue
            if refused and name in refused:
                continue
            if term is None:
                term = _Term()
                if count:
                    terms[name] = term
            seen, case = term.seen + weight, term.case
            if written in names:
                here = weight
            elif written in small:
                here = -weight
            else:
                here = 0.0
            case += here
            if count:
                term.seen, term.case = seen, case
            pull = (ACTIVITY_SHARE * seen + term.chosen) * gain
            if here > 0.0 or case > 0.0:
                found[name] = (-NAME * pull, name, term, True)
            else:
                found[name] = (-NO_NAME * pull if case else -pull, name, term, False)
        return list(found.values())

    def _gains_of(self, lang: str | None) -> _Gains:
        gains = self._gains.get(lang)
        if gains is None:
            gains = self._gains[lang] = _Gains(lang)
        return gains

    def _weight(self, at: datetime) -> float:
        """2^(half-lives since the origin). A time far ahead of all others counts as one half-life ahead: a broken
        clock cannot make everything else count for nothing."""
        at_s = at.timestamp()
        if self._origin_s is None:
            self._origin_s = at_s
        age = (at_s - self._origin_s) / self._half_life_s
        if age > self._newest:
            self._newest = age = min(age, self._newest + 1.0)
            if age > _RESCALE_HALF_LIVES:
                self._rescale()
                age = 0.0
        return float(2.0 ** max(age, -1000.0))

    def _rescale(self) -> None:
        """Moves the origin to the newest time, before the weights grow out of a float."""
        assert self._origin_s is not None
        factor = 2.0**-self._newest
        for term in self._terms.values():
            term.seen *= factor
            term.chosen *= factor
            term.case *= factor
        self._origin_s += self._newest * self._half_life_s
        self._newest = 0.0

    def _forget(self) -> None:
        self._terms = dict(self._strongest(KEPT_TERMS))

    def _strongest(self, count: int) -> list[tuple[str, _Term]]:
        """Terms by activity and by how much they tell in English or their script."""
        gains = self._gains_of(None)
        return nlargest(count, self._terms.items(), key=lambda pair: (pair[1].activity() * gains[pair[0]], pair[0]))

    def dump(self, terms: int = SAVED_TERMS) -> str:
        """The most active terms as JSON, for a connector to save with its cursor; the catalogue is not part of it."""
        if self._origin_s is None:
            return "{}"
        scale = 2.0**-self._newest
        state = {
            "at": round(self._origin_s + self._newest * self._half_life_s, 3),
            "terms": [
                [name, *(_short(n * scale) for n in (term.seen, term.chosen, term.case))]
                for name, term in self._strongest(terms)
            ],
        }
        return json.dumps(state, ensure_ascii=False, separators=(",", ":"))

    def load(self, text: str | bytes) -> None:
        """Takes over a state that ``dump`` has written, instead of what was known.

        Raises:
            ValueError: it is none.
        """
        try:
            state: Any = json.loads(text)
            terms = {}
            for name, seen, chosen, *written in state.get("terms", [])[:MAX_TERMS]:
                if self._gains_of(None)[str(name)] > 0.0:
                    terms[str(name)] = _Term(float(seen), float(chosen), *map(float, written))
            origin = float(state["at"]) if terms else None
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"not a state of the router: {error!r}") from None
        self._terms, self._origin_s, self._newest = terms, origin, 0.0


def _written(text: str) -> tuple[Collection[str], Collection[str]]:
    """The words of a text that are written as names, and those that are written small where that tells they are none.

    A capital tells nothing where a sentence begins, nor where most longer words have one; one within a word
    (``iPhone``) always does.
    """
    if text.islower():
        return _NOBODY, _NOBODY
    words = text.split(" ")
    marked = [place for place, word in enumerate(words) if not word.islower()]
    small = set(words)
    tells = 3 * len(small - _FORM) > 4 * len(marked)
    names: set[str] = set()
    for place in marked:
        word = words[place]
        if tells and place and word[:1].isupper() and words[place - 1][-1:] not in _ENDS:
            bare = word.lower()
            names.add(bare) if bare.isalnum() else names.update(tokens(bare))
        elif not word[1:].islower():
            bare = word.strip(_MARKS)
            if bare.isalnum() and not bare[1:].islower() and not bare.isupper():
                names.add(bare.lower())
    return names, small if tells else _NOBODY


def _latin(lang: str) -> str | None:
    """``de`` of ``de-AT``, where its words are looked for beside English ones."""
    primary = lang[:2].casefold()
    return primary if primary in LATIN and lang[2:3] in ("", "-", "_") else None


def _short(value: float) -> float:
    return float(f"{value:.4g}")


def _misc(text: str) -> str:
    digest = blake2b(text.casefold().encode("utf-8", "replace"), digest_size=4).digest()
    return f"{MISC_PREFIX}{int.from_bytes(digest, 'big') % MISC_TRENDS:02d}"
