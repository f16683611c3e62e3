"""Bring the local stack up and down, and say how it is: one data folder, one state file, one lock.

What an outside broker or database stands for is left alone. The servers themselves are in `kafka.py`, `postgres.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import secrets
import signal
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from streams.errors import SettingsError, UnavailableError
from trends.stack import kafka, postgres
from trends.stack.processes import Account, ProcessId, choose_ports, port_is_free, reap, stop

T = TypeVar("T")

STATE_VERSION = 1
LOCK_TIMEOUT_S = 180.0
READY_TIMEOUT_S = 60.0
STOP_GRACE_S = 30.0
MAX_SHARDS = 64
START_ATTEMPTS = 3
"""A port that was free can be taken before the server listens: then another one is tried."""


@dataclass(frozen=True, slots=True)
class KafkaState:
    """The local broker: its ports, and its process while it runs."""

    port: int
    controller_port: int
    process: ProcessId | None = None

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self.port}"


@dataclass(frozen=True, slots=True)
class ShardState:
    """One local PostgreSQL shard: its port, its password, and its process while it runs."""

    port: int
    password: str = field(repr=False)
    process: ProcessId | None = None

    @property
    def dsn(self) -> str:
        return postgres.dsn(self.port, self.password)


@dataclass(frozen=True, slots=True)
class StackState:
    """What the state file holds. Written in one step, readable for its owner alone: it has the passwords."""

    kafka: KafkaState | None = None
    shards: tuple[ShardState, ...] = ()

    @property
    def bootstrap(self) -> str | None:
        """Where the local broker listens, while it runs."""
        here = self.kafka
        return here.bootstrap if here and here.process and here.process.alive else None

    @property
    def dsns(self) -> tuple[str, ...]:
        """The connection strings of the local shards, in order, while all of them run."""
        if not all(shard.process and shard.process.alive for shard in self.shards):
            return ()
        return tuple(shard.dsn for shard in self.shards)

    def to_json(self) -> str:
        return json.dumps({"version": STATE_VERSION, **asdict(self)}, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> StackState:
        """Raises ValueError, KeyError or TypeError where the text is no state file of this version."""
        raw = json.loads(text)
        if raw["version"] != STATE_VERSION:
            raise ValueError(f"version {raw['version']} of the state file")
        broker = raw["kafka"]
        return cls(
            kafka=None if broker is None else KafkaState(**{**broker, "process": _process(broker["process"])}),
            shards=tuple(ShardState(**{**shard, "process": _process(shard["process"])}) for shard in raw["shards"]),
        )


def _process(raw: dict[str, Any] | None) -> ProcessId | None:
    return None if raw is None else ProcessId(**raw)


@dataclass(frozen=True, slots=True)
class PartStatus:
    """How one server is: ``up``, ``down`` or ``not answering`` (its process runs, but it does not answer)."""

    name: str
    status: str
    address: str
    pid: int | None
    memory_mib: int
    disk_mib: int
    log: str


@dataclass(frozen=True, slots=True)
class StackStatus:
    """How the local stack is. ``running``: every part of it is up; False too where there is none."""

    home: str
    parts: tuple[PartStatus, ...]

    @property
    def running(self) -> bool:
        return bool(self.parts) and all(part.status == "up" for part in self.parts)


class Stack:
    """The local stack over one data folder.

    Args:
        home: the data folder; made where it is missing.
        shards: PostgreSQL shards; only more of them can be asked for later, never fewer.
        with_kafka, with_postgres: False where an outside one is used instead.
        java_home: where Java is, if not in the search path.
        cache: folder that stacks share (Kafka's jars); ``home`` where it cannot be written.
        kafka_disk_mib: about how much disk the records of the local broker may take.
    """

    def __init__(
        self,
        home: Path,
        *,
        cache: Path,
        shards: int = 2,
        with_kafka: bool = True,
        with_postgres: bool = True,
        java_home: Path | None = None,
        kafka_disk_mib: int = 16_384,
    ) -> None:
        self.home = Path(os.path.abspath(home))  # noqa: PTH100 (links stay as the user wrote them)
        self.cache = cache
        self.shards = shards
        self.with_kafka = with_kafka
        self.with_postgres = with_postgres
        self.java_home = java_home
        self.kafka_disk_mib = kafka_disk_mib
        self._files = kafka.KafkaFiles(self.home / "kafka")
        self._logs = self.home / "logs"
        self._writing = threading.Lock()

    # -- state ---------------------------------------------------------------------------------------------------

    @property
    def state_file(self) -> Path:
        return self.home / "state.json"

    def state(self) -> StackState:
        """What the state file says; empty where there is none or it cannot be read (a crash while it was new)."""
        try:
            return StackState.from_json(self.state_file.read_text())
        except (OSError, ValueError, KeyError, TypeError):
            return StackState()

    def _save(self, change: Callable[[StackState], StackState]) -> StackState:
        with self._writing:
            state = change(self.state())
            new = self.state_file.with_name("state.json.new")
            descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(state.to_json())
                file.flush()
                os.fsync(file.fileno())
            new.replace(self.state_file)
            return state

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """One `up` or `down` at a time. The kernel frees the lock of a process that was killed."""
        try:
            self.home.mkdir(parents=True, exist_ok=True)
            file = (self.home / "lock").open("a+")
        except OSError as error:
            raise SettingsError(
                f"the data folder {self.home} cannot be written ({error.strerror}): set TRENDS_HOME to another"
            ) from None
        with file:
            deadline = time.monotonic() + LOCK_TIMEOUT_S
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise UnavailableError(
                            f"another `trends up` or `trends down` has held {self.home} for {LOCK_TIMEOUT_S:.0f} s"
                        ) from None
                    time.sleep(0.1)
            yield

    # -- up ------------------------------------------------------------------------------------------------------

    def up(self, progress: Callable[[str], None] = lambda _line: None) -> StackState:
        """Start what does not run, and return when all of it answers. Changes nothing where everything does.

        Raises:
            SettingsError: something to install or to set is missing; the message says what.
            UnavailableError: a server did not start; the message has the end of its log.
        """
        if not (self.with_kafka or self.with_postgres):
            return StackState()
        with self._locked():
            jobs: list[Callable[[], None]] = []
            if self.with_kafka:
                jobs.append(lambda: self._kafka_up(progress))
            if self.with_postgres:
                account = postgres.choose_account()
                binaries = postgres.find_binaries(account, self._program_caches())
                self._plan_shards()
                for number in range(len(self.state().shards)):
                    jobs.append(lambda number=number: self._shard_up(number, binaries, account, progress))  # type: ignore[misc]
            if jobs:
                with ThreadPoolExecutor(max_workers=len(jobs), thread_name_prefix="trends-up") as pool:
                    errors = [error for error in (f.exception() for f in [pool.submit(j) for j in jobs]) if error]
                if errors:
                    raise errors[0]
            return self.state()

    def _program_caches(self) -> tuple[Path, ...]:
        return (self.cache, Path("/var/cache/trend-intelligence"), Path("/var/tmp/trend-intelligence"))

    def _plan_shards(self) -> None:
        """Give every shard a port and a password that is known before its data folder is made."""
        known = self.state().shards
        folders = [self._shard_folder(number) for number in range(len(known), MAX_SHARDS)]
        lost = [folder for folder in folders if (folder / "PG_VERSION").is_file()]
        if lost:
            raise SettingsError(
                f"{self.state_file} does not know the PostgreSQL data in {lost[0]} (its password is gone with it): "
                "bring the state file back, or remove the folder to begin anew"
            )
        if self.shards < len(known):
            raise SettingsError(
                f"this stack has {len(known)} PostgreSQL shards, {self.shards} were asked for: shards can be added, "
                f"not removed; set TRENDS_POSTGRES_SHARDS={len(known)} or take another TRENDS_HOME"
            )
        if len(known) < self.shards:
            ports = choose_ports([0] * (self.shards - len(known)))
            new = tuple(ShardState(port, secrets.token_urlsafe(24)) for port in ports)
            self._save(lambda state: replace(state, shards=(*state.shards, *new)))

    def _kafka_up(self, progress: Callable[[str], None]) -> None:
        here = self.state().kafka
        if here and here.process and here.process.alive and kafka.answers(here.port, timeout_s=5):
            return
        java = kafka.find_java(self.java_home)
        caches = (self.cache, self.home / "cache")
        if not any((cache / kafka.jars_name()).is_dir() for cache in caches):
            progress("fetching Kafka's jars (once, about 43 MB)")
        jars = kafka.prepare_jars(caches)
        for process in {here.process if here else None, kafka.find_running(self._files)} - {None}:
            assert process is not None
            stop(process, first=signal.SIGTERM, grace_s=STOP_GRACE_S)
        ports = [here.port, here.controller_port] if here else [0, 0]
        for attempt in range(START_ATTEMPTS):
            port, controller_port = choose_ports(ports)
            process = kafka.start(
                self._files, self._logs, jars, java,
                port=port, controller_port=controller_port, disk_mib=self.kafka_disk_mib,
            )  # fmt: skip
            started = KafkaState(port, controller_port, process)
            self._save(lambda state, started=started: replace(state, kafka=started))  # type: ignore[misc]
            try:
                kafka.wait_ready(process, self._files, self._logs, port, READY_TIMEOUT_S)
                progress(f"Kafka on {started.bootstrap}")
                return
            except UnavailableError:
                taken = not process.alive and not (port_is_free(port) and port_is_free(controller_port))
                stop(process, first=signal.SIGTERM, grace_s=5)
                if attempt == START_ATTEMPTS - 1 or not taken:
                    raise
                ports = [0, 0]

    def _shard_folder(self, number: int) -> Path:
        return self.home / "postgres" / f"shard-{number}"

    def _shard_log(self, number: int) -> Path:
        return self._logs / f"postgres-{number}.log"

    def _shard_up(
        self,
        number: int,
        binaries: postgres.Binaries,
        account: Account | None,
        progress: Callable[[str], None],
    ) -> None:
        here = self.state().shards[number]
        if here.process and here.process.alive and _run(postgres.answers(here.port, here.password, timeout_s=5)):
            return
        data, log = self._shard_folder(number), self._shard_log(number)
        for process in {here.process, postgres.find_running(data)} - {None}:
            assert process is not None
            stop(process, first=signal.SIGINT, grace_s=STOP_GRACE_S)
        for attempt in range(START_ATTEMPTS):
            (port,) = choose_ports([here.port if attempt == 0 else 0])
            process = postgres.start(data, log, binaries, account, port=port, password=here.password)
            started = replace(here, port=port, process=process)
            self._save(lambda state, started=started: _with_shard(state, number, started))  # type: ignore[misc]
            try:
                _run(postgres.wait_ready(process, log, port, here.password, READY_TIMEOUT_S))
                progress(f"PostgreSQL shard {number} on 127.0.0.1:{port}")
                return
            except UnavailableError:
                taken = not process.alive and not port_is_free(port)
                stop(process, first=signal.SIGINT, grace_s=5)
                if attempt == START_ATTEMPTS - 1 or not taken:
                    raise

    # -- down ----------------------------------------------------------------------------------------------------

    def down(self) -> tuple[str, ...]:
        """Stop every server of this folder, and return the names of those that ran. Data stays."""
        if not self.home.is_dir():
            return ()
        with self._locked():
            state = self.state()
            running: list[tuple[str, ProcessId, signal.Signals]] = []
            broker = {state.kafka.process if state.kafka else None, kafka.find_running(self._files)} - {None}
            running += [("Kafka", process, signal.SIGTERM) for process in broker if process and process.alive]
            for number in range(MAX_SHARDS):
                known = state.shards[number].process if number < len(state.shards) else None
                if known is None and not self._shard_folder(number).is_dir():
                    break
                processes = {known, postgres.find_running(self._shard_folder(number))} - {None}
                name = f"PostgreSQL shard {number}"
                running += [(name, process, signal.SIGINT) for process in processes if process and process.alive]
            if running:
                with ThreadPoolExecutor(max_workers=len(running), thread_name_prefix="trends-down") as pool:
                    for _ in pool.map(lambda each: stop(each[1], first=each[2], grace_s=STOP_GRACE_S), running):
                        pass
            if self.state_file.exists():
                self._save(_without_processes)
            reap()
            return tuple(dict.fromkeys(name for name, _, _ in running))

    # -- status --------------------------------------------------------------------------------------------------

    def status(self) -> StackStatus:
        """How every server of this folder is: asked, not assumed."""
        state = self.state()
        parts = []
        if state.kafka:
            up = kafka.answers(state.kafka.port, timeout_s=3) if state.bootstrap else False
            parts.append(
                self._part("Kafka", state.kafka.process, up, state.kafka.bootstrap, self._files.root,
                           self._files.log(self._logs))
            )  # fmt: skip
        for number, shard in enumerate(state.shards):
            alive = bool(shard.process and shard.process.alive)
            up = alive and _run(postgres.answers(shard.port, shard.password, timeout_s=3))
            parts.append(
                self._part(f"PostgreSQL shard {number}", shard.process, up, f"127.0.0.1:{shard.port}",
                           self._shard_folder(number), self._shard_log(number))
            )  # fmt: skip
        return StackStatus(str(self.home), tuple(parts))

    def _part(
        self, name: str, process: ProcessId | None, up: bool, address: str, folder: Path, log: Path
    ) -> PartStatus:
        alive = bool(process and process.alive)
        return PartStatus(
            name=name,
            status="up" if up else "not answering" if alive else "down",
            address=address,
            pid=process.pid if process and alive else None,
            memory_mib=process.rss_bytes // 1_048_576 if process else 0,
            disk_mib=_disk_bytes(folder) // 1_048_576,
            log=str(log),
        )


def _with_shard(state: StackState, number: int, shard: ShardState) -> StackState:
    return replace(state, shards=(*state.shards[:number], shard, *state.shards[number + 1 :]))


def _without_processes(state: StackState) -> StackState:
    return StackState(
        kafka=replace(state.kafka, process=None) if state.kafka else None,
        shards=tuple(replace(shard, process=None) for shard in state.shards),
    )


def _disk_bytes(folder: Path) -> int:
    """What the files of a folder take on disk (sparse files count what they use)."""
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += (Path(root) / name).lstat().st_blocks * 512
    return total


def _run(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end, whether or not this thread has an event loop."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        return pool.submit(asyncio.run, work).result()
