"""Fixtures that every test may use: servers that are started once a worker, where a test asks for them."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from streams.config import KafkaConfig
from tests.vllm_server import chat_model, embedding_model, serving
from trends.settings import Settings
from trends.stack import Stack

settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")  # no timing decides a test


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


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With several workers the tests of a file stay with one of them, and so do those that read one end-to-end run:
    each worker has servers of its own."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = Path(nodeid.partition("::")[0]).name
            return "end to end" if file in ("test_end_to_end.py", "test_verify.py") else file

    return ByFile(config, log)


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


@pytest.fixture(scope="session")
def vllm_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The base of vLLM's API, with the packaged MiniLM (only for tests with the mark `vllm`)."""
    with serving(tmp_path_factory.mktemp("vllm"), embedding_model()) as url:
        yield url


@pytest.fixture(scope="session")
def vllm_chat_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The base of vLLM's API, with a language model of random weights (only for tests with the mark `vllm`)."""
    folder = tmp_path_factory.mktemp("vllm-chat")
    (folder / "model").mkdir()
    with serving(folder, chat_model(folder / "model")) as url:
        yield url
