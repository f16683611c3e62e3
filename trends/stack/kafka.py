"""The local Kafka broker: its jars, its configuration, starting it. KRaft, one node, bounded heap and disk.

Nothing here knows about streams; `streams/` creates those over the network like on any broker.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import hashlib
import logging
import os
import re
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from streams.errors import SettingsError, UnavailableError
from trends.stack.processes import ProcessId, spawn, tail

POM = Path(__file__).resolve().parents[2] / "infra" / "kafka" / "pom.xml"
KAFKA_VERSION = "4.1.2"
"""Not 4.2 to 4.4: such a broker, killed while a transaction is being committed, forgets its markers as it comes back
(KAFKA-20734); readers of committed records then stand still at these partitions for ever."""
MIN_JAVA = 17

DOWNLOAD_TIMEOUT_S = 600
FORMAT_TIMEOUT_S = 60
READY_TIMEOUT_S = 60
HEAP_MIB = 384
SEGMENT_BYTES = 64 * 1024 * 1024
KEYED_PARTITIONS = 64
"""About how many partitions are not compacted with the default of 8 a stream: the disk bound is shared among them."""

_silent = logging.getLogger(f"{__name__}.probe")
_silent.setLevel(logging.CRITICAL + 1)  # a broker that is not there yet is what the probe is for

_OUTSIDE = "or name an outside broker in TRENDS_KAFKA_BOOTSTRAP"


@dataclass(frozen=True, slots=True)
class KafkaFiles:
    """Where a local broker keeps its things, under one folder."""

    root: Path

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def properties(self) -> Path:
        return self.root / "server.properties"

    @property
    def log4j(self) -> Path:
        return self.root / "log4j2.properties"

    def log(self, logs: Path) -> Path:
        return logs / "kafka.log"

    def output(self, logs: Path) -> Path:
        return logs / "kafka.out"


@dataclass(frozen=True, slots=True)
class Java:
    """A Java runtime that is new enough."""

    program: str
    version: int


def find_java(java_home: Path | None) -> Java:
    """The Java runtime of ``java_home``, or the one in the search path.

    Raises:
        SettingsError: there is none, or it is older than 17; says what to install.
    """
    program = shutil.which("java", path=str(java_home / "bin")) if java_home else shutil.which("java")
    advice = f"install Java {MIN_JAVA} or newer (Debian, Ubuntu: `apt install openjdk-17-jre-headless`), {_OUTSIDE}"
    if program is None:
        where = f"in {java_home} (JAVA_HOME)" if java_home else "in the search path"
        raise SettingsError(f"the local Kafka needs Java, and there is none {where}: {advice}")
    try:
        said = subprocess.run([program, "-version"], capture_output=True, text=True, timeout=30, check=True).stderr
    except (OSError, subprocess.SubprocessError) as error:
        raise SettingsError(f"{program} does not run ({error}): {advice}") from None
    found = re.search(r'version "(?:1\.)?(\d+)', said)
    version = int(found.group(1)) if found else 0
    if version < MIN_JAVA:
        raise SettingsError(f"the local Kafka needs Java {MIN_JAVA}, {program} is version {version}: {advice}")
    return Java(program, version)


def jars_name() -> str:
    """The name of the folder of jars in the cache: another pom, another folder."""
    if not POM.is_file():
        raise SettingsError(
            f"the list of Kafka's jars is missing ({POM}): run from a clone of the repository, {_OUTSIDE}"
        )
    return f"kafka-{KAFKA_VERSION}-{hashlib.sha256(POM.read_bytes()).hexdigest()[:8]}"


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def prepare_jars(caches: Sequence[Path]) -> Path:
    """The folder with Kafka's jars, in the first of ``caches`` that can be written; fetched by Maven the first time.

    The folder appears in one step when it is complete, so a download that was killed leaves nothing half.

    Raises:
        SettingsError: Maven is missing; says what to install.
        UnavailableError: Maven could not fetch the jars.
    """
    name = jars_name()
    for cache in caches:
        if (cache / name).is_dir():
            return cache / name
    cache = _writable(caches)
    with _locked(cache / "lock"):
        for leftover in cache.glob(f"{name}.new-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        if not (cache / name).is_dir():
            _fetch(cache / f"{name}.new-{os.getpid()}", cache / name)
    return cache / name


def _writable(caches: Sequence[Path]) -> Path:
    problems = []
    for cache in caches:
        try:
            cache.mkdir(parents=True, exist_ok=True)
            with (cache / "lock").open("a"):
                return cache
        except OSError as error:
            problems.append(f"{cache}: {error.strerror}")
    raise SettingsError(f"no folder for Kafka's jars can be written ({'; '.join(problems)})")


def _fetch(new: Path, target: Path) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise SettingsError(
            "Kafka's jars are fetched by Maven, and `mvn` is not in the search path: "
            f"install Maven (Debian, Ubuntu: `apt install maven`), {_OUTSIDE}"
        )
    command = [
        maven, "--batch-mode", "--quiet", "--strict-checksums", "--file", str(POM),
        "dependency:copy-dependencies", f"-DoutputDirectory={new}",
    ]  # fmt: skip
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=DOWNLOAD_TIMEOUT_S, check=False
        )
        if done.returncode != 0 or not any(new.glob(f"kafka_*-{KAFKA_VERSION}.jar")):
            said = " ".join((done.stdout + done.stderr).split())[-600:]
            raise UnavailableError(f"Maven could not fetch Kafka's jars (exit {done.returncode}): {said}")
        new.replace(target)
    except subprocess.TimeoutExpired:
        raise UnavailableError(f"Maven did not fetch Kafka's jars within {DOWNLOAD_TIMEOUT_S} s") from None
    finally:
        shutil.rmtree(new, ignore_errors=True)


def render_properties(files: KafkaFiles, data: Path, port: int, controller_port: int, disk_mib: int) -> str:
    """The broker's ``server.properties``."""
    retention_bytes = max(2 * SEGMENT_BYTES, disk_mib * 1024 * 1024 // KEYED_PARTITIONS)
    values: dict[str, object] = {
        "process.roles": "broker,controller",
        "node.id": 1,
        "controller.quorum.voters": f"1@127.0.0.1:{controller_port}",
        "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
        "controller.listener.names": "CONTROLLER",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "log.dirs": _escaped(data),
        # One node has one copy of everything.
        "default.replication.factor": 1,
        "min.insync.replicas": 1,
        "offsets.topic.replication.factor": 1,
        "offsets.topic.num.partitions": 4,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
        "transaction.state.log.num.partitions": 4,
        "share.coordinator.state.topic.replication.factor": 1,
        "share.coordinator.state.topic.min.isr": 1,
        "share.coordinator.state.topic.num.partitions": 1,
        # Streams are made by `trends streams apply`; a mistyped name must not make one.
        "auto.create.topics.enable": "false",
        "num.partitions": 1,
        # Groups: flows restart on purpose when their assignment changes, so nothing may wait.
        "group.initial.rebalance.delay.ms": 0,
        "group.min.session.timeout.ms": 1000,
        "offsets.retention.minutes": 90 * 24 * 60,
        "offsets.topic.segment.bytes": 16 * 1024 * 1024,
        "transaction.state.log.segment.bytes": 16 * 1024 * 1024,
        "transaction.max.timeout.ms": 900_000,
        # A transaction left open by a kill is ended this soon after its timeout (default: 10 s).
        "transaction.abort.timed.out.transaction.cleanup.interval.ms": 1000,
        # Disk.
        "log.segment.bytes": SEGMENT_BYTES,
        "log.retention.bytes": retention_bytes,
        "log.retention.check.interval.ms": 60_000,
        "log.segment.delete.delay.ms": 1000,
        # An entry (12 bytes at most) per 4 KiB of a 64 MiB segment: 192 KiB. The default maps 20 MB a partition.
        "log.index.size.max.bytes": 524_288,
        "metadata.log.segment.bytes": 8 * 1024 * 1024,
        "metadata.max.retention.bytes": 32 * 1024 * 1024,
        "metadata.max.idle.interval.ms": 5000,
        # Compaction, from a small heap.
        "log.cleaner.dedupe.buffer.size": 16 * 1024 * 1024,
        "log.cleaner.backoff.ms": 5000,
        # Threads for a laptop.
        "num.network.threads": 2,
        "num.io.threads": 4,
        "background.threads": 2,
        "num.recovery.threads.per.data.dir": 2,
        "auto.leader.rebalance.enable": "false",
        # After a kill the controller waits for the old session to end before it lets the broker back in.
        "broker.heartbeat.interval.ms": 500,
        "broker.session.timeout.ms": 3000,
    }
    return "".join(f"{name}={value}\n" for name, value in values.items())


def _escaped(path: Path) -> str:
    """A path as a value of a Java properties file."""
    return "".join(c if c.isascii() else _java_escape(c) for c in str(path).replace("\\", "\\\\"))


def _java_escape(character: str) -> str:
    units = character.encode("utf-16-be")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))


