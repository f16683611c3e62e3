"""Stable identities: the same thing always gets the same id, in every process, run and replay (UUID version 5)."""

from __future__ import annotations

from hashlib import sha1, sha256
from uuid import UUID

NAMESPACE = UUID("8f3c1d52-6f0e-5b39-9c1a-2f6f2f7f5d10")
"""The namespace of all ids of the platform. Changing it changes every id: never."""

_NAMESPACE_BYTES = NAMESPACE.bytes
_SEPARATOR = "\x1f"


def stable_id(*parts: str) -> str:
    """The UUIDv5 of some strings, 36 characters. Parts are kept apart: ("ab", "c") is not ("a", "bc").

    RFC 9562 by hand: every record has such an id, and ``uuid.uuid5`` takes three times as long.
    """
    digest = sha1(_NAMESPACE_BYTES + _SEPARATOR.join(parts).encode(), usedforsecurity=False).hexdigest()
    variant = "89ab"[int(digest[16], 16) & 3]
    return f"{digest[:8]}-{digest[8:12]}-5{digest[13:16]}-{variant}{digest[17:20]}-{digest[20:32]}"


def item_id_of(source: str, external_id: str) -> str:
    """The id of an item: what its source calls it decides, so the same post seen twice is one item."""
    return stable_id("item", source, external_id)


def topic_id_of(generation: str, founding_item_id: str) -> str:
    """The id of a topic: the item that founded it decides."""
    return stable_id("topic", generation, founding_item_id)


def item_hash(item_id: str) -> bytes:
    """8 bytes for an item, as flows remember which ones they have spoken of."""
    return sha256(item_id.encode()).digest()[:8]
