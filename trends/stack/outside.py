"""Whether outside servers, named in the settings, answer. Nothing here starts or stops anything."""

from __future__ import annotations

import asyncio
import logging

import asyncpg
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from streams.config import KafkaConfig

_silent = logging.getLogger(__name__)
_silent.setLevel(logging.CRITICAL + 1)  # the answer is the return value


def kafka_answers(kafka: KafkaConfig, timeout_s: float) -> bool:
    """Whether a broker answers a metadata request within ``timeout_s`` seconds."""
    try:
        client = AdminClient(kafka.client(), logger=_silent)  # type: ignore[arg-type]
        return bool(client.list_topics(timeout=timeout_s).brokers)
    except KafkaException:
        return False


def postgres_answers(dsn: str, timeout_s: float) -> bool:
    """Whether a database answers a query within ``timeout_s`` seconds."""

    async def ask() -> bool:
        async with asyncio.timeout(timeout_s):
            connection = await asyncpg.connect(dsn, timeout=timeout_s, statement_cache_size=0)
            try:
                return bool(await connection.fetchval("SELECT 1") == 1)
            finally:
                await connection.close(timeout=1)

    try:
        return asyncio.run(ask())
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError, ValueError):
        return False