def _render_log4j(log: Path) -> str:
    return f"""status = error
appender.file.type = RollingFile
appender.file.name = file
appender.file.fileName = {_escaped(log)}
appender.file.filePattern = {_escaped(log)}.%i
appender.file.layout.type = PatternLayout
appender.file.layout.pattern = %d{{ISO8601}} %p %c{{1}}: %m%n
appender.file.policies.type = Policies
appender.file.policies.size.type = SizeBasedTriggeringPolicy
appender.file.policies.size.size = 10MB
appender.file.strategy.type = DefaultRolloverStrategy
appender.file.strategy.max = 2
rootLogger.level = info
rootLogger.appenderRef.file.ref = file
logger.clients.name = org.apache.kafka.clients
logger.clients.level = warn
"""


def _java_command(java: Java, jars: Path, files: KafkaFiles, heap_mib: int) -> list[str]:
    return [
        java.program,
        f"-Xmx{heap_mib}m",
        f"-Xms{min(heap_mib, 128)}m",
        "-XX:+UseSerialGC",
        # The quick compiler alone: on a small machine the other one's work costs more than it brings back.
        "-XX:TieredStopAtLevel=1",
        "-XX:+ExitOnOutOfMemoryError",
        "-XX:MaxDirectMemorySize=128m",
        "-XX:-UsePerfData",
        "-Djava.awt.headless=true",
        "-Dlog4j2.disableJmx=true",
        f"-Dlog4j2.configurationFile={files.log4j}",
        "-classpath",
        f"{jars}/*",
    ]


