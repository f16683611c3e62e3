"""What must not come back: items and authors, by the stream ``items.forgotten``, which every reader follows.

Raw and other retained streams keep their bytes until their time is over; whoever reads them asks here first. An author
is known by a keyed hash of the normalised name: enough to recognise, not to read.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from hashlib import blake2b
from typing import Any, Final, TypeVar

from streams import metrics
from streams.codec import RecordError, refuse_key
from streams.config import KafkaConfig
from streams.dead_letters import Received
from streams.ids import item_hash
from streams.records import (
    ForgetKind,
    ForgetRequest,
    Kind,
    LeadingItem,
    Observation,
    Reason,
    Record,
    TopicUpdate,
)
from streams.state import ControlReader
from streams.table import FORGOTTEN

R = TypeVar("R", bound=Record)

FORGOTTEN_TAG: Final = "forgotten"
"""On the deletion that a request sends: stores remove its rows instead of marking them."""
KNOWN_AUTHORS: Final = 50_000
"""Names whose answer is remembered; then they are hashed again."""


def author_hash(salt: str, source: str | None, author: str) -> str:
    """Hash (hex) of an author at a source, or (None) at any: case, width and spaces make no difference."""
    name = " ".join(unicodedata.normalize("NFKC", author).casefold().split())
    text = f"{source or '*'}\x1f{name}".encode("utf-8", "replace")
    return blake2b(text, key=bytes.fromhex(salt), digest_size=16).hexdigest()


class Forgotten:
    """The requests, by what they forbid."""

    def __init__(self) -> None:
        self._requests: dict[str, ForgetRequest] = {}
        self._items: set[str] = set()
        self._hashes: set[bytes] = set()
        self._authors: set[str] = set()
        self._known: dict[tuple[str, str], bool] = {}
        self.salt: str | None = None
        """The key of all hashes of authors; None before the first."""
        self.version = 0
        """Grows with every request."""

    def take(self, key: bytes, request: ForgetRequest | None) -> None:
        """One record of the stream; None lifts a request.

        Raises:
            RecordError: it is one that would make others void; nothing has changed.
        """
        name = key.decode("utf-8", "replace")
        if request is not None:
            refuse_key(key, request.key)
            self._check_author(request)
        self._drop(self._requests.pop(name, None))
        if request is not None:
            self._requests[name] = request
            if request.kind is ForgetKind.ITEM and request.item_id:
                self._items.add(request.item_id)
                self._hashes.add(item_hash(request.item_id))
            elif request.author_hash:
                self._authors.add(request.author_hash)
                self.salt = request.salt
        self._known.clear()
        self.version += 1

    def _check_author(self, request: ForgetRequest) -> None:
        """All hashes of a stack have one key: with another one, nobody would be recognised any more."""
        if request.kind is ForgetKind.ITEM:
            return
        try:
            key = bytes.fromhex(request.salt or "")
        except ValueError:
            key = b""
        if not request.author_hash or not 0 < len(key) <= blake2b.MAX_KEY_SIZE or self.salt not in (None, request.salt):
            raise RecordError(Reason.INVALID_VALUE, "it has no hash of an author, or one with another key than before")

    def _drop(self, request: ForgetRequest | None) -> None:
        if request is None:
            return
        if request.item_id:
            self._items.discard(request.item_id)
            self._hashes.discard(item_hash(request.item_id))
        if request.author_hash:
            self._authors.discard(request.author_hash)
            if not self._authors:
                self.salt = None

    @property
    def requests(self) -> Iterable[ForgetRequest]:
        """All of them."""
        return self._requests.values()

    def request_for(self, key: str) -> ForgetRequest | None:
        """The one that stands under this key."""
        return self._requests.get(key)

    def item(self, item_id: str) -> bool:
        """Whether this item is to be forgotten."""
        return item_id in self._items

    def hashed(self, hashed: bytes) -> bool:
        """The same by :func:`streams.ids.item_hash`."""
        return hashed in self._hashes

    def author(self, source: str, author: str | None) -> bool:
        """Whether whatever this author writes is."""
        if not self._authors or not author or self.salt is None:
            return False
        known = self._known.get((source, author))
        if known is None:
            hashes = (author_hash(self.salt, source, author), author_hash(self.salt, None, author))
            known = self._known[source, author] = any(each in self._authors for each in hashes)
            if len(self._known) > KNOWN_AUTHORS:
                self._known.clear()
        return known

    def denies(self, item: Observation) -> bool:
        """Whether an observation must go no further. A deletion without any text of the item must: it removes it."""
        if not self._items and not self._authors:
            return False
        if item.kind is Kind.DELETED and not (item.title or item.body or item.author):
            return False
        return self.item(item.item_id) or self.author(item.source, item.author)

    def leading(self, update: TopicUpdate) -> tuple[LeadingItem, ...] | None:
        """The leading items of a topic without the forgotten ones; None where there is none of those among them."""
        if not self._items or not any(item.item_id in self._items for item in update.items):
            return None
        return tuple(item for item in update.items if item.item_id not in self._items)


class ForgottenFollower:
    """First all requests, then every new one. Call :meth:`poll` before each batch."""

    def __init__(self, kafka: KafkaConfig, stage: str) -> None:
        self.now = Forgotten()
        self._dropped = metrics.FORGOTTEN.labels(stage)
        self._reader = ControlReader(kafka, FORGOTTEN, ForgetRequest, self.now.take)

    def catch_up(self) -> None:
        """Reads to the present end.

        Raises:
            UnavailableError: the broker does not answer, or the stream does not exist (`trends streams apply`).
        """
        self._reader.catch_up(lambda: None)

    def poll(self) -> Forgotten:
        """What is known now, with what has arrived."""
        self._reader.poll(0)
        return self.now

    def without_denied(self, received: list[Received[R]]) -> list[Received[R]]:
        """Records whose item (an observation, or what holds one) may go on; counts the others."""
        forgotten = self.poll()
        good = [r for r in received if not forgotten.denies(_observation(r.record))]
        self.count(len(received) - len(good))
        return good

    def count(self, dropped: int) -> None:
        """So many more were dropped or cut."""
        if dropped:
            self._dropped.inc(dropped)

    def close(self) -> None:
        """Leaves the broker."""
        self._reader.close()


def _observation(record: Any) -> Observation:
    observation: Observation = getattr(record, "item", record)
    return observation
