"""Settings: one documented field each, from environment and file, and errors that name what to change."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from streams.config import KafkaConfig
from streams.errors import ExitCode, SettingsError, UnavailableError
from trends.settings import PREFIX, Settings, load_settings, masked, unknown_variables
from trends.stack import StackState
from trends.stack.processes import ProcessId
from trends.stack.stack import KafkaState, ShardState

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No settings but those of the test."""
    for name in list(os.environ):
        if name.startswith(PREFIX):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def test_environment_wins_over_file_wins_over_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "trends.toml").write_text("postgres_pool_size = 40\nbatch_records = 7\n")
    monkeypatch.setenv("TRENDS_POSTGRES_POOL_SIZE", "50")
    settings = load_settings(embedder_threads=9)
    assert (settings.postgres_pool_size, settings.batch_records, settings.embedder_threads) == (50, 7, 9)
    origin = {row.name: row.source for row in settings.explain()}
    assert origin["postgres_pool_size"] == "environment TRENDS_POSTGRES_POOL_SIZE"
    assert origin["batch_records"] == "trends.toml"
    assert origin["embedder_threads"] == "command line"
    assert origin["kafka_partitions"] == "default"


def test_another_file_is_named_by_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('stack = "mine"\n')
    monkeypatch.setenv("TRENDS_CONFIG", str(tmp_path / "mine.toml"))
    assert load_settings().stack == "mine"
    monkeypatch.setenv("TRENDS_CONFIG", str(tmp_path / "none.toml"))
    with pytest.raises(SettingsError, match=r"none\.toml"):
        load_settings()


def test_a_file_that_is_no_toml_is_a_settings_error(tmp_path: Path) -> None:
    (tmp_path / "trends.toml").write_text("postgres_pool_size: 40\n")
    with pytest.raises(SettingsError, match=r"trends\.toml"):
        load_settings()


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("TRENDS_POSTGRES_POOL_SIZE", "soon", "integer"),
        ("TRENDS_POSTGRES_POOL_SIZE", "-1", "greater"),
        ("TRENDS_KAFKA_PARTITIONS", "6", "power of two"),
        ("TRENDS_STACK", "Ünfit", "pattern"),
        ("TRENDS_POSTGRES_DSNS", "mysql://secret-host/x", "postgresql://"),
        ("TRENDS_KAFKA_SECURITY_PROTOCOL", "TELNET", "SASL_SSL"),
    ],
)
def test_a_wrong_value_names_its_variable(monkeypatch: pytest.MonkeyPatch, name: str, value: str, says: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=f"{name}.*{says}") as caught:
        load_settings()
    assert caught.value.exit_code is ExitCode.USAGE
    assert "secret" not in str(caught.value)


def test_a_setting_in_the_file_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "trends.toml").write_text("postgres_pool_sizes = 40\n")
    with pytest.raises(SettingsError, match="postgres_pool_sizes"):
        load_settings()


def test_a_mistyped_variable_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRENDS_POSTGRES_POOL_SIZES", "40")
    monkeypatch.setenv("TRENDS_POSTGRES_POOL_SIZE", "40")
    assert unknown_variables() == ("TRENDS_POSTGRES_POOL_SIZES",)


def test_an_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRENDS_KAFKA_BOOTSTRAP", "")
    assert load_settings().kafka_bootstrap is None


def test_java_home_is_taken_from_where_java_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRENDS_JAVA_HOME", raising=False)
    monkeypatch.setenv("JAVA_HOME", "/opt/java")
    assert load_settings().java_home == Path("/opt/java")
    monkeypatch.setenv("TRENDS_JAVA_HOME", "/opt/other")
    assert load_settings().java_home == Path("/opt/other")


