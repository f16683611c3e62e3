"""The synthetic source: a seeded world of stories and noise whose true topics and trends are known, and never sent.

The same parameters give the same world, byte for byte, in every process and Python version: all chance comes from the
`random()` of one seeded Mersenne Twister, the only method whose numbers are promised. The words are in `lexicon.py`.
"""

from __future__ import annotations

import asyncio
import hashlib
import heapq
import math
import random
import re
from collections import deque
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Annotated, Final, NamedTuple, TypeVar

import msgspec
from msgspec import Meta, Struct

from connectors import lexicon
from connectors.base import BATCH_SIGHTINGS, Batch, Context, Limits, Sighting
from streams.records import Engagement, Kind

T = TypeVar("T")

# -- options -----------------------------------------------------------------------------------------------------------

Share = Annotated[float, Meta(ge=0, le=1)]


class SyntheticOptions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The parameters of a world. ``items`` and ``pace_per_s`` change nothing in it: a longer world begins the same."""

    seed: Annotated[int, Meta(ge=0, description="Which world.")] = 1
    items: Annotated[int, Meta(ge=1, description="Distinct items; sightings are more.")] = 10_000
    start: Annotated[datetime, Meta(description="Event time at which the world begins.")] = datetime(
        2026, 1, 5, tzinfo=UTC
    )
    per_day: Annotated[float, Meta(gt=0, description="Items a day of event time, about.")] = 600.0
    noise: Annotated[float, Meta(ge=0, le=0.95, description="Share of items that belong to no story.")] = 0.35
    echoes: Annotated[Share, Meta(description="Share of story items that another site copies.")] = 0.15
    reobserved: Annotated[Share, Meta(description="Share of items seen again with more engagement.")] = 0.25
    edited: Annotated[Share, Meta(description="Share of items whose title or body changes later.")] = 0.02
    deleted: Annotated[Share, Meta(description="Share of items that are taken away again.")] = 0.01
    pace_per_s: Annotated[float, Meta(ge=0, description="Sightings a second of real time; 0: as fast as taken.")] = 0.0


# -- bounds ------------------------------------------------------------------------------------------------------------

STORY_ITEMS: Final = (7.0, 0.85, 2, 300)
"""Items a story: median, sigma (log-normal), least, most. Stories of the news are heavy-tailed."""
STORY_HOURS: Final = (9.0, 0.8, 0.5, 96.0)
"""Hours that a story lasts."""
SECOND_WIND: Final = 0.2
"""Share of stories that flare up again."""
SUBJECTS_KEPT: Final = 240
"""Organisations that a new story may be about again …"""
SUBJECT_AGAIN: Final = 0.15
"""… and how often it is. What makes topics hard: two stories of one subject."""
NAMED_CAUSE: Final = 0.6
"""Share of stories whose cause has a place of its own."""
LATELY: Final = 80
"""A story is seldom of the same field and event as one of so many before it …"""
FRESH_TRIES: Final = 3
"""… but it may be: so often another one is looked for."""
OWN_NAME: Final = 0.8
"""Share of the noise that names somebody or something of its own, as most posts of real people do."""
NAMED_NOISE: Final = 0.06
"""Share of the noise that names the subject of some story."""
SITES: Final = 180
BODY_SHARE: Final = 0.7
TAIL_SHARE: Final = 0.35
"""Share of headlines that say a little more than their phrasing does."""
BRANDED: Final = 0.4
"""Share of stories whose object has a name of its own; the others' are marked by an everyday word."""
TICK_SIGHTINGS_S: Final = 0.2
"""At a pace, a batch is what comes in so long."""


COPIES: Final = ("url", "exact", "syndicated", "near-duplicate")
"""The same page by another link; the same headline elsewhere; with the site's or an agency's name; edited."""
RETOLD: Final = "retold"
"""Told in the same frame as an item before it, some words apart: readers would not agree on whether it is a copy."""


