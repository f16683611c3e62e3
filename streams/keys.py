"""From a trend to its bucket, partition and shard. Nothing else in the platform computes a partition.

``murmur2`` is the 32-bit hash of Kafka's own Java client (seed 0x9747b28c), so that any Kafka client with the
default Java partitioner, or librdkafka's ``murmur2_random``, agrees about where a trend lives.
"""

from __future__ import annotations

from functools import lru_cache

BUCKETS = 1024
"""A bucket is the unit that moves between shards; it never changes, so it must be ≥ any number of partitions."""

_M = 0x5BD1E995
_SEED = 0x9747B28C
_U32 = 0xFFFFFFFF


def murmur2(data: bytes) -> int:
    """The unsigned 32-bit murmur2 of ``data``, as ``org.apache.kafka.common.utils.Utils.murmur2`` computes it.

    The Java method returns the same bits as a signed int.
    """
    length = len(data)
    h = (_SEED ^ length) & _U32
    whole = length & ~3
    for i in range(0, whole, 4):
        k = (int.from_bytes(data[i : i + 4], "little") * _M) & _U32
        k ^= k >> 24
        h = ((h * _M) & _U32) ^ ((k * _M) & _U32)
    if tail := data[whole:]:
        h = ((h ^ int.from_bytes(tail, "little")) * _M) & _U32
    h ^= h >> 13
    h = (h * _M) & _U32
    return h ^ (h >> 15)


@lru_cache(maxsize=131_072)
def bucket_of(trend_id: str) -> int:
    """The bucket (0 … 1023) of a trend: fixed for good, whatever the number of partitions or shards."""
    return (murmur2(trend_id.encode()) & 0x7FFFFFFF) % BUCKETS


def partition_of(trend_id: str, partitions: int) -> int:
    """The partition of a trend in a keyed stream of ``partitions`` partitions (see :func:`check_partitions`)."""
    return bucket_of(trend_id) % partitions


def is_place_of(trend_id: str, partition: int, partitions: int) -> bool:
    """Whether a trend's records stand, or stood when there were fewer partitions, in a partition."""
    bucket, count = bucket_of(trend_id), partitions
    while count and bucket % count != partition:
        count //= 2
    return count > 0


def check_partitions(partitions: int) -> int:
    """``partitions`` itself where it is a power of two from 1 to 1,024.

    Raises:
        ValueError: otherwise. Only then is ``bucket % partitions`` what Java's partitioner computes, and only then
            does growing the stream split partitions instead of scattering trends.
    """
    if not 1 <= partitions <= BUCKETS or partitions & (partitions - 1):
        raise ValueError(f"{partitions} partitions: take a power of two from 1 to {BUCKETS}")
    return partitions
