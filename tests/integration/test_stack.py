"""The local stack as a newcomer meets it: real Kafka, real PostgreSQL, and what crashes do to them."""

from __future__ import annotations

import uuid

import asyncpg
from confluent_kafka.admin import AdminClient

from tests.conftest import LocalStack


async def test_the_stack_answers_on_every_part(stack: LocalStack) -> None:
    assert AdminClient(stack.kafka.client()).list_topics(timeout=5).brokers
    assert len(stack.dsns) == 2
    for dsn in stack.dsns:
        connection = await asyncpg.connect(dsn)
        try:
            schema = f"s{uuid.uuid4().hex}"
            await connection.execute(f"CREATE SCHEMA {schema}")
            await connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
            distance = await connection.fetchval("SELECT '[1,0]'::halfvec <=> '[0,1]'::halfvec")
        finally:
            await connection.close()
        assert distance == 1
    assert stack.stack.status().running
