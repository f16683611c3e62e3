"""What a topic says, in a headline and one or two sentences: when to say it anew, and the ways to say it.

Which items lead a topic is decided in ``models.clustering``.
"""

from models.summaries.base import Fallback, Summariser, Summary
from models.summaries.engine import (
    OWED_ATTEMPTS,
    Summarised,
    SummarizeEngine,
    check_value,
    home_of,
    summarised_at,
)
from models.summaries.extractive import ExtractiveSummariser, extract

__all__ = [
    "OWED_ATTEMPTS",
    "ExtractiveSummariser",
    "Fallback",
    "Summariser",
    "Summarised",
    "SummarizeEngine",
    "Summary",
    "check_value",
    "extract",
    "home_of",
    "summarised_at",
]
