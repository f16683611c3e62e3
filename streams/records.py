"""The records on the wire: frozen, typed, validated when decoded, each with a stable ``record_id``.

JSON on the wire; times are UTC in RFC 3339. Evolution is additive: fields are only added, with a default, and readers
ignore fields that they do not know; a change that would break a reader raises ``VERSION`` (it travels in the Kafka
headers) and brings a decoder for the old version. ``tests/golden/records`` holds one of each as bytes.
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, ClassVar, TypeAlias

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import force_setattr

from streams.ids import stable_id

Text = str
Short = Annotated[str, Meta(min_length=1, max_length=512)]
"""An identifier or name: never empty, never longer than 512 characters."""
Time = Annotated[datetime, Meta(tz=True)]
"""An instant; any offset is accepted and kept as UTC."""
Count = Annotated[int, Meta(ge=-(2**53), le=2**53)]
"""A whole number that every JSON reader can hold exactly."""
Slug = Annotated[str, Meta(min_length=1, max_length=200)]
Title = Annotated[str, Meta(max_length=10_000)]
Url = Annotated[str, Meta(max_length=8_192)]
Name = Annotated[str, Meta(max_length=512)]
"""A name, label or code. Only a body may be long: what is repeated in derived records has a bound."""
Vector: TypeAlias = str
"""A vector on the wire: base64 of little-endian float16, see :mod:`streams.vectors`."""


def _utc(record: Struct, *names: str) -> None:
    """Rewrites the named times of a record as UTC (equal instants then have equal bytes)."""
    for name in names:
        value = getattr(record, name)
        if value is not None and value.tzinfo is not UTC:
            force_setattr(record, name, value.astimezone(UTC))


class Record(Struct, frozen=True, kw_only=True):
    """Base of all records: a schema name and version (sent in the headers) and a stable identity."""

    SCHEMA: ClassVar[str] = ""
    VERSION: ClassVar[int] = 1

    @property
    def record_id(self) -> str:
        """A UUID that is the same whenever the same fact is written again."""
        raise NotImplementedError

    @property
    def seen_at(self) -> datetime | None:
        """When what it says was observed, by which flows put records of several partitions in order; None: whenever it
        arrives."""
        return None


class Kind(StrEnum):
    """What an item is; ``deleted`` says that the source has taken it away."""

    POST = "post"
    ARTICLE = "article"
    VIDEO = "video"
    REPOSITORY = "repository"
    PRODUCT = "product"
    COMMENT = "comment"
    QUESTION = "question"
    JOB = "job"
    POLL = "poll"
    PODCAST = "podcast"
    OTHER = "other"
    DELETED = "deleted"


class Engagement(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What an audience has done with an item so far: totals, not increments."""

    points: Count = 0
    comments: Count = 0
    shares: Count = 0
    stars: Count = 0
    views: Count = 0

    def minus(self, before: Engagement) -> Engagement:
        """The growth since ``before``, field by field (negative where a total has shrunk)."""
        return Engagement(
            points=self.points - before.points,
            comments=self.comments - before.comments,
            shares=self.shares - before.shares,
            stars=self.stars - before.stars,
            views=self.views - before.views,
        )


class Observation(Record, frozen=True, kw_only=True):
    """One sighting of an item: the first, a later one with new engagement, an edit, or its deletion."""

    SCHEMA: ClassVar[str] = "observation"

    item_id: Short
    """``streams.ids.item_id_of(source, external_id)``."""
    source: Slug
    external_id: Short
    """What the source itself calls the item."""
    kind: Kind
    title: Title
    observed_at: Time
    """When the connector saw it (a replay of a file simulates it)."""
    published_at: Time
    trend_id: Slug
    """The router's home trend for this sighting; cluster keeps that of the first."""
    url: Url | None = None
    body: Text = ""
    author: Name | None = None
    publisher: Name | None = None
    """Who stands behind it (a site, a channel, a subreddit): bursts count distinct publishers."""
    lang: Name | None = None
    tags: Annotated[tuple[Name, ...], Meta(max_length=100)] = ()
    category: Name | None = None
    engagement: Engagement = Engagement()
    mentions: Annotated[tuple[Slug, ...], Meta(max_length=10)] = ()
    """Up to two more trends that the item is about."""

    def __post_init__(self) -> None:
        _utc(self, "observed_at", "published_at")

    @property
    def event_time(self) -> datetime:
        """``min(published_at, observed_at)``: a source cannot publish into the future."""
        return min(self.published_at, self.observed_at)

    @property
    def record_id(self) -> str:
        return stable_id("observation", self.item_id, self.observed_at.isoformat())


