"""Every setting of the platform: one documented field each, with its default and unit. Values only, no behaviour.

The one place that reads the environment. A field ``x`` is set by ``TRENDS_X``, or by ``x = …`` in ``trends.toml`` (in
the working folder, or the file that ``TRENDS_CONFIG`` names); the environment wins. To add a setting, add a field.
"""

from __future__ import annotations

import os
import re
import tomllib
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, Field, PrivateAttr, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from sinks.postgres import PostgresConfig
from streams.config import KafkaConfig
from streams.errors import SettingsError, UnavailableError
from streams.keys import BUCKETS
from streams.records import Granularity
from streams.spec import OnGap
from trends.stack import MAX_SHARDS, Stack

PREFIX = "TRENDS_"
CONFIG_VARIABLE = "TRENDS_CONFIG"
CONFIG_FILE = "trends.toml"


class SecurityProtocol(StrEnum):
    """How clients talk to the brokers."""

    PLAINTEXT = "PLAINTEXT"
    SSL = "SSL"
    SASL_PLAINTEXT = "SASL_PLAINTEXT"
    SASL_SSL = "SASL_SSL"


class Settings(BaseSettings):
    """All settings. `trends settings` prints them with their values and where those came from."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, extra="forbid", frozen=True, populate_by_name=True, env_ignore_empty=True
    )

    home: Path = Field(Path(".trends"), description="Data folder of the local stack, the run and the reports.")
    stack: str = Field(
        "",
        pattern=r"^([a-z0-9][a-z0-9_-]{0,31})?$",
        description="Name of this stack on a shared broker: prefix of stream names, group and transactional ids.",
    )
    generation: str = Field(
        "g1",
        pattern=r"^[a-z][a-z0-9_]{0,31}$",
        description="Generation (embedding model and clustering) that flows write and readers read; unset: the live "
        "one (`trends generations list`), which is g1 until another is promoted.",
    )
    cache_home: Path = Field(
        Path("~/.cache"),
        validation_alias=AliasChoices("TRENDS_CACHE_HOME", "XDG_CACHE_HOME"),
        description="Folder in which trend-intelligence/ keeps Kafka's jars, shared by all stacks.",
    )
    java_home: Path | None = Field(
        None,
        validation_alias=AliasChoices("TRENDS_JAVA_HOME", "JAVA_HOME"),
        description="Java 17 or newer for the local Kafka; unset: `java` of the search path.",
    )

    kafka_bootstrap: str | None = Field(
        None, min_length=1, description="Outside brokers, host:port with commas; unset: the local stack's."
    )
    kafka_security_protocol: SecurityProtocol = Field(
        SecurityProtocol.PLAINTEXT, description="PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL."
    )
    kafka_sasl_mechanism: str | None = Field(None, description="SASL mechanism: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512.")
    kafka_sasl_username: str | None = Field(None, description="SASL user name.")
    kafka_sasl_password: SecretStr | None = Field(None, description="SASL password.")
    kafka_ssl_ca_file: Path | None = Field(
        None, description="Certificates (PEM) that the brokers' are checked against; unset: the system's."
    )
    kafka_ssl_certificate_file: Path | None = Field(None, description="Our own certificate (PEM), for mutual TLS.")
    kafka_ssl_key_file: Path | None = Field(None, description="Our own private key (PEM), for mutual TLS.")
    kafka_ssl_key_password: SecretStr | None = Field(None, description="Password of our private key.")
    kafka_replication_factor: int = Field(1, ge=1, le=9, description="Copies of every partition; 3 in production.")
    kafka_min_insync: int = Field(
        1, ge=1, le=9, description="Copies that must have a record before it counts as written; 2 in production."
    )
    kafka_partitions: int = Field(4, ge=1, le=BUCKETS, description="Partitions of every keyed stream; a power of two.")
    kafka_max_record_bytes: int = Field(1_048_576, ge=16_384, le=64 * 1_048_576, description="Largest record, bytes.")
    kafka_session_timeout_ms: int = Field(
        6_000, ge=1_000, le=300_000, description="Silence after which a flow process counts as dead, ms."
    )
    kafka_role_session_timeout_ms: int = Field(
        3_000,
        ge=1_000,
        le=300_000,
        description="The same for cluster, whose stand-by takes over then, ms; the broker's "
        "group.min.session.timeout.ms must allow it.",
    )
    kafka_transaction_timeout_ms: int = Field(
        60_000, ge=5_000, le=900_000, description="Time after which the broker ends an open transaction, ms."
    )
    kafka_disk_mib: int = Field(
        16_384, ge=1_024, description="About how much disk records may take in the local Kafka, MiB."
    )

    postgres_dsns: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        repr=False,
        description="Outside PostgreSQL shards, postgresql://… with commas, in order; unset: the local stack's.",
    )
    postgres_shards: int = Field(
        2, ge=1, le=MAX_SHARDS, description="Shards of the local PostgreSQL; can grow, not shrink."
    )
    postgres_pool_size: int = Field(4, ge=1, le=100, description="Connections of one process to each shard.")
    postgres_statement_cache: int = Field(
        100,
        ge=0,
        le=10_000,
        description="Prepared statements that a connection keeps; 0 behind PgBouncer in transaction mode.",
    )
    postgres_connect_timeout_s: float = Field(10.0, gt=0, le=300, description="Longest wait for a connection, s.")
    postgres_statement_timeout_s: float = Field(60.0, gt=0, le=3600, description="Longest run of one statement, s.")
    postgres_outage_timeout_s: float = Field(
        3_600.0,
        ge=0,
        le=86_400,
        description="How long the store waits for a shard that is away before its process ends with 69, s.",
    )

    embedder: Literal["onnx", "null", "sentence-transformers", "openai"] = Field(
        "onnx",
        description="Embedding model: onnx (all-MiniLM-L6-v2, int8, CPU), sentence-transformers (the extra gpu), "
        "openai (any compatible /v1/embeddings), or null (no meaning; for benchmarks). Another model needs another "
        "generation.",
    )
    embedder_model: str | None = Field(
        None, description="sentence-transformers: name or folder; openai: the model's name; onnx: a folder."
    )
    embedder_dimensions: int = Field(384, ge=1, le=4_000, description="Components of the model's vectors.")
    embedder_url: str | None = Field(None, description="openai: the API's base, such as http://localhost:8000/v1.")
    embedder_api_key: SecretStr | None = Field(None, description="openai: sent as a bearer token.")
    embedder_tokens_per_day: int = Field(
        1_000_000_000,
        ge=1,
        description="openai: tokens that all embedding processes use in a day (UTC), counted in PostgreSQL or where "
        "TRENDS_CACHE_URL says; when they are spent, items wait for the next day and the processes are not ready. "
        "Queries are not counted.",
    )
    embedder_device: str | None = Field(
        None, description="sentence-transformers: cuda, cpu; unset: a GPU if there is one."
    )
    embedder_threads: int = Field(1, ge=1, le=256, description="onnx: threads of one embedding process.")

    granularity: Granularity = Field(
        Granularity.NORMAL,
        description="How alike posts must be to be one topic: fine (more and purer topics), normal, or coarse (fewer "
        "and wider ones). Another one needs another generation.",
    )

    summarizer: Literal["extractive", "openai"] = Field(
        "extractive",
        description="How stories are summarised: extractive (sentences of the items, quoted), or openai (a language "
        "model behind any compatible /v1/chat/completions, such as vLLM's; extractive where it cannot).",
    )
    summarizer_url: str | None = Field(None, description="openai: the API's base, such as http://localhost:8000/v1.")
    summarizer_model: str | None = Field(None, description="openai: the model's name at the endpoint.")
    summarizer_api_key: SecretStr | None = Field(None, description="openai: sent as a bearer token.")
    summarizer_from_items: int = Field(
        6,
        ge=2,
        description="openai: topics are given to the model from so many items on, where their leading items tell one "
        "story; the others' summaries are extractive.",
    )
    summarizer_concurrency: int = Field(
        4, ge=1, le=64, description="openai: requests of one process under way at the same time."
    )
    summarizer_timeout_s: float = Field(60.0, gt=0, le=600, description="openai: longest wait for one reply, s.")
    summarizer_tokens_per_day: int = Field(
        2_000_000,
        ge=0,
        description="openai: tokens that all processes may use in a day (UTC), prompts included; beyond it summaries "
        "are extractive, and tried again the next day.",
    )
    cache_url: SecretStr | None = Field(
        None,
        description="Redis or Valkey, redis://… or rediss://…, for the summaries that a model wrote (the extra redis); "
        "unset: they are kept in PostgreSQL.",
    )

    commit_ms: int = Field(500, ge=10, le=10_000, description="Time after which a flow commits (one transaction), ms.")
    commit_records: int = Field(20_000, ge=1, le=1_000_000, description="Records after which a flow commits earlier.")
    commit_bytes: int = Field(
        16 * 1_048_576, ge=65_536, le=1024 * 1_048_576, description="Bytes after which a flow commits earlier."
    )
    on_gap: OnGap = Field(
        OnGap.STOP,
        description="Records that retention deleted before a flow read them: stop (exit 78, says which), or skip them; "
        "what is skipped is recorded (stream pipeline.gaps).",
    )
    batch_records: int = Field(512, ge=1, le=100_000, description="Records that a flow takes at once.")

    log_format: Literal["text", "json"] = Field("text", description="Log lines for people, or one JSON object a line.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least important level that is logged."
    )
    metrics_host: str = Field(
        "127.0.0.1",
        description="Address on which a process serves /health, /ready and /metrics; 0.0.0.0 in containers.",
    )
    metrics_port: int = Field(
        0,
        ge=0,
        le=65_535,
        description="Port of /health, /ready and /metrics; 0: any free one. `trends run` serves its own there, and its "
        "processes theirs on the ports that follow.",
    )
    process_name: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$",
        description="Name of this flow process in its group, unlike any other of its flow; unset: FLOW-0.",
    )
    hang_s: float = Field(
        90.0,
        ge=1,
        le=3_600,
        description="A running flow process with lag that makes no progress for so long hangs, s. Above the time for "
        "which a neighbour's open transaction can hold its records back.",
    )
    silent_s: float = Field(
        15.0, ge=1, le=3_600, description="A process that does not answer at /health for so long hangs, s."
    )

    _file: Path | None = PrivateAttr(None)
    _given: frozenset[str] = PrivateAttr(frozenset())

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        del dotenv_settings, file_secret_settings
        file = config_file()
        sources = (init_settings, env_settings)
        return (*sources, TomlConfigSettingsSource(settings_cls, toml_file=file)) if file else sources

    @field_validator("generation")
    @classmethod
    def _is_a_name(cls, value: str) -> str:
        if value == "live":
            raise ValueError("live is no generation's name; leave it unset to follow the live one")
        return value

    @field_validator("postgres_dsns", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return tuple(re.split(r"[,\s]+", value.strip(", \t\n"))) if isinstance(value, str) else value

    @field_validator("postgres_dsns")
    @classmethod
    def _are_addresses(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for dsn in value:
            if not re.match(r"postgres(ql)?://", dsn):
                raise ValueError("each shard is an address that starts with postgresql://")
        return value

    @field_validator("kafka_partitions")
    @classmethod
    def _is_power_of_two(cls, value: int) -> int:
        if value & (value - 1):
            raise ValueError("must be a power of two, so that partitions can be doubled later")
        return value

    @field_validator("home", "cache_home")
    @classmethod
    def _expand(cls, value: Path) -> Path:
        return value.expanduser()

    @model_validator(mode="after")
    def _agree(self) -> Settings:
        if self.kafka_min_insync > self.kafka_replication_factor:
            raise ValueError("kafka_min_insync cannot be larger than kafka_replication_factor")
        sasl = self.kafka_security_protocol.startswith("SASL")
        if sasl and not (self.kafka_sasl_mechanism and self.kafka_sasl_username and self.kafka_sasl_password):
            raise ValueError("SASL needs kafka_sasl_mechanism, kafka_sasl_username and kafka_sasl_password")
        if self.summarizer == "openai" and not (self.summarizer_url and self.summarizer_model):
            raise ValueError("summarizer openai needs summarizer_url and summarizer_model")
        if self.kafka_bootstrap is None and self.kafka_replication_factor > 1:
            raise ValueError("the local Kafka is one node: kafka_replication_factor > 1 needs kafka_bootstrap")
        return self

    def is_set(self, name: str) -> bool:
        """Whether a setting was given by command line, environment or file, and is not merely its default."""
        return name in self.model_fields_set

    def having(self, **changes: Any) -> Settings:
        """These settings with some values replaced, as if the command line had given them."""
        changed = self.model_copy(update=changes)
        changed._given = self._given | changes.keys()
        return changed

    # -- what the settings amount to -----------------------------------------------------------------------------

    def local_stack(self) -> Stack:
        """The local stack of these settings: its data folder, and the parts that no outside one stands for."""
        return Stack(
            self.home,
            cache=self.cache_home / "trend-intelligence",
            shards=self.postgres_shards,
            with_kafka=self.kafka_bootstrap is None,
            with_postgres=not self.postgres_dsns,
            java_home=self.java_home,
            kafka_disk_mib=self.kafka_disk_mib,
        )

    def kafka(self) -> KafkaConfig:
        """How to reach Kafka: the outside brokers, or those of the local stack, which must be up.

        Raises:
            SettingsError: there are neither.
            UnavailableError: the local one has ended by itself: what waits for it goes on when it is back.
        """
        state = self.local_stack().state()
        bootstrap = self.kafka_bootstrap or state.bootstrap
        if bootstrap is None and state.kafka and state.kafka.process:
            raise UnavailableError(f"the local Kafka has ended; `trends up` starts it again (data folder {self.home})")
        if bootstrap is None:
            raise SettingsError(
                f"no Kafka: start the local stack (`trends up`; data folder {self.home}), or set TRENDS_KAFKA_BOOTSTRAP"
            )
        return KafkaConfig(
            bootstrap=bootstrap,
            stack=self.stack,
            partitions=self.kafka_partitions,
            replication_factor=self.kafka_replication_factor,
            min_insync=self.kafka_min_insync,
            security=self._security() if self.kafka_bootstrap else {},
            max_record_bytes=self.kafka_max_record_bytes,
            session_timeout_ms=self.kafka_session_timeout_ms,
            role_session_timeout_ms=self.kafka_role_session_timeout_ms,
            transaction_timeout_ms=self.kafka_transaction_timeout_ms,
        )

    def _security(self) -> dict[str, str]:
        """TLS and SASL in librdkafka's words; only what is set."""
        values: dict[str, object] = {
            "security.protocol": self.kafka_security_protocol,
            "sasl.mechanism": self.kafka_sasl_mechanism,
            "sasl.username": self.kafka_sasl_username,
            "sasl.password": self.kafka_sasl_password and self.kafka_sasl_password.get_secret_value(),
            "ssl.ca.location": self.kafka_ssl_ca_file,
            "ssl.certificate.location": self.kafka_ssl_certificate_file,
            "ssl.key.location": self.kafka_ssl_key_file,
            "ssl.key.password": self.kafka_ssl_key_password and self.kafka_ssl_key_password.get_secret_value(),
        }
        if self.kafka_security_protocol is SecurityProtocol.PLAINTEXT:
            return {}
        return {name: str(value) for name, value in values.items() if value is not None}

    def dsns(self) -> tuple[str, ...]:
        """Connection strings of the PostgreSQL shards, in order: outside ones, or the local stack's, which must be up.

        Raises:
            SettingsError: there are neither.
            UnavailableError: a local one has ended by itself: what waits for it goes on when it is back.
        """
        state = self.local_stack().state()
        dsns = self.postgres_dsns or state.dsns
        if not dsns and any(shard.process and not shard.process.alive for shard in state.shards):
            raise UnavailableError(f"a local shard has ended; `trends up` starts it again (data folder {self.home})")
        if not dsns:
            raise SettingsError(
                f"no PostgreSQL: start the local stack (`trends up`; data folder {self.home}), "
                "or set TRENDS_POSTGRES_DSNS"
            )
        return dsns

    def postgres(self) -> PostgresConfig:
        """How to reach the PostgreSQL shards, and the bounds on talking to them.

        Raises:
            SettingsError: there are none.
        """
        return PostgresConfig(
            dsns=self.dsns(),
            generation=self.generation,
            dimensions=self.embedder_dimensions,
            pool_size=self.postgres_pool_size,
            statement_cache=self.postgres_statement_cache,
            connect_timeout_s=self.postgres_connect_timeout_s,
            statement_timeout_s=self.postgres_statement_timeout_s,
            outage_timeout_s=self.postgres_outage_timeout_s,
        )

    def explain(self) -> tuple[SettingRow, ...]:
        """Every setting: its value (secrets masked), where that came from, its default and its meaning."""
        in_file = _toml(self._file)
        rows = []
        for name, definition in type(self).model_fields.items():
            variable = _variable(name)
            if name in self._given:
                source = "command line"
            elif variable:
                source = f"environment {variable}"
            elif name in in_file:
                source = str(self._file)
            else:
                source = "default"
            value = getattr(self, name)
            if source == "default" and name in ("kafka_bootstrap", "postgres_dsns"):
                state = self.local_stack().state()
                local = state.bootstrap if name == "kafka_bootstrap" else state.dsns
                value, source = (local, "local stack") if local else (value, source)
            rows.append(
                SettingRow(name, PREFIX + name.upper(), masked(value), source, masked(definition.default),
                           definition.description or "")
            )  # fmt: skip
        return tuple(rows)


