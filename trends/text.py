"""Text of strangers, made fit to be shown: no control characters, no links but web links. Times and figures as text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final
from urllib.parse import urlsplit

from streams.errors import SettingsError

_UNFIT: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
"""C0 and C1 controls (terminal escapes among them), marks that turn the direction of text, halves of pairs."""
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(m|min|h|d|w)", re.IGNORECASE)
_UNIT_S: Final = {"m": 60, "min": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_TICKS: Final = "▁▂▃▄▅▆▇█"


def plain(text: str, limit: int | None = None) -> str:
    """One line of text without control characters, shortened to ``limit`` characters."""
    line = " ".join(_UNFIT.sub("", text).split())
    return line if limit is None or len(line) <= limit else line[: max(1, limit - 1)].rstrip() + "…"


def web_link(url: str | None) -> str | None:
    """The address where it is a web link (http or https, with a host), else None: never javascript:, data: or file:."""
    if not url or len(url) > 4_096 or _UNFIT.search(url) or re.search(r"\s", url):
        return None
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    return url if parts.scheme.lower() in ("http", "https") and parts.netloc else None


def bins(counts: Sequence[int], number: int) -> list[int]:
    """Counts added up into at most ``number`` equal bins, the last of which ends with the last count."""
    width = max(1, -(-len(counts) // number))
    start = len(counts) % width
    head = [sum(counts[:start])] if start else []
    return head + [sum(counts[i : i + width]) for i in range(start, len(counts), width)]


def sparkline(counts: Sequence[int], width: int) -> str:
    """Counts as a line of blocks; nothing where nothing was."""
    values = bins(counts, width)
    top = max(values, default=0)
    return "".join(" " if v <= 0 else _TICKS[min(7, (8 * v - 1) // top)] for v in values)


def moment(time: datetime) -> str:
    """A time for people: UTC, to the minute."""
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def ago(time: datetime, now: datetime) -> str:
    """How long before ``now``: 5 min, 3 h, 2 d."""
    seconds = max(0, int((now - time).total_seconds()))
    if seconds < 3_600:
        return f"{seconds // 60} min ago"
    return f"{seconds // 3_600} h ago" if seconds < 2 * 86_400 else f"{seconds // 86_400} d ago"


def duration(text: str) -> timedelta:
    """A length of time: 90m, 24h, 4d, 2w.

    Raises:
        SettingsError: it is none, or not between a minute and ten years.
    """
    match = _DURATION.fullmatch(text.strip())
    seconds = float(match[1]) * _UNIT_S[match[2].lower()] if match else 0.0
    if not 60 <= seconds <= 10 * 366 * 86_400:
        raise SettingsError(f"{text!r} is no length of time: write 90m, 24h, 4d or 2w (a minute to ten years)")
    return timedelta(seconds=seconds)


def instant(text: str) -> datetime:
    """A time: 2016-09-07, 2016-09-07T18:00, with or without an offset (UTC without). A day alone means its end.

    Raises:
        SettingsError: it is none.
    """
    text = text.strip()
    try:
        if re.fullmatch(r"\d{4}-\d{2}-\d{2}", text):
            return datetime.fromisoformat(text).replace(tzinfo=UTC) + timedelta(days=1)
        time = datetime.fromisoformat(text)
        return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise SettingsError(
            f"{text!r} is no time: write 2016-09-07, 2016-09-07T18:00 or 2016-09-07T18:00+02:00"
        ) from None
