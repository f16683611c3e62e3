"""One chaos run: faults on schedule, recoveries measured from outside, drained, audited."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Final

from tests.chaos.audit import audit
from tests.chaos.faults import ALONE_S, FIRST_S, Fault, Kind, schedule
from tests.chaos.rig import (
    GENERATION,
    MAIN_INPUT,
    PARTITIONS,
    PROCESSES,
    SESSION_TIMEOUT_MS,
    Rig,
    Watcher,
    partitions_of,
)
from tests.chaos.world import truth_of
from trends.verify import audit as verify

FREEZE_S: Final = SESSION_TIMEOUT_MS / 1000 + 3.0
DRAIN_S: Final = 240.0
TICK_S: Final = 0.1
WHO_WORKS: Final = "-*"
"""In place of a number: whichever process of the flow holds partitions."""


@dataclass(frozen=True, slots=True)
class Recovery:
    """After the kill of one flow process while all else was well."""

    process: str
    at_s: float
    seconds: float | None
    """Until all partitions that it held were committed anew; 0 for one that stood by, None: not within the run."""
    neighbours_gap_s: float
    """Longest time without a commit in a partition of the flow's other processes, meanwhile."""


@dataclass(slots=True)
class Outcome:
    """What a run has shown."""

    seed: int
    schedule: list[str] = field(default_factory=list)
    hits: int = 0
    exits: list[str] = field(default_factory=list)
    recoveries: list[Recovery] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    verify: list[str] = field(default_factory=list)
    """What `trends verify` found."""
    faults: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def exact(self) -> bool:
        return not (self.lost or self.doubled or self.wrong or self.verify or self.faults)

    @property
    def slowest_s(self) -> float | None:
        """The slowest recovery; None where one did not come."""
        times = [r.seconds for r in self.recoveries]
        return None if None in times else max((t for t in times if t is not None), default=0.0)


def single_kills(seed: int, seconds: float) -> list[Fault]:
    """Every process that works, once, and again, each after the one before has long come back; of cluster's, whichever
    has the role by then."""
    names = [f"{flow}-{i}" for flow, count in PROCESSES.items() if flow != "cluster" for i in range(count)]
    names.append("cluster" + WHO_WORKS)
    rng = Random(f"kills/{seed}")
    faults: list[Fault] = []
    at = FIRST_S + 4.0
    while at + ALONE_S <= seconds:
        if len(faults) % len(names) == 0:
            rng.shuffle(names)
        faults.append(Fault(at, Kind.KILL, (names[len(faults) % len(names)],), alone=True))
        at += ALONE_S
    return faults


def chaos(
    home: Path, seed: int, seconds: float, rate: float, *, kills_only: bool = False, say: Callable[[str], None] = print
) -> Outcome:
    """Runs the whole of it; the outcome says what is not as it must be."""
    outcome = Outcome(seed)
    shards = 2
    if kills_only:
        faults = single_kills(seed, seconds)
    else:
        faults = schedule(seed, seconds, PROCESSES, shards, freeze_s=FREEZE_S, partitions=PARTITIONS)
    outcome.schedule = [f"{fault.at_s:6.1f} s  {fault}" for fault in faults]
    say(f"seed {seed}: {len(faults)} faults in {seconds:.0f} s, {rate:g} messages a second")
    for line in outcome.schedule:
        say(f"  {line}")
    began = time.monotonic()
    with Rig(home, seed, rate, shards=shards) as rig:
        watcher = Watcher(rig)
        watcher.start()
        _inflict(rig, watcher, faults, seconds, outcome, say)
        say("draining")
        rig.drain(DRAIN_S)
        watcher.stop()
        sent = rig.acknowledged
        outcome.counts |= {"acknowledged": sent, "partitions": rig.partitions}
        if not rig.faults:
            say(f"comparing with the truth of {sent:,} messages")
            found = audit(rig.settings, truth_of(rig.world, sent))
            outcome.counts |= found.counts
            outcome.lost, outcome.doubled, outcome.wrong = found.lost, found.doubled, found.wrong
            report = verify(rig.settings)
            outcome.verify = [
                f"{check.name}: {check.off}, such as {check.examples[:3]}" for check in report.checks if check.off
            ]
        rig.stop_flows()
        outcome.exits = rig.restarts()
        outcome.faults = [*rig.faults, *_unaccounted(outcome.exits)]
    outcome.seconds = round(time.monotonic() - began, 1)
    return outcome


def _inflict(
    rig: Rig, watcher: Watcher, faults: list[Fault], seconds: float, outcome: Outcome, say: Callable[[str], None]
) -> None:
    began = time.monotonic()
    pending = list(faults)
    measured: list[tuple[Fault, float, str, set[tuple[str, int]], set[tuple[str, int]]]] = []
    while (passed := time.monotonic() - began) < seconds and not rig.faults:
        rig.tick()
        if pending and pending[0].at_s <= passed:
            fault = _named(rig, pending.pop(0))
            mine, others = _held(rig, fault) if fault.alone else (set(), set())
            at = time.monotonic()
            hit = rig.inflict(fault)
            outcome.hits += len(hit)
            missed = [t for t in fault.targets if t not in hit]
            say(f"t+{passed:6.1f} s  {fault}" + (f"  (not there: {', '.join(missed)})" if missed else ""))
            if fault.alone and hit:
                measured.append((fault, at, fault.targets[0].rpartition("-")[0], mine, others))
        time.sleep(TICK_S)
    for fault, at, flow, mine, others in measured:
        commits = watcher.commits
        took = commits.recovered_s(flow, mine, at)
        until = at + min(took or ALONE_S, ALONE_S)
        gap = commits.longest_gap_s(flow, others, at, until)
        outcome.recoveries.append(Recovery(fault.targets[0], round(at - began, 1), _round(took), round(gap, 1)))


def _named(rig: Rig, fault: Fault) -> Fault:
    """The fault with the name of the process that holds partitions, where it is meant for that one."""
    flow, found, _ = fault.targets[0].partition(WHO_WORKS)
    if not found:
        return fault
    working = [name for name, held in rig.owned().items() if name.rpartition("-")[0] == flow and held]
    return replace(fault, targets=(working[0] if working else f"{flow}-0",))


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, 1)


def _held(rig: Rig, fault: Fault) -> tuple[set[tuple[str, int]], set[tuple[str, int]]]:
    """What the target holds of its flow's main input, and what the flow's other processes hold."""
    target = fault.targets[0]
    flow = target.rpartition("-")[0]
    stream = MAIN_INPUT[flow].physical(rig.settings.kafka(), GENERATION)
    mine: set[tuple[str, int]] = set()
    others: set[tuple[str, int]] = set()
    for name, held in rig.owned().items():
        if name.rpartition("-")[0] == flow:
            (mine if name == target else others).update(partitions_of(held, stream))
    return mine, others


def _unaccounted(exits: list[str]) -> list[str]:
    """Ends that no fault explains: our own code gave up, or a person was asked for."""
    return [line for line in exits if any(f"ended with {code} " in line for code in (1, 2, 76, 78))]