class Truth(NamedTuple):
    """What an item really belongs to."""

    topic: str
    """The story; an item of the noise is a topic of its own."""
    trend: str | None
    """The slug of the story's subject; None for noise."""
    copy_of: str | None = None
    """The external id of the first item with its words."""
    how: str | None = None
    """How it copies: one of ``COPIES``; or ``RETOLD``."""


class _Cursor(Struct, frozen=True):
    """Sightings delivered of which world."""

    world: str
    sightings: int


# -- the connector -----------------------------------------------------------------------------------------------------


class SyntheticConnector:
    """Emits a world once, in the order in which it is observed."""

    source = "synthetic"
    interval_s: float | None = None
    limits = Limits(priority=2, attempts=1)

    def __init__(self, options: SyntheticOptions | None = None) -> None:
        self._options = options or SyntheticOptions()
        self.world = World(self._options)
        self.name = f"synthetic:{self.world.key}"

    async def batches(self, cursor: bytes | None, context: Context) -> AsyncGenerator[Batch, None]:
        """The sightings after the cursor; what lies before is made again and passed over."""
        done = self._done(cursor)
        pace = self._options.pace_per_s
        size = BATCH_SIGHTINGS if not pace else max(1, min(BATCH_SIGHTINGS, int(pace * TICK_SIGHTINGS_S)))
        batch: list[Sighting] = []
        due = context.clockwork.monotonic()
        for number, (seen, items) in enumerate(self.world.numbered(), start=1):
            if number % BATCH_SIGHTINGS == 0:
                await asyncio.sleep(0)
            if number <= done:
                continue
            batch.append(seen)
            if len(batch) == size:
                if pace:
                    due += size / pace
                    if (wait := due - context.clockwork.monotonic()) > 0:
                        await context.sleep(wait)
                yield self._batch(batch, number, items)
                batch = []
        if batch:
            yield self._batch(batch, number, self._options.items)

    def _done(self, cursor: bytes | None) -> int:
        if cursor is None:
            return 0
        try:
            known = msgspec.json.decode(cursor, type=_Cursor)
        except msgspec.MsgspecError:
            return 0
        return known.sightings if known.world == self.world.key else 0

    def _batch(self, sightings: Sequence[Sighting], number: int, items: int) -> Batch:
        cursor = msgspec.json.encode(_Cursor(world=self.world.key, sightings=number))
        return Batch(tuple(sightings), cursor, fraction=min(1.0, items / self._options.items))


# -- chance ------------------------------------------------------------------------------------------------------------


class Dice:
    """Everything random, from `random()` alone."""

    def __init__(self, seed: str) -> None:
        digest = hashlib.sha256(seed.encode()).digest()
        self.random = random.Random(int.from_bytes(digest, "big")).random

    def chance(self, share: float) -> bool:
        return self.random() < share

    def below(self, bound: int) -> int:
        """0 … bound − 1."""
        return int(self.random() * bound)

    def pick(self, options: Sequence[T]) -> T:
        return options[int(self.random() * len(options))]

    def pick_early(self, options: Sequence[T]) -> T:
        """The first ones more often (about as 1/rank), as audiences are spread over sites."""
        return options[min(len(options) - 1, int(len(options) ** self.random()) - 1)]

    def exponential(self, mean: float) -> float:
        return -mean * math.log(1.0 - self.random())

    def log_normal(self, median: float, sigma: float, least: float, most: float) -> float:
        """Box–Muller, within bounds."""
        normal = math.sqrt(-2.0 * math.log(1.0 - self.random())) * math.cos(2.0 * math.pi * self.random())
        return min(most, max(least, median * math.exp(sigma * normal)))


# -- the world ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Subject:
    """An organisation that stories are about."""

    domain: lexicon.Domain
    short: str
    full: str

    @property
    def slug(self) -> str:
        return _slug(self.full)


@dataclass(frozen=True, slots=True)
class _Story:
    """One thing that happened: all that its items tell in different words."""

    topic: str
    subject: _Subject
    event: lexicon.Event
    slots: Mapping[str, str]
    told: dict[str, str] = field(default_factory=dict)
    """Frames and headlines so far, with the item that had them first."""