@dataclass(frozen=True, slots=True)
class SettingRow:
    """One setting, to be shown."""

    name: str
    variable: str
    value: str
    source: str
    default: str
    meaning: str


def load_settings(**given: Any) -> Settings:
    """The settings from environment and file; ``given`` ones (of the command line) win.

    Raises:
        SettingsError: a value that cannot be used; names the variable, and what is wrong with it.
    """
    try:
        settings = Settings(**given)
    except ValidationError as error:
        raise SettingsError("; ".join(_told(dict(each)) for each in error.errors())) from None
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"{config_file()} cannot be read: {error}") from None
    settings._file = config_file()
    settings._given = frozenset(given)
    return settings


def _told(error: dict[str, Any]) -> str:
    name = str(error["loc"][0]) if error["loc"] else ""
    message = str(error["msg"]).removeprefix("Value error, ")
    if not name:
        return f"settings: {message}"
    if error["type"] == "extra_forbidden":
        return f"{config_file()}: there is no setting {name!r}; `trends settings` lists them all"
    lower = name.lower()
    field = lower.removeprefix(PREFIX.lower()) if lower.startswith(PREFIX.lower()) else lower
    shown = "" if isinstance(error.get("input"), SecretStr) or "password" in field or "dsn" in field else (
        f", not {error.get('input')!r}"
    )  # fmt: skip
    return f"{PREFIX}{field.upper()} ({field} in {CONFIG_FILE}): {message}{shown}"