def start(
    files: KafkaFiles, logs: Path, jars: Path, java: Java, *, port: int, controller_port: int, disk_mib: int
) -> ProcessId:
    """Format the storage where that has not been done, and start the broker. Returns before it is ready.

    Raises:
        SettingsError: a path that Kafka cannot take.
        UnavailableError: the storage could not be formatted.
    """
    for path, forbidden in ((files.data, ","), (jars, ":"), (jars, "*")):
        if forbidden in str(path):
            raise SettingsError(f"Kafka cannot work in a folder with {forbidden!r} in its name: {path}")
    files.root.mkdir(parents=True, exist_ok=True)
    logs.mkdir(parents=True, exist_ok=True)
    files.log4j.write_text(_render_log4j(files.log(logs)))
    if not files.data.is_dir():
        _format(files, logs, jars, java, port, controller_port, disk_mib)
    files.properties.write_text(render_properties(files, files.data, port, controller_port, disk_mib))
    command = [*_java_command(java, jars, files, HEAP_MIB), "kafka.Kafka", str(files.properties)]
    return spawn(command, files.output(logs), environment=_environment())


def _format(
    files: KafkaFiles, logs: Path, jars: Path, java: Java, port: int, controller_port: int, disk_mib: int
) -> None:
    """Format into a folder beside, then rename: a killed format leaves nothing that looks formatted.

    The name is new each time, because the format of an `up` that was killed can still be going on.
    """
    for leftover in files.root.glob("data.new-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    for settings in files.root.glob("format-*.properties"):
        settings.unlink(missing_ok=True)
    attempt = secrets.token_hex(4)
    new, properties = files.root / f"data.new-{attempt}", files.root / f"format-{attempt}.properties"
    properties.write_text(render_properties(files, new, port, controller_port, disk_mib))
    cluster_id = base64.urlsafe_b64encode(secrets.token_bytes(16)).decode().rstrip("=").replace("-", "a", 1)
    command = [
        *_java_command(java, jars, files, 128), "kafka.tools.StorageTool",
        "format", "--cluster-id", cluster_id, "--config", str(properties),
    ]  # fmt: skip
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=FORMAT_TIMEOUT_S, check=False, env=_environment(), cwd="/"
        )
    except subprocess.TimeoutExpired:
        raise UnavailableError(f"Kafka's storage was not formatted within {FORMAT_TIMEOUT_S} s") from None
    finally:
        properties.unlink(missing_ok=True)
    if done.returncode != 0:
        raise UnavailableError(f"Kafka's storage could not be formatted: {(done.stdout + done.stderr)[-800:].strip()}")
    new.replace(files.data)


def _environment() -> dict[str, str]:
    # Only what a server needs: a JAVA_TOOL_OPTIONS of the caller, say, would undo the bounds above.
    return {"PATH": os.defpath, "LANG": "C.UTF-8"}


def find_running(files: KafkaFiles) -> ProcessId | None:
    """A broker over this very folder that runs although no state file knows it."""
    for process in psutil.process_iter(["cmdline"]):
        command = process.info["cmdline"] or []
        if command and command[-1] == str(files.properties) and "kafka.Kafka" in command:
            return ProcessId.of(process.pid)
    return None


def wait_ready(process: ProcessId, files: KafkaFiles, logs: Path, port: int, timeout_s: float) -> None:
    """Wait until the broker answers a metadata request and names itself.

    Raises:
        UnavailableError: it ended, or was not ready in time; with the end of its log.
    """
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if not process.alive:
            raise UnavailableError(f"Kafka ended while starting; {_last_words(files, logs)}")
        if answers(port, timeout_s=1.0):
            return
        time.sleep(0.1)
    raise UnavailableError(f"Kafka was not ready within {timeout_s:.0f} s; {_last_words(files, logs)}")


def _last_words(files: KafkaFiles, logs: Path) -> str:
    return f"the end of {files.log(logs)}:\n{tail(files.output(logs), 5)}\n{tail(files.log(logs))}"


def answers(port: int, timeout_s: float) -> bool:
    """Whether a broker on this port answers a metadata request."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout_s):
            pass
    except OSError:
        return False
    client = AdminClient({"bootstrap.servers": f"127.0.0.1:{port}"}, logger=_silent)
    try:
        return bool(client.list_topics(timeout=timeout_s).brokers)
    except KafkaException:
        return False