@dataclass(frozen=True, slots=True)
class _Item:
    """One item as it was first seen, with what it will have become in the end."""

    seen: Sighting
    truth: Truth
    final: Engagement
    story: _Story | None


@dataclass(order=True, slots=True)
class _Due:
    """Something that happens at a time (seconds after the start); ties by the order in which they were planned."""

    at_s: float
    number: int
    what: str = field(compare=False)
    story: _Story | None = field(compare=False, default=None)
    item: _Item | None = field(compare=False, default=None)
    growth: float = field(compare=False, default=1.0)


class World:
    """A seeded world. Iterate its sightings; ask `truth` what they really were.

    Memory is constant but for `truth`, which holds two strings an item.
    """

    def __init__(self, options: SyntheticOptions | None = None) -> None:
        self.options = options or SyntheticOptions()
        start = self.options.start
        self._start = start.replace(tzinfo=UTC) if start.tzinfo is None else start.astimezone(UTC)
        shape = msgspec.structs.replace(self.options, items=1, pace_per_s=0.0, start=self._start)
        self.key = hashlib.sha256(msgspec.json.encode(shape, order="deterministic")).hexdigest()[:12]
        """Names this world among all; the number of items does not count."""

    def __iter__(self) -> Iterator[Sighting]:
        return (seen for seen, _, _ in self._run())

    def numbered(self) -> Iterator[tuple[Sighting, int]]:
        """Sightings, each with the number of distinct items so far."""
        return ((seen, items) for seen, items, _ in self._run())

    @cached_property
    def truth(self) -> Mapping[str, Truth]:
        """The truth of every item, by external id."""
        return {seen.external_id: truth for seen, _, truth in self._run()}

    def _run(self) -> Iterator[tuple[Sighting, int, Truth]]:
        return _Simulation(self.options, self._start, self.key).run()


