"""``trends verify``: whether everything that went into the raw streams is where it belongs, exactly once.

``audit`` is the way in; ``report`` says what is checked, ``judges`` how.
"""

from trends.verify.audit import EXAMPLES, WAIT_S, Progress, audit
from trends.verify.report import CHECKS, EVERYTHING, Check, Example, Report, Span, StreamPart

__all__ = [
    "CHECKS",
    "EVERYTHING",
    "EXAMPLES",
    "WAIT_S",
    "Check",
    "Example",
    "Progress",
    "Report",
    "Span",
    "StreamPart",
    "audit",
]