class EmbeddedItem(Record, frozen=True, kw_only=True):
    """An observation with the vector of its cleaned text."""

    SCHEMA: ClassVar[str] = "embedded-item"

    item: Observation
    text_hash: Short
    """sha256 (hex) of the text that was embedded: the same hash and model, the same vector."""
    vector: Vector | None
    """None for a deletion, and for an item without any text."""
    model: Short
    dimensions: Annotated[int, Meta(ge=1, le=65_536)]
    arrived_at: Time | None = None
    """When the observation was appended to its raw stream: nothing can have been seen later. None: not known."""

    def __post_init__(self) -> None:
        _utc(self, "arrived_at")

    @property
    def record_id(self) -> str:
        return stable_id("embedded", self.model, self.item.item_id, self.item.observed_at.isoformat())

    @property
    def seen_at(self) -> datetime:
        return self.item.observed_at


class Change(StrEnum):
    """Why an EnrichedItem was written."""

    FIRST = "first"
    EDIT = "edit"
    ENGAGEMENT = "engagement"
    DELETED = "deleted"


class EnrichedItem(Record, frozen=True, kw_only=True):
    """An item with everything that was decided about it. The newest ``seq`` of an item_id wins."""

    SCHEMA: ClassVar[str] = "enriched-item"

    generation: Slug
    item: Observation
    """The latest observation; its ``trend_id`` and ``mentions`` are those fixed at first arrival."""
    change: Change
    text_hash: Short
    vector: Vector | None
    """None where ``change`` leaves text and vector alone (engagement, deleted)."""
    model: Short
    dimensions: Annotated[int, Meta(ge=1, le=65_536)]
    topic_id: Short
    similarity: float
    """To the topic's centroid when it joined; 1.0 for the item that founded it."""
    is_new_topic: bool
    echo_of: Short | None = None
    """The item_id of the earlier item that this one copies."""
    first_seen: Time
    """event time of the first sighting: fixed, part of the primary key in the stores."""
    seq: Count
    """The number of the decision: the version of the item."""
    arrived_at: Time | None = None
    """As of the EmbeddedItem: which of its times were believed depends on it."""

    def __post_init__(self) -> None:
        _utc(self, "first_seen", "arrived_at")

    @property
    def trend_id(self) -> str:
        """The home trend: that of the first sighting, for good."""
        return self.item.trend_id

    @property
    def record_id(self) -> str:
        return stable_id("enriched", self.generation, self.item.item_id, str(self.seq))


class Mention(Record, frozen=True, kw_only=True):
    """One item counted for one trend: its home trend, or one that it mentions. Mentions add up in any order."""

    SCHEMA: ClassVar[str] = "mention"

    generation: Slug
    trend_id: Slug
    item_id: Short
    topic_id: Short
    home: bool
    """Whether this is the item's home trend."""
    event_time: Time
    first_seen: Time
    publisher: str | None = None
    source: Slug
    weight: Annotated[int, Meta(ge=-1, le=1)]
    """+1 a new item, −1 a deleted one, 0 only its engagement has changed."""
    echo: bool = False
    engagement: Engagement = Engagement()
    """What has been added since the last mention of this item (a delta)."""
    seq: Count

    def __post_init__(self) -> None:
        _utc(self, "event_time", "first_seen")

    @property
    def record_id(self) -> str:
        return stable_id("mention", self.generation, self.trend_id, self.item_id, str(self.seq))