class _Simulation:
    """Plays the world once, event by event."""

    def __init__(self, options: SyntheticOptions, start: datetime, key: str) -> None:
        self._options = options
        self._start = start
        self._key = key
        self._dice = Dice(key)
        self._due: list[_Due] = []
        self._planned = 0
        self._items = 0
        self._stories = 0
        self._subjects: deque[_Subject] = deque(maxlen=SUBJECTS_KEPT)
        self._lately: deque[tuple[str, str]] = deque(maxlen=LATELY)
        self._sites = _sites(self._dice)
        self._birth_gap_s = self._gap_between_births()

    def _gap_between_births(self) -> float:
        """Seconds between two new stories, so that about ``per_day`` items come a day."""
        median, sigma, _, _ = STORY_ITEMS
        size = median * math.exp(sigma**2 / 2) * (1 + self._options.echoes) * (1 + SECOND_WIND / 2)
        return 86_400.0 * size / (self._options.per_day * (1 - self._options.noise))

    def run(self) -> Iterator[tuple[Sighting, int, Truth]]:
        """Sightings in order, each with the number of items so far and its truth."""
        median_h, _, _, _ = STORY_HOURS
        self._plan(0.0, "born")
        for _ in range(int(median_h * 3600 / 2 / self._birth_gap_s)):  # what had begun just before
            self._begin_story(self._dice.exponential(600.0))
        while self._due:
            due = heapq.heappop(self._due)
            full = self._items >= self._options.items
            if due.what == "born":
                if not full:
                    self._begin_story(due.at_s)
                    self._plan(due.at_s + self._dice.exponential(self._birth_gap_s), "born")
            elif due.what in ("story", "echo", "noise"):
                if not full:
                    item = self._appear(due)
                    yield item.seen, self._items, item.truth
            elif due.item is not None:
                yield self._later(due, due.item), self._items, due.item.truth

    def _plan(
        self, at_s: float, what: str, story: _Story | None = None, item: _Item | None = None, growth: float = 1.0
    ) -> None:
        self._planned += 1
        heapq.heappush(self._due, _Due(at_s, self._planned, what, story, item, growth))

    # -- stories ---------------------------------------------------------------------------------------------------

    def _begin_story(self, at_s: float) -> None:
        """A new story with all its items ahead: many at first, fewer later, some stories flare up again."""
        story = self._story()
        items = int(self._dice.log_normal(*STORY_ITEMS))
        span_s = self._dice.log_normal(*STORY_HOURS) * 3600
        for _ in range(items):
            self._plan(at_s + span_s * self._dice.random() ** 2.2, "story", story)
        if self._dice.chance(SECOND_WIND):
            again_s = at_s + span_s * (1.0 + self._dice.random())
            for _ in range(items // 2):
                self._plan(again_s + span_s * 0.5 * self._dice.random() ** 2.2, "story", story)

    def _story(self) -> _Story:
        dice = self._dice
        self._stories += 1
        subject, event = self._subject_and_event()
        domain = subject.domain
        thing, other_word = dice.pick(domain.objects)
        mark = self._name() if dice.chance(BRANDED) else dice.pick(dice.pick(lexicon.MARKS))
        thing, other_word = f"{mark} {thing}", f"{mark} {other_word}"
        number = dice.pick(event.numbers)
        amount = str(2 + dice.below(96))
        slots = {
            "o": thing,
            "u": other_word,
            "p": self._place(),
            "h": self._person(),
            "q": self._organisation(dice.pick(lexicon.DOMAINS) if dice.chance(0.2) else domain).short,
            "c": dice.pick(domain.causes) + (f" in {self._name()}" if dice.chance(NAMED_CAUSE) else ""),
            "d": dice.pick(lexicon.DAYS),
            "n": number.replace("{i}", amount),
            "i": amount,
            "g": str(2 + dice.below(4)),
        }  # fmt: skip
        return _Story(f"story-{self._key}-{self._stories}", subject, event, slots)

    def _subject_and_event(self) -> tuple[_Subject, lexicon.Event]:
        """About whom and what: seldom the same kind of thing in the same field twice at a time."""
        for _ in range(FRESH_TRIES):
            subject = self._subject()
            name = self._dice.pick(subject.domain.events)
            if (subject.domain.name, name) not in self._lately:
                break
        self._lately.append((subject.domain.name, name))
        return subject, lexicon.EVENTS[name]

    def _subject(self) -> _Subject:
        if self._subjects and self._dice.chance(SUBJECT_AGAIN):
            return self._dice.pick(self._subjects)
        subject = self._organisation(self._dice.pick(lexicon.DOMAINS))
        self._subjects.append(subject)
        return subject

    def _organisation(self, domain: lexicon.Domain) -> _Subject:
        short = self._name()
        return _Subject(domain, short, f"{short} {self._dice.pick(domain.suffixes)}")

    def _name(self) -> str:
        dice = self._dice
        middle = dice.pick(lexicon.NAME_MIDDLES) if dice.chance(0.6) else ""
        return dice.pick(lexicon.NAME_HEADS) + middle + dice.pick(lexicon.NAME_TAILS)

    def _place(self) -> str:
        return self._dice.pick(lexicon.PLACE_HEADS) + self._dice.pick(lexicon.PLACE_TAILS)

    def _person(self) -> str:
        surname = self._dice.pick(lexicon.SURNAME_HEADS) + self._dice.pick(lexicon.SURNAME_TAILS)
        return f"{self._dice.pick(lexicon.GIVEN_NAMES)} {surname}"

    # -- items -----------------------------------------------------------------------------------------------------

    def _appear(self, due: _Due) -> _Item:
        """A first sighting, and what is going to follow it."""
        dice, options = self._dice, self._options
        self._items += 1
        if due.what == "echo" and due.item is not None:
            item = self._echo(due.item, due.at_s)
        elif due.story is not None:
            item = self._told(due.story, due.at_s)
            if dice.chance(options.echoes):
                self._plan(due.at_s + 60 + dice.exponential(5_400), "echo", item=item)
        else:
            item = self._noise(due.at_s)
        if due.what != "noise":
            # Noise comes along with the news, so that its share is the same whenever one looks.
            while dice.chance(options.noise):
                self._plan(due.at_s + dice.exponential(900.0), "noise")
        if dice.chance(options.reobserved):
            for step in range(1 + dice.below(3)):
                self._plan(
                    due.at_s + 1_800 * 4**step * (0.8 + 0.4 * dice.random()), "grow", item=item, growth=0.4 + 0.3 * step
                )
        if dice.chance(options.edited):
            self._plan(due.at_s + 600 + dice.exponential(5_400), "edit", item=item)
        if dice.chance(options.deleted):
            self._plan(due.at_s + 21_600 + dice.exponential(14_400), "delete", item=item)
        return item

    def _told(self, story: _Story, at_s: float) -> _Item:
        """An item in which some site tells the story its own way."""
        dice, domain = self._dice, story.subject.domain
        frame = first_frame = dice.pick(story.event.titles)
        told = set(_SLOT.findall(frame))
        if not told & {"o", "u", "c"}:
            frame = f"{frame} {dice.pick(lexicon.MATTERS)}"  # a headline says what it is about
        elif dice.chance(TAIL_SHARE) and not frame.endswith("?"):
            tail = dice.pick(lexicon.TAILS)
            if not set(_SLOT.findall(tail)) & told:
                frame = f"{frame} {tail}"
        title = self._phrase(frame, story)
        body = ""
        if dice.chance(BODY_SHARE):
            sentences = [self._phrase(dice.pick(story.event.bodies), story)]
            if dice.chance(0.5):
                sentences.append(self._phrase(dice.pick(story.event.bodies), story))
            if dice.chance(0.2):
                sentences.append(dice.pick(domain.asides))
            body = " ".join(dict.fromkeys(sentences))
        this = self._external_id()
        same_frame = story.told.setdefault(f"frame {first_frame}", this)
        same_title = story.told.setdefault(title, this)
        truth = Truth(story.topic, story.subject.slug)
        if same_title != this:
            truth = truth._replace(copy_of=same_frame, how="exact")
        elif same_frame != this:
            truth = truth._replace(copy_of=same_frame, how=RETOLD)
        return self._item(at_s, title, body, truth, story, domain.name, Kind.ARTICLE)

    def _noise(self, at_s: float) -> _Item:
        """An item that belongs to no story."""
        dice = self._dice
        pieces = [dice.pick(lexicon.NOISE_PIECES) for _ in range(2 + dice.below(2))]
        if self._subjects and dice.chance(NAMED_NOISE):
            pieces.insert(dice.below(3), dice.pick(self._subjects).short)
        elif dice.chance(OWN_NAME):
            pieces.insert(dice.below(3), dice.pick(lexicon.NOISE_NAMES))
        title = self._fill(pieces[0], self._everyday())
        for piece in pieces[1:]:
            join = dice.pick(lexicon.NOISE_JOINS)
            title += join + self._fill(piece, self._everyday(), capital=join in ("? ", ". "))
            title += ")" if join == " (" else ""
        body = ""
        if dice.chance(BODY_SHARE):
            body = " ".join(
                self._fill(dice.pick(lexicon.NOISE_BODIES), self._everyday()) for _ in range(1 + dice.below(2))
            )
        return self._item(at_s, title, body, Truth(f"noise-{self._key}-{self._items}", None), None, "life", Kind.POST)

    def _everyday(self) -> dict[str, str]:
        dice = self._dice
        ing, field_, abstract = dice.pick(lexicon.DOINGS), dice.pick(lexicon.FIELDS), dice.pick(lexicon.ABSTRACTS)
        return {
            "t": dice.pick(lexicon.THINGS),
            "t2": dice.pick(lexicon.THINGS),
            "a": dice.pick(lexicon.ADJECTIVES),
            "a2": dice.pick(lexicon.ADJECTIVES),
            "an": dice.pick(lexicon.ANIMALS),
            "an2": dice.pick(lexicon.ANIMALS),
            "plant": dice.pick(lexicon.PLANTS),
            "plant2": dice.pick(lexicon.PLANTS),
            "food": dice.pick(lexicon.FOODS),
            "trade": dice.pick(lexicon.TRADES),
            "trade2": dice.pick(lexicon.TRADES),
            "city": dice.pick(lexicon.CITIES),
            "city2": dice.pick(lexicon.CITIES),
            "year": str(1700 + dice.below(300)),
            "ing": ing,
            "Ing": ing.capitalize(),
            "ing2": dice.pick(lexicon.DOINGS),
            "field": field_,
            "Field": field_.capitalize(),
            "abs": abstract,
            "Abs": abstract.capitalize(),
            "m": dice.pick(lexicon.MACHINES),
            "l": dice.pick(lexicon.LAW_AND_MONEY),
            "b": dice.pick(lexicon.BODIES),
            "e": dice.pick(lexicon.EARTH_AND_SKY),
            "f": dice.pick(lexicon.PAST_AND_FAITH),
            "g": dice.pick(lexicon.GAMES_AND_ARTS),
            "k": dice.pick(lexicon.CLOTHES_AND_STUFF),
            "w": dice.pick(lexicon.WHERES),
            "N": self._name(),
            "P": self._place(),
            "H": self._person(),
        }

    def _echo(self, original: _Item, at_s: float) -> _Item:
        """A copy: the same page by another link, the text under another roof, or a lightly edited title."""
        dice, seen = self._dice, original.seen
        site = dice.pick(self._sites)
        title, body, url = seen.title, seen.body, seen.url
        name = site.split(".")[0].capitalize()
        editor = Dice(f"{self._key}/{seen.external_id}/{self._items}")  # how it is edited moves nothing else
        way = dice.random()
        if way < 0.4:
            how, url = "url", _linked(editor, str(seen.url), name.lower())
            if dice.chance(0.5):
                title = f"{title} | {name}"
        elif way < 0.6:
            how, url = "exact", None
        elif way < 0.7:
            how, url = "syndicated", None
            agency = editor.pick(lexicon.AGENCIES)
            title = editor.pick(("{t} - {s}", "{t} | {s}", "{t} ({a})", "{a}: {t}")).format(t=title, s=name, a=agency)
            body = f"({agency}) {body}" if body else ""
        else:
            how, url = "near-duplicate", None
            prefix = dice.pick(("Breaking: ", "Report: ", "Update: "))
            title, body = _edited(editor, title, prefix), body.split(". ")[0]
        first = original.truth.copy_of or seen.external_id
        truth = original.truth._replace(copy_of=first, how=how)
        return self._item(at_s, title, body, truth, original.story, seen.category, seen.kind, site=site, url=url)

    def _external_id(self) -> str:
        """Of the item that is being made."""
        return hashlib.sha256(f"{self._key}/{self._items}".encode()).hexdigest()[:16]

    def _item(
        self, at_s: float, title: str, body: str, truth: Truth, story: _Story | None, category: str | None, kind: Kind,
        site: str | None = None, url: str | None = None,
    ) -> _Item:  # fmt: skip
        dice = self._dice
        external_id = self._external_id()
        site = site or dice.pick_early(self._sites)
        points = dice.log_normal(8.0, 1.4, 0.0, 50_000.0)
        final = Engagement(
            points=int(points), comments=int(points * dice.random() * 0.8), shares=int(points * dice.random() * 0.2)
        )
        published = self._start + timedelta(seconds=max(0, int(at_s - dice.exponential(90.0))))
        seen = Sighting(
            source="synthetic",
            external_id=external_id,
            kind=kind,
            title=title,
            observed_at=self._time(at_s),
            published_at=published,
            url=url or f"https://{site}/{published:%Y/%m}/{_slug(title)[:60]}-{external_id[:6]}",
            body=body,
            author=f"{dice.pick(lexicon.GIVEN_NAMES)} {dice.pick(lexicon.SURNAME_HEADS)}".lower().replace(" ", "."),
            publisher=site,
            lang="en",
            category=category if dice.chance(0.5) else None,
            engagement=_part(final, 0.1),
        )
        return _Item(seen, truth, final, story)

    def _later(self, due: _Due, item: _Item) -> Sighting:
        """The item, seen again."""
        seen = item.seen
        at = self._time(due.at_s)
        if due.what == "delete":
            return msgspec.structs.replace(
                seen, kind=Kind.DELETED, title="", body="", observed_at=at, engagement=item.final, again=True
            )
        if due.what == "edit":
            body = seen.body
            if item.story is not None:
                body = f"{body} {self._phrase(self._dice.pick(item.story.event.bodies), item.story)}"
            return msgspec.structs.replace(seen, title=f"{seen.title} (updated)", body=body, observed_at=at, again=True)
        return msgspec.structs.replace(seen, observed_at=at, engagement=_part(item.final, due.growth), again=True)

    def _time(self, at_s: float) -> datetime:
        return self._start + timedelta(milliseconds=int(at_s * 1000))

    # -- words -----------------------------------------------------------------------------------------------------

    def _phrase(self, frame: str, story: _Story) -> str:
        """A frame told of the story: each time with other words for what can be called two ways."""
        dice, subject = self._dice, story.subject
        slots = dict(story.slots)
        slots["s"] = subject.full if dice.chance(0.25) else subject.short
        slots["r"] = dice.pick(subject.domain.roles)
        if dice.chance(0.3):
            slots["o"], slots["u"] = slots["u"], slots["o"]
        return self._fill(frame, slots)

    def _fill(self, frame: str, slots: Mapping[str, str], capital: bool = True) -> str:
        """Choices made, slots filled, the first letter a capital."""
        text = _CHOICE.sub(lambda match: self._dice.pick(match.group(1).split("|")), frame)
        text = _SLOT.sub(lambda match: slots[match.group(1)], text)
        if capital:
            text = text[0].upper() + text[1:]
        text = _ARTICLE.sub(r"\1n", text)
        return _AFTER_STOP.sub(lambda match: match.group(1) + match.group(2).upper(), text)


_CHOICE = re.compile(r"\[([^\]]+)\]")
_SLOT = re.compile(r"\{(\w+)\}")
_ARTICLE = re.compile(r"\b([Aa])(?= [aeioAEIO])")
_AFTER_STOP = re.compile(r"([.!?] )([a-z])")


def _linked(editor: Dice, url: str, site: str) -> str:
    """Another link to the same page, as feeds, phones and caches of pages have it."""
    host, _, path = url.removeprefix("https://").partition("/")
    return editor.pick(
        (
            f"{url}?utm_source={site}&utm_medium=feed",
            f"{url}?utm_source={site}&fbclid={editor.below(10**9)}",
            f"https://m.{host}/{path}?utm_source={site}",
            f"http://www.{host}/{path}/amp?utm_source={site}",
            f"{url}/?utm_source={site}#comments",
        )
    )


def _edited(editor: Dice, title: str, prefix: str) -> str:
    """A title as another editor leaves it."""
    words = title.split(" ")
    at = 1 + editor.below(len(words) - 1)
    return editor.pick(
        (
            prefix + title,
            prefix + title,
            f"{title} {editor.pick(('(updated)', '- live', '| what we know', 'today'))}",
            " ".join([*words[:at], editor.pick(("now", "also", "reportedly")), *words[at:]]),
            title.upper(),
            " ".join(words[:-1]) + " ..." if len(words) > 6 else f"{title}...",
        )
    )


def _part(total: Engagement, share: float) -> Engagement:
    """So much of an engagement."""
    return Engagement(
        points=int(total.points * share), comments=int(total.comments * share), shares=int(total.shares * share)
    )


def _sites(dice: Dice) -> tuple[str, ...]:
    """Invented sites, the largest first; ``.example`` belongs to nobody (RFC 2606)."""
    names: dict[str, None] = {}
    while len(names) < SITES:
        names[f"{dice.pick(lexicon.SITE_HEADS)}{dice.pick(lexicon.SITE_TAILS)}.example"] = None
    return tuple(names)


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
