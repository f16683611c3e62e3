"""The list of metrics: each is born in one place, and something sets it."""

from __future__ import annotations

import re
from pathlib import Path

from prometheus_client.metrics import MetricWrapperBase

from streams import metrics

ROOT = Path(__file__).parents[2]
ROOMS = ("streams", "models", "connectors", "sinks", "flows", "trends")


def test_every_metric_is_set_somewhere() -> None:
    source = "\n".join(
        path.read_text() for room in ROOMS for path in (ROOT / room).rglob("*.py") if path.name != "metrics.py"
    )
    declared = [name for name, value in vars(metrics).items() if isinstance(value, MetricWrapperBase)]
    assert len(declared) > 20
    # Set at once or by one of its labels; an import alone does not count.
    unset = [n for n in declared if not re.search(rf"\b{n}\s*\.\s*(labels|inc|set|observe|time)\b", source)]
    assert unset == []
