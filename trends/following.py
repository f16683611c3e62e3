"""Which generation a command works on: the one that was set, else the live one; with the model recorded for it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from msgspec.structs import replace

from sinks.postgres.generations import GenerationReader
from streams.admin import StreamAdmin
from streams.dead_letters import Clock, now_utc
from streams.errors import SettingsError, UnavailableError
from streams.generations import Generations, read_generations, save
from streams.records import Generation, GenerationState
from trends.flows import embedder_of
from trends.settings import Settings


@dataclass(frozen=True, slots=True)
class Chosen:
    """The generation that a command works on."""

    settings: Settings
    """With its name, and with the embedding model and granularity that were recorded for it."""
    record: Generation | None
    """None: nothing was recorded; the settings alone say what it is."""
    live: bool
    """Whether readers read it."""


def following(settings: Settings, generations: Generations | None = None) -> Chosen:
    """The generation that was set, else the live one; where one was recorded, with its own embedding model.

    A name that was set can be read without Kafka.

    Raises:
        SettingsError: it is dropped.
        UnavailableError: no generation was set, and Kafka does not say which one is live.
    """
    given = settings.is_set("generation")
    if generations is None:
        try:
            generations = read_generations(settings.kafka())
        except SettingsError:  # no Kafka at all: readers of a store alone
            generations = Generations()
        except UnavailableError as error:
            if not given:
                raise UnavailableError(
                    f"{error}; to go on without Kafka, say which generation (--generation, TRENDS_GENERATION)"
                ) from None
            generations = Generations()
    live = generations.live.name if generations.live else Settings.model_fields["generation"].default
    name = settings.generation if given else live
    record = generations.named.get(name)
    if record is not None and record.state is GenerationState.DROPPED:
        raise SettingsError(f"generation {name} is dropped; live is {live} (`trends generations list`)")
    return Chosen(with_model(settings.having(generation=name), record), record, name == live)


def with_model(settings: Settings, record: Generation | None) -> Settings:
    """These settings with the embedding model and the granularity of a generation: vectors of two models must not
    meet."""
    if record is None:
        return settings
    return settings.having(
        generation=record.name,
        embedder=record.embedder,
        embedder_model=record.model,
        embedder_url=record.url,
        embedder_dimensions=record.dimensions,
        granularity=record.granularity,
    )


def described(settings: Settings, clock: Clock = now_utc) -> Generation:
    """The generation that these settings make, as a record: one that runs, and was never recorded before."""
    at = clock()
    return Generation(
        name=settings.generation, state=GenerationState.READY, embedder=settings.embedder,
        model=settings.embedder_model, url=settings.embedder_url, dimensions=settings.embedder_dimensions,
        granularity=settings.granularity,
        made_at=at, changed_at=at, version=1,
    )  # fmt: skip


def recorded(settings: Settings, clock: Clock = now_utc) -> Generations:
    """All generations; the first time, the one of the settings is written down as the live one.

    Raises:
        SettingsError: what is stored of it was made with another model than these settings name: its flows would take
            that one from then on.
        UnavailableError: a part does not answer.
    """
    kafka = settings.kafka()
    generations = read_generations(kafka)
    if generations.live is not None:
        return generations
    _check_as_stored(settings)
    StreamAdmin(kafka, settings.generation).apply()
    first = generations.named.get(settings.generation) or described(settings, clock)
    save(kafka, first)
    save(kafka, replace(first, state=GenerationState.LIVE), live=True)
    return read_generations(kafka)


def _check_as_stored(settings: Settings) -> None:
    async def look() -> tuple[int, str | None] | None:
        reader = GenerationReader(settings.postgres())
        try:
            return await reader.made_with()
        finally:
            await reader.close()

    found = asyncio.run(look())
    if found is None:
        return
    dimensions, model = found
    embedder = embedder_of(settings)
    name = embedder.name
    embedder.close()
    if dimensions != settings.embedder_dimensions or model not in (None, name):
        raise SettingsError(
            f"generation {settings.generation} is made with {model or 'a model'} of {dimensions} dimensions, these "
            f"settings name {name} of {settings.embedder_dimensions}: give this command the TRENDS_EMBEDDER… settings "
            "that its flows run with"
        )
