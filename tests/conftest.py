"""Fixtures that every test may use. `stack`: a real Kafka and two PostgreSQL shards, started once a run."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from streams.config import KafkaConfig
from trends.settings import Settings
from trends.stack import Stack


@dataclass(frozen=True)
class LocalStack:
    """A running Kafka and PostgreSQL. Tests share it: each takes names of its own on it."""

    stack: Stack
    kafka: KafkaConfig
    """With an empty stack name; most tests want `kafka_named()`."""
    dsns: tuple[str, ...]

    @property
    def bootstrap(self) -> str:
        return self.kafka.bootstrap

    @property
    def home(self) -> Path:
        return self.stack.home

    def kafka_named(self, **more: object) -> KafkaConfig:
        """A configuration whose streams and ids no other test uses; ``more`` replaces fields (partitions=…)."""
        return replace(self.kafka, stack=f"t{uuid.uuid4().hex[:10]}", **more)  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """Real Kafka and two PostgreSQL shards (databases empty but for what tests make), torn down at the end."""
    settings = Settings(
        home=tmp_path_factory.mktemp("stack") / "home", kafka_bootstrap=None, postgres_dsns=(), postgres_shards=2
    )
    local = settings.local_stack()
    try:
        local.up()
        yield LocalStack(local, settings.kafka(), settings.dsns())
    finally:
        local.down()
