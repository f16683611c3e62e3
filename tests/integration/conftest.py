"""What the tests of the streams and of the stores share."""

import asyncio
import uuid
from collections.abc import Iterator
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from sinks.postgres.config import PostgresConfig
from streams.config import KafkaConfig
from tests.conftest import LocalStack
from tests.integration.end_to_end import Run, run_end_to_end
from tests.integration.postgres_records import DIMENSIONS


@pytest.fixture(scope="session")
def kafka(stack: LocalStack) -> KafkaConfig:
    """The broker of this run."""
    return stack.kafka


@pytest.fixture(scope="module")
def dsns(stack: LocalStack) -> Iterator[tuple[str, ...]]:
    """An empty database on each of two shards, of one test module's own."""
    name = f"test_{uuid.uuid4().hex[:8]}"

    async def on_all(sql: str) -> None:
        for dsn in stack.dsns:
            connection = await asyncpg.connect(dsn)
            await connection.execute(sql)
            await connection.close()

    asyncio.run(on_all(f"CREATE DATABASE {name}"))
    yield tuple(urlunsplit(urlsplit(dsn)._replace(path=f"/{name}")) for dsn in stack.dsns)
    asyncio.run(on_all(f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.fixture
def config(dsns: tuple[str, ...]) -> PostgresConfig:
    """Two shards, with a generation of one test's own."""
    return PostgresConfig(
        dsns=dsns, generation=f"g{uuid.uuid4().hex[:10]}", dimensions=DIMENSIONS, backoff_s=0.02, connect_timeout_s=5
    )


@pytest.fixture(scope="session")
def end_to_end(stack: LocalStack, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Everything, from connectors to stores, once a test run. Whoever changes what is left puts it back."""
    return run_end_to_end(stack, tmp_path_factory.mktemp("end-to-end"))
