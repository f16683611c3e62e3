"""One process of the `recovery` benchmark: reads a state stream back as its flow does, or is a cluster process.

Prints one line of JSON: records read, what they became, seconds, and the memory of the process.
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import sys
import time
from pathlib import Path
from typing import Any

from flows.cluster import SPEC, wire
from flows.runtime import GC_THRESHOLDS, run
from models.clustering import ClusterConfig
from models.engine import ClusterEngine
from models.scoring import ScoringConfig, TrendScorer
from streams.config import KafkaConfig
from streams.session import Session
from streams.state import InBatches, Restore, StateReader
from streams.table import CLUSTER_STATE, SCORE_STATE

GENERATION = "bench"
PLENTY = 200_000_000
"""Bounds of the models, above whatever is measured."""


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("flow", choices=("cluster", "score", "process"))
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--stack", required=True)
    parser.add_argument("--partitions", type=int, required=True)
    parser.add_argument("--name", default="cluster-0", help="of the cluster process")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    gc.set_threshold(*GC_THRESHOLDS)
    kafka = KafkaConfig(args.bootstrap, stack=args.stack, partitions=args.partitions)
    if args.flow == "process":
        session = Session(kafka, GENERATION, SPEC, args.name)
        return int(run(session, lambda s: wire(s, ClusterEngine(ClusterConfig(), GENERATION))))
    print(json.dumps(_cluster(kafka) if args.flow == "cluster" else _score(kafka)))
    return 0


def _cluster(kafka: KafkaConfig) -> dict[str, Any]:
    engine = ClusterEngine(ClusterConfig(max_topics=PLENTY, max_items=PLENTY), GENERATION)
    name, count = CLUSTER_STATE.physical(kafka, GENERATION), CLUSTER_STATE.count(kafka)
    found = _read(kafka, name, count, InBatches(engine.restore), engine.finish_restore)
    return found | {
        "items": engine.indexed_items, "topics": engine.active_topics, "index_mb": round(engine.index_bytes / 1e6),
    }  # fmt: skip


def _score(kafka: KafkaConfig) -> dict[str, Any]:
    scorer = TrendScorer(ScoringConfig(max_trends=PLENTY), GENERATION)
    name, count = SCORE_STATE.physical(kafka, GENERATION), SCORE_STATE.count(kafka)
    return _read(kafka, name, count, scorer.restore, scorer.finish_restore) | {"trends": len(scorer)}


def _read(kafka: KafkaConfig, name: str, partitions: int, restore: Restore, finish: Any) -> dict[str, Any]:
    gc.freeze()
    before_cpu, began = time.process_time(), time.perf_counter()
    reader = StateReader(kafka, name, range(partitions), restore)
    reader.catch_up(lambda: None)
    reader.close()
    if reader.unreadable:
        raise ValueError(reader.unreadable)
    read = time.perf_counter()
    finish()
    return {
        "records": reader.records,
        "seconds": time.perf_counter() - began,
        "finish_s": time.perf_counter() - read,
        "cpu_s": time.process_time() - before_cpu,
        "rss_mb": _status("VmRSS"),
        "peak_mb": _status("VmHWM"),
    }


def _status(name: str) -> int:
    """A figure of this process's memory, in MB (10⁶ bytes). (The peak that getrusage tells can be the parent's.)"""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return round(int(line.split()[1]) * 1_024 / 1e6)
    return 0


if __name__ == "__main__":
    sys.exit(main())