def test_tls_and_sasl_reach_the_client_and_are_shown_to_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "BOOTSTRAP": "b1:9093,b2:9093",
        "SECURITY_PROTOCOL": "SASL_SSL",
        "SASL_MECHANISM": "SCRAM-SHA-512",
        "SASL_USERNAME": "trends",
        "SASL_PASSWORD": "hunter2",
        "SSL_CA_FILE": "/etc/ca.pem",
        "REPLICATION_FACTOR": "3",
        "MIN_INSYNC": "2",
    }.items():
        monkeypatch.setenv(f"TRENDS_KAFKA_{name}", value)
    settings = load_settings()
    kafka = settings.kafka()
    client = kafka.client()
    for name in KafkaConfig("nowhere").client().keys() - {"bootstrap.servers"}:  # those that every client has
        del client[name]
    assert client == {
        "bootstrap.servers": "b1:9093,b2:9093",
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": "trends",
        "sasl.password": "hunter2",
        "ssl.ca.location": "/etc/ca.pem",
    }
    assert (kafka.replication_factor, kafka.min_insync) == (3, 2)
    assert "hunter2" not in f"{settings!r} {kafka!r} {settings.explain()}"


def test_half_of_sasl_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRENDS_KAFKA_BOOTSTRAP", "b:9093")
    monkeypatch.setenv("TRENDS_KAFKA_SECURITY_PROTOCOL", "SASL_SSL")
    with pytest.raises(SettingsError, match="kafka_sasl_mechanism"):
        load_settings()


def test_the_local_broker_cannot_have_copies() -> None:
    with pytest.raises(SettingsError, match="kafka_bootstrap"):
        load_settings(kafka_replication_factor=3)


def test_shards_are_listed_with_commas_or_spaces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRENDS_POSTGRES_DSNS", "postgresql://u:pw@a/x, postgresql://u:pw@b/x\n")
    settings = load_settings()
    assert settings.dsns() == ("postgresql://u:pw@a/x", "postgresql://u:pw@b/x")
    shown = {row.name: row.value for row in settings.explain()}["postgres_dsns"]
    assert shown == "postgresql://u:***@a/x postgresql://u:***@b/x"


def test_without_a_stack_the_error_says_how_to_get_one(tmp_path: Path) -> None:
    settings = load_settings(home=tmp_path / "none")
    with pytest.raises(SettingsError, match=r"trends up.*TRENDS_KAFKA_BOOTSTRAP"):
        settings.kafka()
    with pytest.raises(SettingsError, match=r"trends up.*TRENDS_POSTGRES_DSNS"):
        settings.dsns()
    assert not (tmp_path / "none").exists()


def test_every_setting_is_documented() -> None:
    for name, definition in Settings.model_fields.items():
        assert definition.description, name
        assert definition.description.endswith("."), name


@pytest.mark.parametrize(("suffix", "unit"), [("_ms", "ms"), ("_s", "s"), ("_mib", "MiB")])
def test_a_setting_with_a_unit_says_so(suffix: str, unit: str) -> None:
    for name, definition in Settings.model_fields.items():
        if name.endswith(suffix):
            assert re.search(rf"\b{unit}\b", definition.description or ""), name


def test_passwords_in_addresses_are_masked() -> None:
    assert masked("postgresql://me:secret@host:5432/db") == "postgresql://me:***@host:5432/db"
    assert masked(("a:1", None)) == "a:1 "


def test_nothing_else_reads_the_environment() -> None:
    rooms = ("streams", "models", "connectors", "sinks", "flows", "trends", "benchmarks")
    readers = [
        str(path.relative_to(ROOT))
        for room in rooms
        for path in (ROOT / room).rglob("*.py")
        if re.search(r"\bos\.(environ|getenv)\b|\bfrom os import .*(environ|getenv)", path.read_text())
    ]
    assert readers == ["trends/settings.py"]


@pytest.mark.parametrize("ask", [Settings.kafka, Settings.dsns], ids=["kafka", "postgres"])
def test_a_local_part_that_has_ended_is_waited_for_and_one_that_was_never_started_is_not(
    tmp_path: Path, ask: Callable[[Settings], object]
) -> None:
    settings = load_settings(home=tmp_path / "home")
    with pytest.raises(SettingsError, match="trends up"):
        ask(settings)
    ended = ProcessId(pid=os.getpid(), started=1.0)  # another process by now
    (tmp_path / "home").mkdir()
    state = StackState(KafkaState(1, 2, ended), (ShardState(3, "x", ended),))
    (tmp_path / "home" / "state.json").write_text(state.to_json())
    with pytest.raises(UnavailableError, match="trends up"):
        ask(settings)