class Life(StrEnum):
    """What has happened to a topic."""

    BORN = "born"
    GREW = "grew"
    MERGED = "merged"
    FADED = "faded"


class LeadingItem(Struct, frozen=True, kw_only=True):
    """An item that stands for its topic: nearest to the centroid first."""

    item_id: Short
    title: Text
    url: str | None = None
    body: Annotated[str, Meta(max_length=600)] = ""
    publisher: str | None = None
    source: Slug
    published_at: Time
    points: Count = 0
    comments: Count = 0

    def __post_init__(self) -> None:
        _utc(self, "published_at")


class TopicSums(Struct, frozen=True, kw_only=True):
    """A topic's own sums over its items; they add when two topics merge."""

    items: Count = 0
    echoes: Count = 0
    engagement: Engagement = Engagement()
    rank: float | None = None
    """Forward-decay rank key: log Σ weight·e^(λ·event time); orders topics without ever being rewritten.
    None while there is nothing to sum."""


class TopicUpdate(Record, frozen=True, kw_only=True):
    """The state of a topic after something has happened to it. The newest ``seq`` of a topic_id wins."""

    SCHEMA: ClassVar[str] = "topic-update"

    generation: Slug
    topic_id: Short
    life: Life
    merged_into: Short | None = None
    """The topic that took this one over; set if and only if ``life`` is merged."""
    size: Count
    """Items, echoes included."""
    publishers: Count
    """Distinct publishers (counted exactly up to a bound, see models.clustering)."""
    sources: dict[str, Count]
    """Items by source."""
    centroid: Vector
    model: Short
    dimensions: Annotated[int, Meta(ge=1, le=65_536)]
    terms: tuple[tuple[str, float], ...]
    """The most telling terms with their weights, best first."""
    sums: TopicSums
    items: Annotated[tuple[LeadingItem, ...], Meta(max_length=5)]
    first_seen: Time
    last_seen: Time
    trend_id: Slug
    """The home trend: that of the founding item, for good."""
    trends: dict[str, Count]
    """Items by home trend, the largest first (at most 20)."""
    seq: Count
    reason: Short | None = None
    """Why it takes no more items, in words and figures; set where ``life`` says so."""
    asked_by: Short | None = None
    """The id of the feedback that asked for the merge; None: the flow decided."""

    def __post_init__(self) -> None:
        _utc(self, "first_seen", "last_seen")

    @property
    def record_id(self) -> str:
        return stable_id("topic", self.generation, self.topic_id, str(self.seq))


class TopicSummary(Record, frozen=True, kw_only=True):
    """What a topic says, in a headline and one or two sentences. The newest (topic_seq, attempt) wins."""

    SCHEMA: ClassVar[str] = "topic-summary"

    generation: Slug
    topic_id: Short
    trend_id: Slug
    headline: Text
    headline_of: Short | None = None
    """The item whose title it is, cleaned; None: a model has written it."""
    summary: Text
    """Sentences of titles and bodies, quoted exactly, or a model's; the headline where there is no more to say."""
    quotes: Annotated[tuple[Short, ...], Meta(max_length=10)] = ()
    """The items that its sentences are taken from, in their order."""
    keywords: tuple[str, ...]
    entities: tuple[str, ...] = ()
    """Names as the items write them."""
    lang: Name | None = None
    """The language of most of what leads the topic (ISO 639-1); None: it cannot be told."""
    category: Name | None = None
    """That of the tracked subjects that most of its items belong to."""
    method: Slug
    """``extractive`` or ``llm``."""
    model: Short
    confidence: float | None = None
    """0 … 1, the model's own word."""
    fallback: Slug | None = None
    """Why it is extractive although a model was to write it; it is tried again, as a further attempt."""
    cached: bool
    topic_seq: Count
    """The ``seq`` of the TopicUpdate that was summarised."""
    attempt: Count = 1
    created_at: Time

    def __post_init__(self) -> None:
        _utc(self, "created_at")

    @property
    def record_id(self) -> str:
        return stable_id("summary", self.generation, self.topic_id, str(self.topic_seq), str(self.attempt))


