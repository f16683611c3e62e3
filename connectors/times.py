"""Reading the times that sources write: ISO 8601, RFC 822, seconds, milliseconds, microseconds. Nothing else."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)
LATEST: Final = datetime(2200, 1, 1, tzinfo=UTC)
_EPOCH_LEAST_S: Final = 1e8
"""1973: below it a bare number is more likely a year or a row number than a time."""
_DIGITS = re.compile(r"[+-]?\d+(\.\d*)?")
_ISO = re.compile(r"\d{4}-?\d{2}-?\d{2}")
_SHORT_ZONE = re.compile(r"([+-]\d{2})$")


def parse_time(value: object) -> datetime:
    """An instant in UTC. Text without a zone is UTC; a number is seconds, milli-, micro- or nanoseconds by its size.

    ``20140310`` is a day, not a second of 1970.

    Raises:
        ValueError: no time, or one before 1970 or after 2199.
    """
    if isinstance(value, bool) or value is None:
        raise ValueError("no time")
    if isinstance(value, datetime):
        return _in_range(value)
    if isinstance(value, int | float):
        return _of_number(float(value), str(value))
    if not isinstance(value, str):
        raise ValueError(f"no time: {type(value).__name__}")
    text = value.strip()
    if not text:
        raise ValueError("no time")
    if len(text) > 64:
        raise ValueError(f"no time: {text[:40]!r}…")
    if _DIGITS.fullmatch(text):
        return _of_number(float(text), text)
    return _of_text(text)


def _of_number(number: float, text: str) -> datetime:
    if not math.isfinite(number):
        raise ValueError(f"no time: {text}")
    if re.fullmatch(r"(19[7-9]|20\d|21\d)\d(0[1-9]|1[0-2])([0-2]\d|3[01])", text):
        return _of_text(text)
    if abs(number) < _EPOCH_LEAST_S:
        raise ValueError(f"no time: {text} is too small for seconds since 1970")
    for unit, bound in ((1, 1e11), (1e3, 1e14), (1e6, 1e17), (1e9, 1e20)):
        if abs(number) < bound:
            try:
                return _in_range(datetime.fromtimestamp(number / unit, UTC))
            except (OverflowError, OSError, ValueError):
                break
    raise ValueError(f"no time between 1970 and 2199: {text}")


def _of_text(text: str) -> datetime:
    if _ISO.match(text):
        shaped = text.removesuffix(" UTC").removesuffix(" GMT")
        shaped = _SHORT_ZONE.sub(r"\1:00", shaped) if ":" in shaped else shaped
        try:
            return _in_range(datetime.fromisoformat(shaped))
        except ValueError as error:
            if "1970" in str(error):
                raise
    try:
        return _in_range(parsedate_to_datetime(text))
    except (ValueError, TypeError, IndexError, OverflowError):
        raise ValueError(f"no time between 1970 and 2199: {text!r}") from None


def _in_range(when: datetime) -> datetime:
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    try:
        when = when.astimezone(UTC)
    except OverflowError:
        raise ValueError("no time between 1970 and 2199") from None
    if not EARLIEST <= when < LATEST:
        raise ValueError(f"no time between 1970 and 2199: {when.isoformat()}")
    return when
