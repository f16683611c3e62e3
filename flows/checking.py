"""Whether a flow's state, its group and its inputs agree, and where they do not, the way on. Nothing is changed."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

import models.scoring
import models.state
import models.summaries
from flows import cluster, score, summarize
from streams.config import KafkaConfig
from streams.errors import SettingsError
from streams.groups import FlowGroup
from streams.io import Partition, Positions
from streams.rewriting import key_hash
from streams.spec import FlowSpec
from streams.state import COVER_PREFIX, high_watermarks, parse_cover
from streams.whole import read_whole

SPECS: Final[dict[str, FlowSpec]] = {spec.name: spec for spec in (cluster.SPEC, score.SPEC, summarize.SPEC)}
"""The flows that keep state."""

Checker = Callable[[bytes, bytes], None]
_CHECKERS: Final[dict[str, Checker]] = {
    "cluster": models.state.check_value,
    "score": models.scoring.check_value,
    "summarize": models.summaries.check_value,
}


@dataclass(frozen=True, slots=True)
class Cover:
    """One input partition, as one state partition reflects it."""

    stream: str
    partition: int
    state_partition: int
    covered: int | None
    committed: int | None
    begin: int
    end: int

    @property
    def verdict(self) -> str:
        """``ok``, ``not committed``, ``not covered``, ``ahead`` or ``behind`` (the state, of the group), ``expired``
        (records were deleted before they were read), ``beyond the end`` (the stream was made anew)."""
        if self.committed != self.covered:
            if self.committed is None:
                return "not committed"
            if self.covered is None:
                return "not covered"
            return "ahead" if self.covered > self.committed else "behind"
        if self.committed is not None and self.committed < self.begin:
            return "expired"
        return "beyond the end" if self.committed is not None and self.committed > self.end else "ok"


@dataclass(frozen=True, slots=True)
class StatePartition:
    """What stands in one state partition."""

    partition: int
    records: int
    """In the log, covers left out; compaction has not merged all of them."""
    keys: int
    """With a value."""
    formats: tuple[int, ...]
    """That its covers speak of."""
    unreadable: int
    example: str | None
    """The first record that cannot be read, and why."""


@dataclass(frozen=True, slots=True)
class Problem:
    """What is off, and what to do about it."""

    what: str
    way_on: str


@dataclass(frozen=True, slots=True)
class FlowCheck:
    """Everything about one flow's state."""

    flow: str
    group: str
    stream: str
    format: int
    """That this release reads and writes."""
    members: tuple[str, ...]
    partitions: tuple[StatePartition, ...]
    covers: tuple[Cover, ...]
    problems: tuple[Problem, ...]


def spec_of(flow: str) -> FlowSpec:
    """The specification of a flow that keeps state.

    Raises:
        SettingsError: it keeps none.
    """
    if flow not in SPECS:
        raise SettingsError(f"{flow} keeps no state; those that do: {', '.join(SPECS)}")
    return SPECS[flow]


def check(flow: str, kafka: KafkaConfig, generation: str, progress: Callable[[int, int], None] | None) -> FlowCheck:
    """Reads a flow's state stream, every value of it, and compares its covers with what the group has committed.

    A flow that runs meanwhile is no problem: a cover may lie anywhere between what was committed before its partition
    was read and after.

    Raises:
        SettingsError: the flow keeps no state.
        UnavailableError: the broker does not answer.
    """
    spec = spec_of(flow)
    group = FlowGroup(kafka, generation, spec)
    try:
        before = group.committed()
        read = [
            _read(group, p, end, _CHECKERS[flow], progress)
            for p, end in high_watermarks(
                kafka, group.state_stream, range(spec.state.count(kafka) if spec.state else 0)
            ).items()
        ]
        after, ends = group.committed(), group.ends()
        partitions = tuple(partition for partition, _ in read)
        covered = {partition.partition: covers for partition, covers in read}
        covers = tuple(
            Cover(
                stream=p[0], partition=p[1], state_partition=state_partition,
                covered=(at := covered[state_partition].get(p)),
                committed=at if _between(before.get(p), at, after.get(p)) else after.get(p),
                begin=ends[p][0], end=ends[p][1],
            )
            for p in group.partitions
            for state_partition in group.state_partitions_of(p)
        )  # fmt: skip
        problems = tuple(_problems(spec, partitions, covers, after))
        members = tuple(group.members())
    finally:
        group.close()
    return FlowCheck(flow, group.name, group.state_stream, spec.state_version, members, partitions, covers, problems)


def _between(before: int | None, covered: int | None, after: int | None) -> bool:
    if covered is None or after is None:
        return covered == after
    return (0 if before is None else before) <= covered <= after


