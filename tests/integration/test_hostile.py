"""Hostile messages through the real pipeline; `make fuzz` sends more of them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from confluent_kafka import Producer

from streams.errors import ExitCode
from streams.state import COVER_PREFIX
from streams.table import CLUSTER_STATE, SCORE_STATE, SUMMARIZE_STATE
from tests.chaos.fuzz import DIMENSIONS, Outcome, run
from tests.conftest import LocalStack
from trends.settings import Settings, environment_of, load_settings

ROOT = Path(__file__).parents[2]
RECORDS = 3_000


@pytest.fixture(scope="module")
def own(stack: LocalStack, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return load_settings(
        home=tmp_path_factory.mktemp("hostile"), kafka_bootstrap=stack.bootstrap, postgres_dsns=stack.dsns,
        stack="hostile", generation="hostile", kafka_partitions=4, kafka_session_timeout_ms=3_000, embedder="null",
        embedder_dimensions=DIMENSIONS,
    )  # fmt: skip


@pytest.fixture(scope="module")
def outcome(own: Settings) -> Outcome:
    return run(own, 20_260, RECORDS)


def test_every_message_is_accepted_or_a_dead_letter_and_nothing_stops(outcome: Outcome) -> None:
    assert outcome.faults == []
    assert outcome.sent == RECORDS
    assert outcome.accepted + outcome.dead_letters == outcome.sent
    assert outcome.accepted == outcome.well_formed
    assert len(outcome.by_case) > 30
    assert set(outcome.by_reason) >= {"not_json", "missing_field", "wrong_type", "invalid_value", "nul_character",
                                      "unknown_schema"}  # fmt: skip


def test_rubbish_in_the_inner_streams_stops_nothing_either(outcome: Outcome) -> None:
    assert outcome.within > 60
    assert outcome.faults == []


def test_rubbish_in_a_state_stream_is_an_error_that_says_where(own: Settings, outcome: Outcome) -> None:
    kafka = own.kafka()
    producer = Producer(kafka.client())
    for stream, key in ((SCORE_STATE, b"term:x"), (SUMMARIZE_STATE, COVER_PREFIX + b"no cover"), (CLUSTER_STATE, b"?")):
        producer.produce(stream.physical(kafka, own.generation), b"rubbish", key, 0)
    producer.flush(30)
    flows = {
        flow: subprocess.Popen(
            [sys.executable, "-m", "trends", "flow", flow, "--name", f"{flow}-0"],
            cwd=ROOT, env=environment_of(own), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for flow in ("score", "summarize", "cluster")
    }  # fmt: skip
    try:
        for flow, process in flows.items():
            said, _ = process.communicate(timeout=90)
            assert process.returncode == ExitCode.NEEDS_OPERATOR, said
            assert re.search(rf"hostile\.hostile\.{flow}\.state(/0)? holds a (record|cover)", said), said
            assert f"`trends state check {flow}` names it" in said
    finally:
        for process in flows.values():
            process.kill()
            process.wait(10)
