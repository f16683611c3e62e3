"""What goes wrong, when, and to whom: a schedule that depends on the seed alone, so that a run can be had again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from random import Random
from typing import Final

FIRST_S: Final = 4.0
GAP_S: Final = (2.0, 6.0)
"""Between two faults; sometimes the next one comes at once."""
GROWS_EVERY: Final = 3
"""Seeds that are a multiple of this grow the streams, in the middle of the run."""
GROWTH_S: Final = (1.5, 3.0, 5.0, 7.0, 8.0, 9.0, 11.0)
"""So long after the growth was begun something is killed: first the command itself, then whoever writes by the old
number for the last time, or moves state (``streams.partitions.LEASE_S`` is 6 s)."""
KAFKA_STANDS_S: Final = (-12.0, 16.0)
"""Around a growth Kafka stays up: what a feeder has sent to a broker that is away for longer than the lease arrives in
the old partition late, and its order is not kept (docs/architecture.md), so there would be no one truth."""
AT_ONCE: Final = 0.15
ALONE_S: Final = 12.0
"""So long nothing else happens after every fourth kill of a flow, so that its recovery can be measured."""


class Kind(StrEnum):
    """What is done to a target."""

    KILL = "kill"
    """SIGKILL; servers and the feeder are started again by the run, flows by their supervisor."""
    PAUSE = "pause"
    """SIGSTOP, and SIGCONT a moment later."""
    FREEZE = "freeze"
    """SIGSTOP for longer than a group waits for a member, then SIGCONT: the process wakes as a zombie."""
    TERM = "term"
    """SIGTERM: it ends in order, and is started again."""
    SCALE = "scale"
    """Another number of processes of a flow."""
    GROW = "grow"
    """`trends streams grow`, again and again until it is done."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: at so many seconds, to these processes at once, for so long (seconds; of a stop or an outage)."""

    at_s: float
    kind: Kind
    targets: tuple[str, ...]
    for_s: float = 0.0
    processes: int = 0
    """Of a scaled flow."""
    partitions: int = 0
    """To which streams grow."""
    alone: bool = False
    """Whether nothing else happens for a while, so that the recovery can be measured."""

    def __str__(self) -> str:
        what = f"{self.kind} {' + '.join(self.targets)}"
        if self.kind is Kind.SCALE:
            return f"{what} to {self.processes}"
        if self.kind is Kind.GROW:
            return f"{what} to {self.partitions} partitions"
        return f"{what} for {self.for_s:.1f} s" if self.for_s else what


def schedule(
    seed: int, seconds: float, processes: Mapping[str, int], shards: int, *, freeze_s: float, partitions: int = 4
) -> list[Fault]:
    """The faults of a run of so many seconds.

    Args:
        processes: of each flow; ``cluster`` has a stand-by.
        freeze_s: how long a frozen process is stopped: longer than the session timeout.
        partitions: of the keyed streams; every third seed grows them to twice as many.
    """
    rng = Random(f"chaos/{seed}")
    flows = [f"{flow}-{i}" for flow, count in processes.items() for i in range(count)]
    faults: list[Fault] = []
    at, kills = FIRST_S, 0
    while at < seconds:
        fault = _one(rng, at, flows, dict(processes), shards, freeze_s)
        single = fault.kind is Kind.KILL and len(fault.targets) == 1 and fault.targets[0] in flows
        kills += single
        if single and kills % 3 == 1 and at + ALONE_S < seconds:
            fault = Fault(fault.at_s, fault.kind, fault.targets, alone=True)
        faults.append(fault)
        at += ALONE_S if fault.alone else 0.2 if rng.random() < AT_ONCE else rng.uniform(*GAP_S)
    return _growing(faults, seed, seconds / 2, flows, 2 * partitions) if seed % GROWS_EVERY == 0 else faults


def _growing(faults: list[Fault], seed: int, at: float, flows: list[str], partitions: int) -> list[Fault]:
    """The same faults with a growth among them, and kills around it."""
    rng = Random(f"growth/{seed}")
    first, last = at + KAFKA_STANDS_S[0], at + KAFKA_STANDS_S[1]
    kept = [fault for fault in faults if "kafka" not in fault.targets or not first < fault.at_s < last]
    kills = [Fault(at + GROWTH_S[0] * (0.5 + rng.random()), Kind.KILL, ("grow",))]
    kills += [Fault(at + after, Kind.KILL, (rng.choice([*flows, "feeder"]),)) for after in GROWTH_S[1:]]
    growth = Fault(at, Kind.GROW, ("streams",), partitions=partitions)
    return sorted([*kept, growth, *kills], key=lambda fault: fault.at_s)


def _one(rng: Random, at: float, flows: list[str], processes: dict[str, int], shards: int, freeze_s: float) -> Fault:
    roll = rng.random()
    if roll < 0.34:
        return Fault(at, Kind.KILL, (rng.choice(flows),))
    if roll < 0.44:
        return Fault(at, Kind.KILL, tuple(sorted(rng.sample(flows, rng.randint(2, 3)))))
    if roll < 0.50:
        flow = rng.choice(sorted(processes))
        return Fault(at, Kind.KILL, tuple(f"{flow}-{i}" for i in range(processes[flow])))
    if roll < 0.58:
        return Fault(at, Kind.PAUSE, (rng.choice(flows),), for_s=rng.uniform(0.5, 2.0))
    if roll < 0.66:
        return Fault(at, Kind.FREEZE, (rng.choice(flows),), for_s=freeze_s)
    if roll < 0.70:
        return Fault(at, Kind.TERM, (rng.choice(flows),))
    if roll < 0.77:
        return Fault(at, Kind.KILL, ("feeder",))
    if roll < 0.82:
        return Fault(at, Kind.KILL, ("kafka",), for_s=rng.uniform(0.5, 3.0))
    if roll < 0.85:
        return Fault(at, Kind.PAUSE, ("kafka",), for_s=rng.uniform(0.5, 3.0))
    if roll < 0.90:
        return Fault(at, Kind.KILL, (f"shard-{rng.randrange(shards)}",), for_s=rng.uniform(0.5, 3.0))
    if roll < 0.93:
        return Fault(at, Kind.KILL, tuple(f"shard-{i}" for i in range(shards)), for_s=rng.uniform(0.5, 3.0))
    if roll < 0.95:
        return Fault(at, Kind.PAUSE, (f"shard-{rng.randrange(shards)}",), for_s=rng.uniform(0.5, 3.0))
    if roll < 0.97:
        return Fault(at, Kind.KILL, ("supervisor",))
    flow = rng.choice([f for f in sorted(processes) if f != "cluster"])
    return Fault(at, Kind.SCALE, (flow,), processes=rng.randint(1, 3))