def _read(
    group: FlowGroup, partition: int, end: int, checker: Checker, progress: Callable[[int, int], None] | None
) -> tuple[StatePartition, dict[Partition, int]]:
    covers: dict[Partition, tuple[int, int]] = {}
    hashes, values = array("Q"), array("B")
    unreadable, example = 0, None
    for batch in read_whole(group.kafka, group.state_stream, {partition: end}, progress):
        for message in batch:
            key, value = message.key(), message.value()
            if key is not None and key.startswith(COVER_PREFIX):
                _take_cover(covers, key, value)
                continue
            hashes.append(key_hash(key or b""))
            values.append(value is not None)
            if (wrong := _wrong(message, checker)) is not None:
                unreadable += 1
                example = example or wrong
    own = group.spec.state_version
    formats = tuple(sorted({version for _, version in covers.values()}))
    if any(version != own for version in formats):
        unreadable, example = 0, None  # of another format: migrated first, read then
    read = StatePartition(partition, len(hashes), _live(hashes, values), formats, unreadable, example)
    return read, {covered: offset for covered, (offset, _) in covers.items()}


def _take_cover(covers: dict[Partition, tuple[int, int]], key: bytes, value: bytes | None) -> None:
    covered, offset, version = parse_cover(key, value or b"0")
    if value is None:
        covers.pop(covered, None)
    else:
        covers[covered] = (offset, version)


def _wrong(message: Any, checker: Checker) -> str | None:
    """Why a state record cannot be read; None where it can."""
    key, value = message.key(), message.value()
    if key is None:
        return f"offset {message.offset():,} has no key"
    if value is None:
        return None
    try:
        checker(key, value)
    except Exception as error:
        return f"offset {message.offset():,}, key {key[:60]!r}: {type(error).__name__}: {error}"[:300]
    return None


def _live(hashes: array[int], values: array[int]) -> int:
    """How many keys have a value in their last record."""
    if not len(hashes):
        return 0
    backwards = np.frombuffer(hashes, np.uint64)[::-1]
    _, last = np.unique(backwards, return_index=True)
    return int(np.frombuffer(values, np.uint8)[::-1][last].sum())


def _problems(
    spec: FlowSpec, partitions: tuple[StatePartition, ...], covers: tuple[Cover, ...], committed: Positions
) -> list[Problem]:
    name = spec.name
    rebuild = f"`trends state rebuild {name}` builds the state anew from the recorded decisions"
    offsets = f"`trends state offsets {name}` sets the offsets to what the state covers"
    found: list[Problem] = []
    older = {f for p in partitions for f in p.formats if f < spec.state_version}
    newer = {f for p in partitions for f in p.formats if f > spec.state_version}
    if older:
        text = f"the state is of format {', '.join(map(str, sorted(older)))}, this release reads {spec.state_version}"
        found.append(Problem(text, f"`trends state migrate {name}`"))
    if newer:
        text = f"the state is of format {', '.join(map(str, sorted(newer)))}, this release reads {spec.state_version}"
        found.append(Problem(text, f"run the release that wrote it; or {rebuild}"))
    for p in partitions:
        if p.unreadable:
            text = f"state partition {p.partition} has records that cannot be read: {p.unreadable:,} ({p.example})"
            found.append(Problem(text, rebuild))
    off = {verdict: [c for c in covers if c.verdict == verdict] for verdict in {c.verdict for c in covers} - {"ok"}}
    if not committed and any(c.covered is not None for c in covers):
        found.append(Problem("the group has no offsets, and the state says how far it was", offsets))
    elif "not committed" in off:
        found.append(Problem(f"the group has no offset, but the state has: {_places(off['not committed'])}", offsets))
    if "not covered" in off and not older:
        found.append(Problem(f"the state does not cover what is committed: {_places(off['not covered'])}", rebuild))
    if "behind" in off:
        text = f"the state reflects less than is committed: {_places(off['behind'])}"
        found.append(Problem(text, f"{rebuild}; or, where the offsets were moved forward by hand, {offsets}"))
    if "ahead" in off:
        text = f"the state reflects more than is committed, so offsets were moved back: {_places(off['ahead'])}"
        found.append(Problem(text, offsets))
    if "expired" in off:
        text = f"records were deleted before they were read: {_places(off['expired'])}"
        found.append(
            Problem(text, f"start it once with `trends flow {name} --on-gap skip`, which records what is missing")
        )
    if "beyond the end" in off:
        text = f"the stream ends before what is committed, so it was made anew: {_places(off['beyond the end'])}"
        found.append(Problem(text, "build the next generation from the stores (`trends replay build`)"))
    return found


def _places(covers: list[Cover]) -> str:
    """The first few of them."""
    shown = [
        f"{c.stream}/{c.partition} ({'nothing' if c.covered is None else f'{c.covered:,}'} covered by state partition "
        f"{c.state_partition}, {'nothing' if c.committed is None else f'{c.committed:,}'} committed, "
        f"{c.begin:,} to {c.end:,} there)"
        for c in covers[:3]
    ]
    return "; ".join(shown) + (f"; and {len(covers) - 3} more" if len(covers) > 3 else "")
