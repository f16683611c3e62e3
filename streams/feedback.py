"""What people have said about trends and stories, by the stream ``feedback``, which whoever obeys it follows.

What follows from a word is decided where it is obeyed: the router, cluster, and the readers of the store.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from msgspec.structs import replace

from streams.codec import RecordError, refuse_key
from streams.config import KafkaConfig
from streams.records import Feedback, Reason
from streams.state import ControlReader
from streams.table import FEEDBACK


class FeedbackBook:
    """The newest word on each matter, those that were taken back included."""

    def __init__(self) -> None:
        self._said: dict[str, Feedback] = {}

    def take(self, key: bytes, feedback: Feedback | None) -> Feedback | None:
        """One record of the stream; returns what is new by it: a word that holds, or one that was taken back.

        Raises:
            RecordError: it stands under another key than its own; nothing has changed.
        """
        if feedback is None:
            gone = self._said.pop(key.decode("utf-8", "replace"), None)
            return None if gone is None or not gone.active else replace(gone, active=False)
        refuse_key(key, feedback.key)
        known = self._said.get(feedback.key)
        if known is not None and feedback.version < known.version:
            raise RecordError(Reason.INVALID_VALUE, f"version {known.version} of it is known already")
        self._said[feedback.key] = feedback
        return feedback

    @property
    def said(self) -> Iterable[Feedback]:
        """The newest word on each matter."""
        return self._said.values()

    def known(self, key: str) -> Feedback | None:
        """The newest word on one matter."""
        return self._said.get(key)


class FeedbackFollower:
    """First all that was said, then every new word. Call :meth:`poll` now and then."""

    def __init__(self, kafka: KafkaConfig, update: Callable[[Feedback], None] = lambda _: None) -> None:
        """``update``: told each word, in the order of the log; one that was taken back is not ``active``."""
        self.book = FeedbackBook()
        self._update = update
        self._reader = ControlReader(kafka, FEEDBACK, Feedback, self._take)

    def _take(self, key: bytes, feedback: Feedback | None) -> None:
        news = self.book.take(key, feedback)
        if news is not None:
            self._update(news)

    def catch_up(self) -> None:
        """Reads to the present end.

        Raises:
            UnavailableError: the broker does not answer, or the stream does not exist (`trends streams apply`).
        """
        self._reader.catch_up(lambda: None)

    def poll(self, timeout_s: float = 0.0) -> int:
        """Takes what is new; the number of records."""
        return self._reader.poll(timeout_s)

    def close(self) -> None:
        """Leaves the broker."""
        self._reader.close()


def read_feedback(kafka: KafkaConfig) -> FeedbackBook:
    """All that was said, up to the present end.

    Raises:
        UnavailableError: see :meth:`FeedbackFollower.catch_up`.
    """
    follower = FeedbackFollower(kafka)
    try:
        follower.catch_up()
        return follower.book
    finally:
        follower.close()
