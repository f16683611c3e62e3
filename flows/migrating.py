"""Bringing a flow's state from the format of the former release into that of this one."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

import models.scoring
import models.state
from flows import cluster
from flows.checking import spec_of
from streams.config import KafkaConfig
from streams.errors import StateMismatchError, StateVersionError
from streams.groups import FlowGroup, Hold
from streams.io import Partition
from streams.rewriting import MIGRATION, Rewrite, key_hash, migration_ends
from streams.state import COVER_PREFIX, StateReader, high_watermarks
from streams.whole import read_whole

Upgrade = Callable[[bytes, bytes | None], list[tuple[bytes, bytes | None]]]
"""A state record of the former format as it stands in the next one: one record or several."""

UPGRADES: Final[dict[tuple[str, int], Upgrade]] = {
    ("cluster", 1): lambda key, value: [models.state.upgraded(key, value)],
    ("score", 1): models.scoring.upgraded,
}
"""By flow and the format that is left behind."""
_PLACES: Final[dict[str, Callable[[bytes, int], int]]] = {"cluster": cluster.state_partition}
"""Where a key stands in the new format, by flow, of how many state partitions; else it stays where it is."""

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Migrated:
    """What a migration has done, or would do."""

    flow: str
    before: int
    after: int
    """Formats; equal where there was nothing to do."""
    records: int
    """State records brought into the new format."""


def migrate(flow: str, kafka: KafkaConfig, generation: str, *, dry_run: bool, progress: Progress) -> Migrated:
    """Writes a flow's state in the format of this release, in the place of that of the former one.

    Killed in the middle, the state says that it is of the former format, the flow does not start, and the command can
    be run again: the former state is deleted only when all of the new one is there.

    Raises:
        GroupBusyError: processes of the flow run.
        StateVersionError: nothing leads from the format that is there to this release's.
        StateMismatchError: the state is not what the group has committed, or a record cannot be read.
        UnavailableError: the broker does not answer.
    """
    spec = spec_of(flow)
    assert spec.state is not None
    group = FlowGroup(kafka, generation, spec)
    try:
        before, broken_off = _format(group)
        if before == spec.state_version:
            return Migrated(flow, before, before, 0)
        upgrade = UPGRADES.get((flow, before))
        if upgrade is None or before + 1 != spec.state_version:
            raise StateVersionError(
                f"flow {flow}: nothing leads from format {before} of its state to {spec.state_version}, which this "
                f"release reads. Run the release that wrote it; or `trends state rebuild {flow}`. Nothing was changed."
            )
        if not broken_off:
            _check_covers(group, before)
        if dry_run:
            ends = high_watermarks(kafka, group.state_stream, range(spec.state.count(kafka))) | migration_ends(group)
            count = sum(len(batch) for p, end in ends.items() for batch in _upgraded(group, p, end, upgrade, progress))
            return Migrated(flow, before, spec.state_version, count)
        with Hold(group) as hold:

            def kept(what: str, done: int, total: int) -> None:
                hold.keep(0.0)
                progress(what, done, total)

            rewrite, place_of = Rewrite(group, hold, generation), _PLACES.get(flow)
            committed = rewrite.begin(migrated_from=before)
            for partition, end in rewrite.ends.items():
                for batch in _upgraded(group, partition, end, upgrade, kept):
                    for key, value in batch:
                        place = place_of(key, spec.state.count(kafka)) if place_of else partition
                        rewrite.write(place, [(key, value)])
            rewrite.finish(committed)
        return Migrated(flow, before, spec.state_version, rewrite.written)
    finally:
        group.close()


def _format(group: FlowGroup) -> tuple[int, bool]:
    """The format of what stands there, and whether a migration was broken off.

    Raises:
        StateMismatchError: it has no format, or several.
    """
    covers, versions, records = _covers(group)
    if not records:
        return group.spec.state_version, False  # nothing was ever written
    broken_off = any(MIGRATION in partition for partition in covers.values())
    if len(versions) != 1:
        raise StateMismatchError(
            f"the state of {group.spec.name} "
            + ("covers nothing" if not versions else f"is of formats {', '.join(map(str, sorted(versions)))} at once")
            + f": `trends state check {group.spec.name}` shows where it stands. Nothing was changed."
        )
    return versions.pop(), broken_off


def _covers(group: FlowGroup) -> tuple[dict[int, dict[Partition, int]], set[int], int]:
    assert group.spec.state is not None
    reader = StateReader(group.kafka, group.state_stream, range(group.spec.state.count(group.kafka)), lambda k, v: None)
    try:
        reader.catch_up(lambda: None)
        return reader.covers, reader.versions, reader.records
    finally:
        reader.close()


def _check_covers(group: FlowGroup, before: int) -> None:
    covers, _, _ = _covers(group)
    committed = group.committed()
    for partition in group.partitions:
        for state_partition in group.state_partitions_of(partition):
            if (covered := covers[state_partition].get(partition)) != committed.get(partition):
                raise StateMismatchError(
                    f"the state of {group.spec.name} (format {before}) covers {partition[0]}/{partition[1]} up to "
                    f"{covered}, its group has committed {committed.get(partition)}: see "
                    f"`trends state check {group.spec.name}`. Nothing was changed."
                )


def _upgraded(
    group: FlowGroup, partition: int, end: int, upgrade: Upgrade, progress: Progress
) -> Iterator[list[tuple[bytes, bytes]]]:
    """The last value of every key before ``end``, in the new format. Older values are left out: once a newer one is
    written, compaction may take what they would have been followed by."""
    last = _last_offsets(group, partition, end, progress)
    what = f"state partition {partition}"
    for batch in read_whole(
        group.kafka, group.state_stream, {partition: end}, lambda done, total: progress(what, done, total)
    ):
        offsets = np.array([message.offset() for message in batch], np.int64)
        kept = np.isin(offsets, last, assume_unique=True)
        out: list[tuple[bytes, bytes]] = []
        for message, keep in zip(batch, kept.tolist(), strict=True):
            if not keep:
                continue
            try:
                made = upgrade(message.key(), message.value())
            except ValueError as error:
                raise StateMismatchError(
                    f"{group.state_stream}/{partition}, offset {message.offset():,}: {error}. The former state stands; "
                    f"`trends state rebuild {group.spec.name}` builds it anew."
                ) from None
            out += [(key, value) for key, value in made if value is not None]
        if out:
            yield out


def _last_offsets(group: FlowGroup, partition: int, end: int, progress: Progress) -> NDArray[np.int64]:
    """The offsets of the last record of every key that has a value; 17 bytes a record while it looks."""
    hashes, offsets, values = array("Q"), array("q"), array("B")
    what = f"keys of state partition {partition}"
    for batch in read_whole(
        group.kafka, group.state_stream, {partition: end}, lambda done, total: progress(what, done, total)
    ):
        for message in batch:
            key = message.key()
            if key is not None and not key.startswith(COVER_PREFIX):
                hashes.append(key_hash(key))
                offsets.append(message.offset())
                values.append(message.value() is not None)
    if not len(hashes):
        return np.empty(0, np.int64)
    _, last = np.unique(np.frombuffer(hashes, np.uint64)[::-1], return_index=True)
    alive = np.frombuffer(values, np.uint8)[::-1][last] != 0
    return np.sort(np.frombuffer(offsets, np.int64)[::-1][last[alive]])