class TrendScore(Record, frozen=True, kw_only=True):
    """How a trend stands in one slice of time, against its own past. The newest ``version`` of a trend_id wins."""

    SCHEMA: ClassVar[str] = "trend-score"

    generation: Slug
    trend_id: Slug
    slice_start: Time
    slice_s: Annotated[int, Meta(ge=1)]
    """Length of a slice, seconds."""
    counts: tuple[Count, ...]
    """Items in the last slices, oldest first; the last one is ``slice_start``'s (at most 168)."""
    items: Count
    """Items of this slice (= counts[-1])."""
    total: Count
    """Items since the trend was first seen."""
    publishers: Count
    """Distinct publishers in the burst window."""
    story: Count | None = None
    """Items of the burst window that are of one topic, of the topic that has most of them. None: not known."""
    sources: dict[str, Count]
    """Items by source in the burst window."""
    expected: float
    """Items that the trend's own past lets one expect in the burst window."""
    burst: float
    """(count − expected) / (deviation + bias): how far above its own past; 0 below the floors."""
    velocity: float
    """Items an hour in the burst window, minus those an hour in the window before."""
    acceleration: float = 0.0
    """How fast the rate changes, in items an hour each hour: the last quarter of the burst window against the one
    before."""
    engagement: Engagement
    """What the items of the burst window have gained."""
    engagement_velocity: float = 0.0
    """The same an hour, as one figure (see ``models.scoring.attention``)."""
    spread: float
    """Distinct publishers per item in the burst window, 0 … 1."""
    rank: float | None
    """Rank key: forward-decayed sum of bursts-weighted items in log space; comparable between trends at any time."""
    hour_expected: float = 0.0
    """Items that the same past lets one expect in this slice …"""
    hour_burst: float = 0.0
    """… and how far above it the slice is, by the same formula."""
    peak: float = 0.0
    """The strongest burst that still counts (this one, or an earlier one that has not faded below it) …"""
    peaked_at: Time | None = None
    """… and the end of its window."""
    late: Annotated[tuple[Count, ...], Meta(max_length=168)] = ()
    """What of ``counts`` came after its slice had closed, slice by slice; empty: nothing."""
    hidden: Annotated[tuple[Annotated[int, Meta(ge=0, le=100)], ...], Meta(max_length=168)] = ()
    """How many percent of the trend's sources were down, slice by slice; empty: none ever was."""
    first_seen: Time
    last_seen: Time
    version: Count
    """Mentions that this score has counted: grows with every one of them."""

    def __post_init__(self) -> None:
        _utc(self, "slice_start", "peaked_at", "first_seen", "last_seen")

    @property
    def record_id(self) -> str:
        return stable_id("score", self.generation, self.trend_id, str(self.version))


class TrendStatus(StrEnum):
    """Whether a tracked subject is followed."""

    ACTIVE = "active"
    RETIRED = "retired"


class TrendDefinition(Record, frozen=True, kw_only=True):
    """A tracked subject of the catalogue: items that match it have it as their home trend. Or another name of one."""

    SCHEMA: ClassVar[str] = "trend-definition"

    trend_id: Slug
    title: Short
    keywords: tuple[str, ...] = ()
    """Words or phrases that select an item, matched at word boundaries, whatever their case."""
    exclude: tuple[str, ...] = ()
    """Words or phrases that veto it."""
    langs: tuple[str, ...] = ()
    """Only items in these languages (empty: all; an item of unknown language always passes)."""
    category: str | None = None
    status: TrendStatus = TrendStatus.ACTIVE
    alias_of: Slug | None = None
    """The trend that readers show this one as: both are one subject. Items go where they went before."""
    alias_reason: Short | None = None
    """Why, in words."""
    updated_at: Time
    version: Count

    def __post_init__(self) -> None:
        _utc(self, "updated_at")

    @property
    def record_id(self) -> str:
        return stable_id("definition", self.trend_id, str(self.version))


