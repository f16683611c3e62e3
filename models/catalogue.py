"""The tracked subjects as an index: which of them a text is about. Who defines them is not its affair."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from streams.records import TrendDefinition, TrendStatus

MAX_PHRASES: Final = 200
"""Keywords, and as many exclusions, of one subject; further ones are not looked at."""
MAX_PHRASE_WORDS: Final = 12
"""A longer phrase is cut."""

Phrase: TypeAlias = tuple[str, ...]

_CJK: Final = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uac00-\ud7af"
_WORD = re.compile(rf"[{_CJK}]|(?:(?![{_CJK}])[^\W_])+(?:\+\+|\#)?")


def words(text: str) -> list[str]:
    """The words of a text as subjects are matched by: whatever stands between word boundaries, case-folded.

    Every inner mark is a boundary (``GPT-4`` is two words, and ``gpt`` matches it); ``c++`` and ``c#`` are words;
    scripts without spaces have a boundary at every character.
    """
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    return _WORD.findall(text.casefold())


@dataclass(frozen=True, slots=True)
class Match:
    """A subject that a text is about: by which phrase, at which word."""

    trend_id: str
    phrase: Phrase
    position: int


@dataclass(frozen=True, slots=True)
class _Subject:
    version: int
    phrases: tuple[Phrase, ...]
    exclude: tuple[Phrase, ...]
    langs: frozenset[str]


class Catalogue:
    """Subjects by the first word of their phrases: the cost of a look-up does not grow with their number."""

    def __init__(self) -> None:
        self._subjects: dict[str, _Subject] = {}
        self._by_first: dict[str, dict[Phrase, tuple[str, ...]]] = {}

    def __len__(self) -> int:
        return sum(1 for subject in self._subjects.values() if subject.phrases)

    def update(self, definition: TrendDefinition) -> None:
        """Adds, changes or retires a subject, at once; an older version than the known one changes nothing.

        A subject without keywords is matched by its title.
        """
        known = self._subjects.get(definition.trend_id)
        if known is not None:
            if definition.version < known.version:
                return
            self._unlink(definition.trend_id, known)
        active = definition.status is TrendStatus.ACTIVE
        subject = _Subject(
            version=definition.version,
            phrases=_phrases(definition.keywords or (definition.title,)) if active else (),
            exclude=_phrases(definition.exclude) if active else (),
            langs=frozenset(_primary(lang) for lang in definition.langs if lang),
        )
        self._subjects[definition.trend_id] = subject
        for phrase in subject.phrases:
            by_phrase = self._by_first.setdefault(phrase[0], {})
            by_phrase[phrase] = (*by_phrase.get(phrase, ()), definition.trend_id)

    def matches(self, head: Sequence[str], body: Sequence[str] = (), lang: str | None = None) -> list[Match]:
        """The subjects of a text, most telling first: in the head before the body, longer phrases before shorter ones,
        then by where they stand and by id. ``position`` counts words from the beginning of the head.

        Args:
            head: the words of title and tags.
            body: the words of the body.
            lang: of the item; None passes every subject.
        """
        if not self._by_first:
            return []
        found: dict[str, Match] = {}
        for offset, part in ((0, head), (len(head), body)):
            here: dict[str, Match] = {}
            for match in self._in(part, offset):
                best = here.get(match.trend_id)
                if best is None or len(match.phrase) > len(best.phrase):
                    here[match.trend_id] = match
            ranked = sorted(here.values(), key=lambda m: (-len(m.phrase), m.position, m.trend_id))
            for match in ranked:
                found.setdefault(match.trend_id, match)
        return [match for match in found.values() if self._admits(match.trend_id, head, body, lang)]

    def _in(self, part: Sequence[str], offset: int) -> Iterator[Match]:
        for i, word in enumerate(part):
            by_phrase = self._by_first.get(word)
            if by_phrase is None:
                continue
            longest = len(part) - i
            for n in range(1, min(longest, MAX_PHRASE_WORDS) + 1):
                phrase = tuple(part[i : i + n])
                for trend_id in by_phrase.get(phrase, ()):
                    yield Match(trend_id, phrase, offset + i)

    def _admits(self, trend_id: str, head: Sequence[str], body: Sequence[str], lang: str | None) -> bool:
        subject = self._subjects[trend_id]
        if subject.langs and lang and _primary(lang) not in subject.langs:
            return False
        return not any(_contains(part, phrase) for phrase in subject.exclude for part in (head, body))

    def _unlink(self, trend_id: str, subject: _Subject) -> None:
        for phrase in subject.phrases:
            by_phrase = self._by_first[phrase[0]]
            rest = tuple(other for other in by_phrase[phrase] if other != trend_id)
            if rest:
                by_phrase[phrase] = rest
            else:
                del by_phrase[phrase]
                if not by_phrase:
                    del self._by_first[phrase[0]]


def _phrases(texts: Iterable[str]) -> tuple[Phrase, ...]:
    found = dict.fromkeys(tuple(words(text)[:MAX_PHRASE_WORDS]) for text in texts)
    return tuple(phrase for phrase in found if phrase)[:MAX_PHRASES]


def _contains(part: Sequence[str], phrase: Phrase) -> bool:
    first, n = phrase[0], len(phrase)
    return any(word == first and tuple(part[i : i + n]) == phrase for i, word in enumerate(part))


def _primary(lang: str) -> str:
    """``en`` of ``en-US``."""
    return re.split(r"[-_]", lang.casefold(), maxsplit=1)[0]
