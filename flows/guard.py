"""What stands between a flow's step and a record that our own code fails on: that record becomes a dead letter.

A step that keeps nothing is asked again, by halves. One that keeps state is not: see :mod:`streams.failures`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar

from streams.codec import RecordError
from streams.dead_letters import Received, count_letters, letter_of
from streams.errors import MemoryUnknown, TrendsError
from streams.io import Outbox, Outgoing, Positions
from streams.records import DeadLetter, Reason, Record
from streams.session import Session

log = logging.getLogger(__name__)

R = TypeVar("R", bound=Record)


@dataclass(frozen=True, slots=True)
class Decoded(Generic[R]):
    """A chunk after decoding: good and bad apart, and the positions that both are covered by."""

    oks: list[Received[R]]
    errs: list[DeadLetter]
    positions: Positions


Step: TypeAlias = Callable[[Decoded[Any]], Outbox]
"""What is particular to a flow: valid records in, an outbox out."""


class Guard:
    """A step that fails on no record: what the step raises about one is that record's end, never the flow's.

    Errors that were raised on purpose (a store is away, the role is lost) pass: they are no fault of a record.
    """

    def __init__(self, session: Session, step: Step, *, stateless: bool) -> None:
        self._session = session
        self._step = step
        self._stateless = stateless
        self._failures = session.failures

    def __call__(self, decoded: Decoded[Any]) -> Outbox:
        """The outbox of a chunk.

        Raises:
            MemoryUnknown: the step failed and keeps state: everything begins anew from the log.
            FailureLimitError: too many records of a partition failed in our own code.
        """
        self._note(letter for letter in decoded.errs if letter.reason is Reason.OUR_FAILURE)
        outbox = self._by_halves(decoded) if self._stateless else self._or_anew(decoded)
        self._failures.done(r.message for r in decoded.oks)
        return outbox

    # -- a step without memory ----------------------------------------------------------------------------------

    def _by_halves(self, decoded: Decoded[Any]) -> Outbox:
        try:
            outbox = self._step(decoded)
        except Exception as error:
            if _on_purpose(error) or not decoded.oks:
                raise
            _tell(self._session, decoded.oks, error)
            outbox = self._letters(decoded.errs, decoded.positions)
            outbox.records.extend(self._halves(decoded.oks, error))
            return outbox
        self._passed(decoded.oks)
        return outbox

    def _halves(self, oks: Sequence[Received[Any]], error: Exception) -> list[Outgoing]:
        """What can be made of some records that failed together."""
        if len(oks) == 1:
            letter = self._letter(oks[0].message, error)
            self._note([letter])
            return self._letters([letter], {}).records
        middle = len(oks) // 2
        return [*self._half(oks[:middle]), *self._half(oks[middle:])]

    def _half(self, oks: Sequence[Received[Any]]) -> list[Outgoing]:
        try:
            records = self._step(Decoded(list(oks), [], {})).records
        except Exception as error:
            if _on_purpose(error):
                raise
            return self._halves(oks, error)
        self._passed(oks)
        return records

    # -- a step with memory -------------------------------------------------------------------------------------

    def _or_anew(self, decoded: Decoded[Any]) -> Outbox:
        failures = self._failures
        blamed = [(r.message, why) for r in decoded.oks if (why := failures.blamed(r.message)) is not None]
        if not blamed and not failures.suspicious(r.message for r in decoded.oks):
            try:
                outbox = self._step(decoded)
            except Exception as error:
                if _on_purpose(error) or not decoded.oks:
                    raise
                raise self._begin_anew([r.message for r in decoded.oks], error) from error
            self._passed(decoded.oks)
            return outbox
        letters = [letter_of(message, Reason.OUR_FAILURE, why, self._session.spec.name) for message, why in blamed]
        count_letters(letters)
        outbox = self._letters([*decoded.errs, *letters], decoded.positions)
        good = [r for r in decoded.oks if failures.blamed(r.message) is None]
        for received in good:
            try:
                outbox.records.extend(self._step(Decoded([received], [], {})).records)
            except Exception as error:
                if _on_purpose(error):
                    raise
                raise self._begin_anew([received.message], error) from error
        self._note(letters)
        self._passed(good)
        return outbox

    def _begin_anew(self, messages: Sequence[Any], error: Exception) -> MemoryUnknown:
        what = f"{type(error).__name__}: {error}"
        place = f"{messages[0].topic()}/{messages[0].partition()}/{messages[0].offset()}"
        if len(messages) == 1:
            self._failures.blame(messages[0], what)
            log.error("flow %s: %s becomes a dead letter: %s", self._session.spec.name, place, what, exc_info=error)
            return MemoryUnknown(f"without {place}, which our own code fails on ({what})")
        self._failures.suspect(messages)
        log.error("flow %s: one of %d records fails: %s", self._session.spec.name, len(messages), what)
        return MemoryUnknown(f"one by one, since one of {len(messages)} records from {place} on fails ({what})")

    # -- letters ------------------------------------------------------------------------------------------------

    def _letters(self, letters: Sequence[DeadLetter], positions: Positions) -> Outbox:
        return Outbox(positions, self._session.address.dead_letters(letters))

    def _letter(self, message: Any, error: Exception) -> DeadLetter:
        reason = error.reason if isinstance(error, RecordError) else Reason.OUR_FAILURE
        letter = letter_of(message, reason, f"{type(error).__name__}: {error}", self._session.spec.name)
        count_letters([letter])
        return letter

    def _note(self, letters: Any) -> None:
        for letter in letters:
            if letter.reason is Reason.OUR_FAILURE:
                self._failures.limit.note((letter.stream, letter.partition), failed=True)

    def _passed(self, oks: Sequence[Received[Any]]) -> None:
        for r in oks:
            self._failures.limit.note((r.message.topic(), r.message.partition()), failed=False)


def _on_purpose(error: Exception) -> bool:
    return isinstance(error, TrendsError) and not isinstance(error, RecordError)


def _tell(session: Session, oks: Sequence[Received[Any]], error: Exception) -> None:
    first = oks[0].message
    log.error(
        "flow %s: one of %d records from %s/%d/%d on fails; asking again by halves", session.spec.name, len(oks),
        first.topic(), first.partition(), first.offset(), exc_info=error,
    )  # fmt: skip