class SourceCursor(Record, frozen=True, kw_only=True):
    """How far a connector has read; written only after what it covers was acknowledged."""

    SCHEMA: ClassVar[str] = "source-cursor"

    connector: Slug
    """Which connector, with which target: ``rss``, ``file:posts.csv``."""
    cursor: msgspec.Raw
    """The connector's own JSON."""
    saved_at: Time
    items: Count

    def __post_init__(self) -> None:
        _utc(self, "saved_at")

    @property
    def record_id(self) -> str:
        return stable_id("cursor", self.connector, self.saved_at.isoformat())


class SourceGap(Record, frozen=True, kw_only=True):
    """A time in which a source could not be read: what is missing there is no silence. The newest of a key wins."""

    SCHEMA: ClassVar[str] = "source-gap"

    source: Slug
    connector: Slug
    since: Time
    """When it was read last."""
    until: Time
    """When it was read again; while it cannot be, the last time that it was tried."""
    reason: Annotated[str, Meta(max_length=200)] = ""

    def __post_init__(self) -> None:
        _utc(self, "since", "until")

    @property
    def key(self) -> str:
        """What it is kept under: an outage that goes on is one gap."""
        return f"{self.connector}/{self.since.isoformat()}"

    @property
    def record_id(self) -> str:
        return stable_id("source-gap", self.key, self.until.isoformat())


class Gap(Record, frozen=True, kw_only=True):
    """Records that a flow has skipped because they were gone before it read them, by an operator's word."""

    SCHEMA: ClassVar[str] = "gap"

    generation: Slug
    flow: Slug
    stream: Slug
    partition: Annotated[int, Meta(ge=0)]
    first: Count
    """The first offset that is missing: what the flow would have read next."""
    until: Count
    """The first offset after it that the stream still holds. Between them are records and transaction markers."""
    process: Name
    """Which process skipped it."""
    accepted_at: Time

    def __post_init__(self) -> None:
        _utc(self, "accepted_at")

    @property
    def key(self) -> str:
        """What it is kept under: skipped twice, it is one gap."""
        return f"{self.generation}/{self.flow}/{self.stream}/{self.partition}/{self.first}"

    @property
    def record_id(self) -> str:
        return stable_id("gap", self.key)


class ChangePhase(StrEnum):
    """How far a change of the number of partitions is."""

    PREPARING = "preparing"
    """The new partitions are being made; nobody writes to them yet."""
    ACTIVE = "active"
    """From here on keys are placed by the new number."""


class PartitionChange(Record, frozen=True, kw_only=True):
    """The keyed streams of the pipeline grow together. It counts from the moment at which it was appended."""

    SCHEMA: ClassVar[str] = "partition-change"

    before: Annotated[int, Meta(ge=1, le=1024)]
    """Partitions that it begins from: void where another change has come first."""
    after: Annotated[int, Meta(ge=1, le=1024)]
    phase: ChangePhase
    changed_at: Time

    def __post_init__(self) -> None:
        _utc(self, "changed_at")

    @property
    def record_id(self) -> str:
        return stable_id(
            "partition-change", str(self.before), str(self.after), self.phase.value, self.changed_at.isoformat()
        )


class Granularity(StrEnum):
    """How alike posts must be to be one topic."""

    FINE = "fine"
    NORMAL = "normal"
    COARSE = "coarse"


class GenerationState(StrEnum):
    """What a generation is to the others."""

    BUILDING = "building"
    """Its flows read history."""
    READY = "ready"
    """It has caught up, and is fed beside the live one."""
    LIVE = "live"
    """The one that readers read."""
    RETIRED = "retired"
    """It was live before; a rollback makes it live again."""
    DROPPED = "dropped"
    """Its streams, groups and tables are deleted (or about to be); the name is not used again."""


class FromStage(StrEnum):
    """Where the history of a generation was read."""

    RAW = "raw"
    """Observations, embedded anew."""
    EMBEDDED = "embedded"
    """The vectors of another generation, of the same model."""


