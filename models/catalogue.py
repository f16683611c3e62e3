"""The tracked subjects as an index: which of them a text is about. Who defines them is not its affair."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias

from models.languages import MARKS, UNSPACED
from models.text import folded
from streams.records import TrendDefinition, TrendStatus

MAX_PHRASES: Final = 200
"""Keywords, and as many exclusions, of one subject; further ones are not looked at."""
MAX_PHRASE_WORDS: Final = 12
"""A longer phrase is cut."""

Phrase: TypeAlias = tuple[str, ...]

_WORD = re.compile(r"[a-z0-9]+(?:\+\+|(?<=\b[a-z])\#)?")
"""Of a lower-case ASCII text."""
_ANY_WORD = re.compile(rf"[{UNSPACED}]|(?:(?![{UNSPACED}])[^\W_][{MARKS}]*)+(?:\+\+|(?<=\b[a-z])\#)?")
_HASHTAG = re.compile(r"\#(\w{2,100})")
_CAMEL = re.compile(r"(?<=[a-z\d])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_AND_THE: Final = "\u0648\u0627\u0644"


def words(text: str) -> list[str]:
    """The words of a text as subjects are matched by: whatever stands between word boundaries, case-folded.

    Every inner mark is a boundary (``GPT-4`` is two words, and ``gpt`` matches it); ``c++`` and ``c#`` are words;
    scripts without spaces have a boundary at every character; "and" before an Arabic article is no part of the word.
    """
    if text.isascii():
        return _WORD.findall(text.lower())
    return [w[1:] if w.startswith(_AND_THE) and len(w) > 4 else w for w in _ANY_WORD.findall(folded(text))]


def hashtags(text: str) -> list[list[str]]:
    """The words of hashtags that are put together of several: ``#OpenSource`` is about open source."""
    found = (words(_CAMEL.sub(" ", tag)) for tag in _HASHTAG.findall(text))
    return [spoken for spoken in found if len(spoken) > 1]


class Match(NamedTuple):
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


class _Node:
    """A word within phrases: whose phrases end here, and what may come next."""

    __slots__ = ("after", "trend_ids")

    def __init__(self) -> None:
        self.trend_ids: tuple[str, ...] = ()
        self.after: dict[str, _Node] | None = None


class Catalogue:
    """Subjects by their phrases, in a trie of words: a text of n words costs n look-ups, and few more, however many
    subjects there are and however many of their phrases begin alike."""

    def __init__(self) -> None:
        self._subjects: dict[str, _Subject] = {}
        self._first: dict[str, _Node] = {}
        self._active = 0

    def __len__(self) -> int:
        return self._active

    def update(self, definition: TrendDefinition) -> None:
        """Adds, changes or retires a subject, at once; an older version than the known one changes nothing.

        A subject without keywords is matched by its title; what is only another name of one is not matched at all.
        """
        known = self._subjects.get(definition.trend_id)
        if known is not None:
            if definition.version < known.version:
                return
            self._unlink(definition.trend_id, known)
        active = definition.status is TrendStatus.ACTIVE
        named = (definition.title,) if definition.alias_of is None else ()
        subject = _Subject(
            version=definition.version,
            phrases=_phrases(definition.keywords or named) if active else (),
            exclude=_phrases(definition.exclude) if active else (),
            langs=frozenset(_primary(lang) for lang in definition.langs if lang),
        )
        self._subjects[definition.trend_id] = subject
        self._active += bool(subject.phrases)
        for phrase in subject.phrases:
            node, after = None, self._first
            for word in phrase:
                if node is not None:
                    after = node.after = node.after or {}
                node = after.get(word)
                if node is None:
                    node = after[word] = _Node()
            assert node is not None
            node.trend_ids += (definition.trend_id,)

    def matches(self, head: Sequence[str], body: Sequence[str] = (), lang: str | None = None) -> list[Match]:
        """The subjects of a text, most telling first: in the head before the body, longer phrases before shorter ones,
        then by where they stand and by id. ``position`` counts words from the beginning of the head.

        Args:
            head: the words of title and tags.
            body: the words of the body.
            lang: of the item; None passes every subject.
        """
        found = self._in(head, 0)
        if body:
            found += self._in(body, len(head))
        if not found:
            return []
        if len(found) > 1:  # in the head, then length, place and id: that is how the tuples are ordered
            found.sort()
            best: dict[str, tuple[bool, int, int, str]] = {}
            for each in found:
                best.setdefault(each[3], each)
            found = list(best.values())
        text = (*head, *body)
        present = set(text)
        primary = _primary(lang) if lang else None
        return [
            Match(trend_id, text[at : at - length], at)
            for _, length, at, trend_id in found
            if self._admits(trend_id, present, head, body, primary)
        ]

    def _in(self, part: Sequence[str], offset: int) -> list[tuple[bool, int, int, str]]:
        """What stands in a part: whether that is the body, minus the phrase's length, its place, the subject."""
        found: list[tuple[bool, int, int, str]] = []
        first = self._first
        for begin, word in enumerate(part):
            node = first.get(word)
            end = begin + 1
            while node is not None:
                for trend_id in node.trend_ids:
                    found.append((offset > 0, begin - end, offset + begin, trend_id))
                if node.after is None or end == len(part):
                    break
                node = node.after.get(part[end])
                end += 1
        return found

    def _admits(
        self, trend_id: str, present: Collection[str], head: Sequence[str], body: Sequence[str], lang: str | None
    ) -> bool:
        subject = self._subjects[trend_id]
        if subject.langs and lang and lang not in subject.langs:
            return False
        return not any(
            phrase[0] in present and (_contains(head, phrase) or _contains(body, phrase)) for phrase in subject.exclude
        )

    def _unlink(self, trend_id: str, subject: _Subject) -> None:
        self._active -= bool(subject.phrases)
        for phrase in subject.phrases:
            path: list[tuple[dict[str, _Node], str, _Node]] = []
            after: dict[str, _Node] | None = self._first
            for word in phrase:
                assert after is not None
                path.append((after, word, after[word]))
                after = after[word].after
            last = path[-1][2]
            last.trend_ids = tuple(other for other in last.trend_ids if other != trend_id)
            for siblings, word, node in reversed(path):
                if node.trend_ids or node.after:
                    break
                del siblings[word]
                node.after = None


def _phrases(texts: Iterable[str]) -> tuple[Phrase, ...]:
    found = dict.fromkeys(tuple(words(text)[:MAX_PHRASE_WORDS]) for text in texts)
    return tuple(phrase for phrase in found if phrase)[:MAX_PHRASES]


def _contains(part: Sequence[str], phrase: Phrase) -> bool:
    first, n = phrase[0], len(phrase)
    return any(word == first and tuple(part[i : i + n]) == phrase for i, word in enumerate(part))


def _primary(lang: str) -> str:
    """``en`` of ``en-US``."""
    return re.split(r"[-_]", lang.casefold(), maxsplit=1)[0]