def config_file() -> Path | None:
    """The settings file: that of TRENDS_CONFIG, else trends.toml in the working folder, where there is one.

    Raises:
        SettingsError: TRENDS_CONFIG names a file that is not there.
    """
    named = os.environ.get(CONFIG_VARIABLE)
    if named:
        if not Path(named).is_file():
            raise SettingsError(f"{CONFIG_VARIABLE} names a file that is not there: {named}")
        return Path(named)
    return Path(CONFIG_FILE) if Path(CONFIG_FILE).is_file() else None


def environment_of(settings: Settings) -> dict[str, str]:
    """An environment in which another process of the platform gets these very settings."""
    environment = dict(os.environ)
    for name in settings._given:
        value = getattr(settings, name)
        if isinstance(value, SecretStr):
            value = value.get_secret_value()
        text = ",".join(value) if isinstance(value, tuple) else "" if value is None else str(value)
        environment[PREFIX + name.upper()] = text
    environment[PREFIX + "HOME"] = str(settings.home.absolute())
    if settings._file:
        environment[CONFIG_VARIABLE] = str(settings._file.absolute())
    return environment


def unknown_variables() -> tuple[str, ...]:
    """Variables of the environment that look like settings and are none: most likely mistyped."""
    known = {variable for name in Settings.model_fields for variable in _variables(name)} | {CONFIG_VARIABLE}
    return tuple(sorted(name for name in os.environ if name.startswith(PREFIX) and name not in known))


def _variables(name: str) -> tuple[str, ...]:
    alias = Settings.model_fields[name].validation_alias
    if isinstance(alias, AliasChoices):
        return tuple(str(choice) for choice in alias.choices)
    return (PREFIX + name.upper(),)


def _variable(name: str) -> str | None:
    return next((variable for variable in _variables(name) if os.environ.get(variable)), None)


def _toml(file: Path | None) -> dict[str, Any]:
    if file is None:
        return {}
    with file.open("rb") as opened:
        return tomllib.load(opened)


def masked(value: object) -> str:
    """A value as text for a person: secrets and passwords in addresses as stars."""
    if value is None or value == ():
        return ""
    if isinstance(value, tuple):
        return " ".join(masked(each) for each in value)
    return re.sub(r"(://[^:/@\s]*:)[^@\s]*@", r"\1***@", str(value))