class Generation(Record, frozen=True, kw_only=True):
    """A generation, and what its flows need to run. Under the key ``live`` stands a copy of the one that readers read:
    that one record is what promote and rollback write. The newest ``version`` of a key wins."""

    SCHEMA: ClassVar[str] = "generation"

    name: Annotated[str, Meta(pattern="^[a-z][a-z0-9_]{0,31}$")]
    state: GenerationState
    embedder: Slug
    """Kind of the embedding model (the setting ``embedder``) …"""
    model: Name | None = None
    """… its name or folder, where the kind needs one …"""
    url: Url | None = None
    """… the base of its API, where it is remote …"""
    dimensions: Annotated[int, Meta(ge=1, le=65_536)]
    """… and the components of its vectors."""
    granularity: Granularity = Granularity.NORMAL
    """How wide its topics are."""
    built_from: Slug | None = None
    """The generation that was live when this one was begun; None: the first one."""
    from_stage: FromStage | None = None
    from_time: Time | None = None
    """History with an earlier event time was left out."""
    previous: Annotated[tuple[Slug, ...], Meta(max_length=16)] = ()
    """Under the key ``live``: the generations that were live before, the last one first."""
    made_at: Time
    changed_at: Time
    version: Count

    def __post_init__(self) -> None:
        _utc(self, "from_time", "made_at", "changed_at")

    @property
    def record_id(self) -> str:
        return stable_id("generation", self.name, self.state, str(self.version))


class Reason(StrEnum):
    """Why a record became a dead letter. A closed list, also a metric label."""

    NOT_JSON = "not_json"
    MISSING_FIELD = "missing_field"
    WRONG_TYPE = "wrong_type"
    INVALID_VALUE = "invalid_value"
    NUL_CHARACTER = "nul_character"
    UNKNOWN_SCHEMA = "unknown_schema"
    TOO_LARGE = "too_large"
    STORE_REFUSED = "store_refused"
    OUR_FAILURE = "our_failure"
    """An unexpected exception in our own code: counts towards the limit that stops a flow."""


class LetterStatus(StrEnum):
    """What has become of a dead letter."""

    OPEN = "open"
    REDRIVEN = "redriven"
    """Its original was sent again; where that fails too, a new letter says so."""


class DeadLetter(Record, frozen=True, kw_only=True):
    """A record that could not be processed, with what is needed to understand it and to send it again."""

    SCHEMA: ClassVar[str] = "dead-letter"

    letter_id: Annotated[str, Meta(min_length=1, max_length=1024)]
    """``stream/partition/offset``; ``stream/external id`` where a connector could not even send it."""
    stream: Slug
    partition: Annotated[int, Meta(ge=-1)]
    offset: Annotated[int, Meta(ge=-1)]
    reason: Reason
    error: str
    """One line for a person: what was expected, what was found, where."""
    flow: Slug
    """Which flow or connector gave it up."""
    key: str | None = None
    """base64 of the original key."""
    value: str | None = None
    """base64 of the original bytes: whole up to 1 MiB, else the first 64 kB."""
    value_bytes: Count = 0
    value_sha256: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    """For a person: on one line, and whatever is no text replaced."""
    logged_at: Time | None = None
    """When the original was appended to its stream."""
    failed_at: Time
    attempts: Count = 1
    """How often it has failed: 2 for the letter of a record that was redriven once."""
    header_bytes: tuple[tuple[str, str | None], ...] | None = None
    """base64 of the headers' values, only where ``headers`` does not have them exactly."""
    whole: bool = True
    """Whether key, value and headers are all here; what was cut cannot be redriven."""
    status: LetterStatus = LetterStatus.OPEN
    redriven_at: Time | None = None
    redriven_from: str | None = None
    """The letter_id of the failure before this one."""
    first_letter: str | None = None
    """The letter_id of its first failure; None where this is the first."""
    first_failed_at: Time | None = None

    def __post_init__(self) -> None:
        _utc(self, "logged_at", "failed_at", "redriven_at", "first_failed_at")

    @property
    def record_id(self) -> str:
        redriven = (self.redriven_at.isoformat(),) if self.redriven_at else ()
        return stable_id("dead-letter", self.letter_id, str(self.attempts), *redriven)


