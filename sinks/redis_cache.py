"""Summaries by a model in Redis or Valkey, and the tokens of a day: what ``sinks.postgres.summary_cache`` does.

Where it is set; needs the extra ``redis``. Everything in it expires by itself; nothing is lost with it but tokens.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

from sinks.loop import LoopThread
from sinks.postgres.summary_cache import TokensOf
from streams.errors import SettingsError, UnavailableError

T = TypeVar("T")

TIMEOUT_S: Final = 5.0
"""For one call, connecting included: a cache that takes longer is no help."""
CONNECTIONS: Final = 8
DAY_S: Final = 2 * 86_400
"""How long the tokens of a day are remembered."""
FORGOTTEN_AT_ONCE: Final = 500


class RedisSummaryStore:
    """See ``models.summaries.cached.SummaryStore``. Any number of threads may use it.

    Keys: ``trends:STACK:summary:KEY`` holds a summary, ``trends:STACK:summary-of:ITEM`` the keys of those that an item
    is in, ``trends:STACK:tokens:DAY`` (of embeddings: ``embedding-tokens``) a count.

    Raises:
        SettingsError: redis-py is not installed, or the address is none.
    """

    def __init__(self, url: str, stack: str = "", tokens_of: TokensOf = "summary") -> None:
        try:
            from redis.asyncio import Redis
        except ImportError:
            raise SettingsError("TRENDS_CACHE_URL needs redis-py: pip install 'trend-intelligence[redis]'") from None
        address = urlsplit(url)
        self._where = f"{address.scheme}://{address.netloc.rpartition('@')[2]}"
        self._prefix = f"trends:{stack}:"
        self._tokens = self._prefix + ("tokens:" if tokens_of == "summary" else f"{tokens_of}-tokens:")
        try:
            self._client: Any = Redis.from_url(
                url, protocol=2, max_connections=CONNECTIONS, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S
            )
        except ValueError as error:
            raise SettingsError(f"TRENDS_CACHE_URL: {error}") from None
        self._thread = LoopThread("summary-cache")
        self._closed = False

    def get(self, keys: Sequence[bytes], now: datetime) -> dict[bytes, bytes]:
        """What is known of these keys; ``now`` makes no difference, the server lets keys expire.

        Raises:
            UnavailableError: the server does not answer in time, or properly.
        """

        async def ask() -> dict[bytes, bytes]:
            async with self._client.pipeline(transaction=False) as pipe:
                for key in keys:
                    pipe.get(self._summary(key))
                found = await pipe.execute()
            return {key: value for key, value in zip(keys, found, strict=True) if isinstance(value, bytes)}

        return self._run(ask)

    def put(self, entries: Mapping[bytes, tuple[bytes, tuple[str, ...]]], expires: datetime) -> None:
        """Keeps summaries until then.

        Raises:
            UnavailableError: as ``get``.
        """
        at = int(expires.astimezone(UTC).timestamp())

        async def store() -> None:
            async with self._client.pipeline(transaction=False) as pipe:
                for key, (summary, items) in entries.items():
                    for item in items:  # first, so that no summary is there which forgetting an item would not find
                        pipe.sadd(self._item(item), key)
                        pipe.expireat(self._item(item), at)
                    pipe.set(self._summary(key), summary, exat=at)
                await pipe.execute()

        self._run(store)

    def forget(self, items: Sequence[str]) -> None:
        """Deletes whatever was made from one of these items.

        Raises:
            UnavailableError: as ``get``.
        """

        async def delete(part: Sequence[str]) -> None:
            async with self._client.pipeline(transaction=False) as pipe:
                for item in part:
                    pipe.smembers(self._item(item))
                made = await pipe.execute()
            async with self._client.pipeline(transaction=False) as pipe:
                for key in {key for keys in made for key in keys}:
                    pipe.delete(self._summary(key))
                for item in part:
                    pipe.delete(self._item(item))
                await pipe.execute()

        for begin in range(0, len(items), FORGOTTEN_AT_ONCE):
            part = items[begin : begin + FORGOTTEN_AT_ONCE]
            self._run(lambda part=part: delete(part))  # type: ignore[misc]

    def spend(self, day: str, tokens: int) -> int:
        """Adds tokens to a day's; those of the day so far, all processes together.

        Raises:
            UnavailableError: as ``get``.
        """

        async def add() -> int:
            key = f"{self._tokens}{day}"
            async with self._client.pipeline(transaction=False) as pipe:
                pipe.incrby(key, tokens)
                pipe.expire(key, DAY_S)
                total, _ = await pipe.execute()
            return int(total)

        return self._run(add)

    def close(self) -> None:
        """Closes the connections; may be called twice."""
        if not self._closed:
            self._closed = True
            self._thread.run(self._client.aclose())
        self._thread.close()

    def _summary(self, key: bytes) -> str:
        return f"{self._prefix}summary:{key.hex()}"

    def _item(self, item_id: str) -> str:
        return f"{self._prefix}summary-of:{item_id}"

    def _run(self, do: Callable[[], Awaitable[T]]) -> T:
        from redis.exceptions import RedisError

        async def bounded() -> T:
            async with asyncio.timeout(TIMEOUT_S):
                return await do()

        try:
            return self._thread.run(bounded())
        except (RedisError, OSError, TimeoutError, ValueError) as error:
            raise UnavailableError(f"{self._where}: {error or 'no answer in time'}") from None
