"""What a summary is, and what a summariser promises. Which there are stands in the modules beside this one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import StrEnum
from typing import Final, Protocol

from msgspec import Struct

from streams.records import TopicUpdate

MAX_HEADLINE_CHARS: Final = 200
MAX_SUMMARY_WORDS: Final = 50
MAX_SUMMARY_CHARS: Final = 600
MAX_KEYWORDS: Final = 8
MAX_ENTITIES: Final = 6

_CJK = re.compile("[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uac00-\ud7af]")


class Fallback(StrEnum):
    """Why a summary is extractive although a language model was to write it. A closed list, also a metric label."""

    EMPTY = "empty"
    NOT_JSON = "not_json"
    TOO_LONG = "too_long"
    UNGROUNDED = "ungrounded"
    """It says what none of the topic's items says."""
    REFUSED = "refused"
    """The endpoint takes no such request: it is too long for the model, or address, key or model are wrong."""
    UNAVAILABLE = "unavailable"
    BUDGET = "budget"
    """The tokens of the day are used up."""


class Summary(Struct, frozen=True, kw_only=True):
    """What was found to say, by which method and model. A TopicSummary has all of its fields, by the same names."""

    headline: str
    headline_of: str | None
    """The item whose title it is, cleaned; None: nobody's, a model has written it."""
    summary: str
    quotes: tuple[str, ...] = ()
    """The items that its sentences are taken from, in their order; empty where a model has written it."""
    keywords: tuple[str, ...]
    entities: tuple[str, ...] = ()
    """Names as the items write them, the most frequent first."""
    lang: str | None = None
    """ISO 639-1 (of the language that most of the items are in); None: it cannot be told."""
    method: str
    model: str
    confidence: float | None = None
    """0 … 1, the model's own word."""
    fallback: Fallback | None = None
    cached: bool = False


class Summariser(Protocol):
    """Puts topics into words."""

    def summarise(self, updates: Sequence[TopicUpdate]) -> list[Summary]:
        """The summaries of topics, each with at least one leading item, in their order.

        Never raises for what a remote model does or does not: see :class:`Fallback`.
        """
        ...

    def forget(self, items: Sequence[str]) -> None:
        """Nothing that was made from these items (by id) may be kept for later."""
        ...

    def close(self) -> None:
        """Gives connections back; what is under way ends within its own bounds."""
        ...


def words_in(text: str) -> int:
    """How many words a text has; two characters of a script without spaces count as one."""
    dense = len(_CJK.findall(text))
    return len(_CJK.sub(" ", text).split()) + (dense + 1) // 2


def cut(text: str, chars: int) -> str:
    """At most so many characters, cut between words."""
    if len(text) <= chars:
        return text
    head, space, _ = text[: chars - 1].rpartition(" ")
    return (head if space else text[: chars - 1]).rstrip(" ,;:-–—") + "…"