class ForgetKind(StrEnum):
    """What is to be forgotten."""

    ITEM = "item"
    AUTHOR = "author"


class ForgetRequest(Record, frozen=True, kw_only=True):
    """An item, or whatever an author writes, that must not come back. It holds no name and no text.

    A request about an author has one record for the author and one for each of its items that were known.
    """

    SCHEMA: ClassVar[str] = "forget-request"

    request_id: Short
    kind: ForgetKind
    item_id: Short | None = None
    topics: tuple[Short, ...] = ()
    """The topics that the item was in, as far as the stores knew: what is said of them is said anew."""
    author_hash: Short | None = None
    """Keyed hash of source and normalised name, see :mod:`streams.forgotten`."""
    salt: Short | None = None
    """The key of that hash (hex), the same for all requests of a stack."""
    source: Slug | None = None
    """Of an author: only at this source; None: at all of them."""
    items: Count = 0
    """Of an author: the items that were known."""
    requested_at: Time
    reason: Annotated[str, Meta(max_length=200)] = ""

    def __post_init__(self) -> None:
        _utc(self, "requested_at")

    @property
    def key(self) -> str:
        """What it is kept under: a second request for the same replaces the first."""
        if self.kind is ForgetKind.ITEM:
            return f"item/{self.item_id}"
        return f"author/{self.source or '*'}/{self.author_hash}"

    @property
    def record_id(self) -> str:
        return stable_id("forget", self.request_id, self.key)


class FeedbackKind(StrEnum):
    """What a person says about what the models decided."""

    MERGE = "merge"
    """Two items tell one story."""
    MUTE = "mute"
    """A trend is not to be listed among the rising ones; it is scored all the same."""
    NOT_A_TREND = "not-a-trend"
    """A word is no subject: the router never chooses it again."""


class Feedback(Record, frozen=True, kw_only=True):
    """A person's word on a trend or on two items, which the flows obey for as long as it stands.

    Stories are named by items, not by topics: so it holds in every generation.
    """

    SCHEMA: ClassVar[str] = "feedback"

    kind: FeedbackKind
    trend_id: Slug | None = None
    """Of mute and not-a-trend."""
    items: Annotated[tuple[Short, ...], Meta(max_length=2)] = ()
    """Of merge: two item ids."""
    active: bool = True
    """False: it was taken back."""
    reason: Annotated[str, Meta(max_length=200)] = ""
    said_at: Time
    version: Count

    def __post_init__(self) -> None:
        _utc(self, "said_at")
        of_trend = self.kind in (FeedbackKind.MUTE, FeedbackKind.NOT_A_TREND)
        if of_trend != (self.trend_id is not None) or len(set(self.items)) != (0 if of_trend else 2):
            raise ValueError(f"{self.kind.value} is about {'one trend' if of_trend else 'two items'}, and nothing else")

    @property
    def key(self) -> str:
        """What it is kept under: said again, it replaces what was said before."""
        return f"{self.kind.value}/{self.trend_id or '/'.join(sorted(self.items))}"

    @property
    def feedback_id(self) -> str:
        """The same for the same word, however often it is said and taken back."""
        return f"feedback-{stable_id('feedback', self.key)[:12].replace('-', '')}"

    @property
    def record_id(self) -> str:
        return stable_id("feedback", self.key, str(self.version))


RECORD_TYPES: tuple[type[Record], ...] = (
    Observation,
    EmbeddedItem,
    EnrichedItem,
    Mention,
    TopicUpdate,
    TopicSummary,
    TrendScore,
    TrendDefinition,
    SourceCursor,
    PartitionChange,
    Generation,
    DeadLetter,
    Gap,
    SourceGap,
    ForgetRequest,
    Feedback,
)
