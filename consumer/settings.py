"""Every setting of Quartermaster, read from the environment (prefix ``QM_``) or a ``.env`` file.

A wrong or missing setting ends in a `SettingsError`: one line that names it, without a secret's value.
"""

import json
import os
import re
import ssl
from collections.abc import Collection, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from producers.connection import KafkaConnection
from schemas.events import EventType
from schemas.money import usd_text
from schemas.outcomes import Stream

PREFIX: Final = "QM_"
#: What `run` and `replay` can't do without.
REQUIRED_TO_RUN: Final = frozenset({"litellm_url", "litellm_master_key", "key_encryption_key"})

_MAX_INTEGER: Final = 2**53 - 1
_DAY_S: Final = 86_400.0
_TOPIC: Final = re.compile(r"[A-Za-z0-9._-]{1,249}")
_BOOTSTRAP_SERVER: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s:,\[\]]+):(\d{1,5})")
_MAX_PORT: Final = 65_535
_DRIVERS: Final = ("sqlite+aiosqlite", "postgresql+asyncpg")
_PRIVATE_JWK_MEMBERS: Final = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})
_JWE_ALGORITHMS: Final = {
    "RSA": ("RSA-OAEP-256", "RSA-OAEP"),
    "EC": ("ECDH-ES+A256KW", "ECDH-ES+A192KW", "ECDH-ES+A128KW", "ECDH-ES"),
}


class SettingsError(Exception):
    """A setting is missing or wrong.

    The message is one line that names the setting as the environment spells it (``QM_...``) and never
    holds a secret's value.
    """


def _split(value: object) -> object:
    """Comma-separated text becomes a tuple, empty parts left out."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


def _usd(value: object) -> object:
    """An amount is spelled as in an event: plain digits, no exponent."""
    return usd_text(value.strip()) if isinstance(value, str) else value


def _check_topic(name: str) -> str:
    if not _TOPIC.fullmatch(name) or name in {".", ".."}:
        raise ValueError("must be a Kafka topic name: 1 to 249 letters, digits, '.', '_' or '-'")
    return name


def _check_bootstrap_servers(value: str) -> str:
    servers = [server.strip() for server in value.split(",") if server.strip()]
    for server in servers:
        match = _BOOTSTRAP_SERVER.fullmatch(server)
        if match is None or not 0 < int(match[2]) <= _MAX_PORT:
            raise ValueError("must be HOST:PORT, several separated by commas")
    if not servers:
        raise ValueError("must name at least one HOST:PORT")
    return ",".join(servers)


def _check_http_url(value: str) -> str:
    message = "must be an http:// or https:// URL without user, query or fragment"
    try:
        parts = urlsplit(value)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ValueError(message) from None
    stray = parts.username or parts.password or parts.query or parts.fragment
    if parts.scheme not in {"http", "https"} or not host or stray or not value.isprintable() or " " in value:
        raise ValueError(message)
    return value.rstrip("/")


def _check_database_url(value: SecretStr) -> SecretStr:
    try:
        url = make_url(value.get_secret_value())
    except (ArgumentError, ValueError):
        # Not the original message: it repeats the URL, password included.
        raise ValueError("must be a database URL such as sqlite+aiosqlite:///quartermaster.db") from None
    if url.drivername not in _DRIVERS:
        raise ValueError(f"must start with {_DRIVERS[0]}:// or {_DRIVERS[1]}://")
    if url.drivername == _DRIVERS[0] and url.database in {None, "", ":memory:"}:
        raise ValueError("must name a file: what SQLite keeps in memory is lost at the end")
    if url.drivername == _DRIVERS[1] and not url.database:
        raise ValueError("must name a database: postgresql+asyncpg://USER:PASSWORD@HOST:PORT/DATABASE")
    return value


def _check_header_secret(value: SecretStr) -> SecretStr:
    """What travels in an HTTP header is visible ASCII; anything else is a slip of the clipboard."""
    text = value.get_secret_value()
    if not text or not all("!" <= character <= "~" for character in text):
        raise ValueError("must be visible ASCII characters without spaces")
    return value


def _check_fernet_keys(value: SecretStr) -> SecretStr:
    from cryptography.fernet import Fernet  # noqa: PLC0415 - slow to load, and not every command has a key

    keys = [part.strip() for part in value.get_secret_value().split(",") if part.strip()]
    if not keys:
        raise ValueError("must hold at least one Fernet key")
    for number, key in enumerate(keys, start=1):
        try:
            Fernet(key)
        except ValueError:
            raise ValueError(
                f"key {number} of {len(keys)} is not a Fernet key (32 bytes, URL-safe base64); make one with "
                "python -c 'from cryptography.fernet import Fernet; print(Fernet.generate_key().decode())'"
            ) from None
    return SecretStr(",".join(keys))


def _check_delivery_jwk(value: str) -> str:
    from joserfc import jwe, jwk  # noqa: PLC0415 - slow to load, and few have such a key
    from joserfc.errors import JoseError  # noqa: PLC0415 - the same

    try:
        key = json.loads(value)
    except ValueError:
        raise ValueError("must be one JSON Web Key, as JSON") from None
    if not isinstance(key, dict):
        raise ValueError("must be one JSON Web Key: a JSON object")  # noqa: TRY004 - pydantic wants ValueError
    if private := sorted(_PRIVATE_JWK_MEMBERS & key.keys()):
        raise ValueError(f"must be a public key, but has the private member(s) {', '.join(private)}")
    allowed = _JWE_ALGORITHMS.get(str(key.get("kty")))
    if allowed is None:
        raise ValueError("must have kty RSA or EC")
    algorithm = key.get("alg", allowed[0])
    if algorithm not in allowed:
        raise ValueError(f"must have as alg one of {', '.join(allowed)}, or none")
    if key.get("use", "enc") != "enc":
        raise ValueError("must be a key for encryption: use is not 'enc'")
    if not isinstance(key.get("kid", ""), str):
        raise ValueError("must have a text as kid, or none")  # noqa: TRY004 - the same
    try:
        # A trial, because only then a broken or too short key shows: better now than at the first key.
        jwe.encrypt_compact(
            {"alg": algorithm, "enc": "A256GCM"},
            b"trial",
            jwk.import_key(key),
            algorithms=[algorithm, "A256GCM"],
        )
    except (JoseError, ValueError, TypeError, KeyError):
        raise ValueError("is not a key that can encrypt") from None
    return value


def _check_authorities(value: Path) -> Path:
    if not value.is_file():
        raise ValueError("names no file")
    try:
        ssl.create_default_context(cafile=value)
    except OSError:
        raise ValueError("names a file that is no certificates in PEM") from None
    return value


Topic = Annotated[str, AfterValidator(_check_topic)]
CommaSeparated = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
Topics = Annotated[tuple[Topic, ...], NoDecode, BeforeValidator(_split)]
HttpUrl = Annotated[str, AfterValidator(_check_http_url)]
Authorities = Annotated[Path, AfterValidator(_check_authorities)]


class Settings(BaseSettings):
    """The settings as checked values; read them with `load_settings`, which has the good errors.

    Frozen: what was checked at the start stays as it was.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_file=".env",
        env_file_encoding="utf-8",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
        validate_default=False,
    )

    # Kafka
    kafka_bootstrap_servers: Annotated[str, AfterValidator(_check_bootstrap_servers)] = Field(
        default="localhost:9092", description="Kafka brokers to start from: HOST:PORT, comma-separated."
    )
    kafka_group_id: str = Field(
        default="quartermaster",
        min_length=1,
        max_length=249,
        description="The consumer group; all instances that share the work share it.",
    )
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        default="PLAINTEXT",
        description="How to speak to the brokers: PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL.",
    )
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        default="PLAIN", description="PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512; used with the SASL_ protocols."
    )
    kafka_sasl_username: str | None = Field(
        default=None, description="The user; required with the SASL_ protocols."
    )
    kafka_sasl_password: SecretStr | None = Field(
        default=None, description="The user's password; required with the SASL_ protocols. Secret."
    )
    kafka_ssl_cafile: Authorities | None = Field(
        default=None,
        description="A PEM file of the authorities to trust; none: the system's. For the SSL protocols.",
    )
    kafka_session_timeout: float = Field(
        default=10.0,
        ge=1,
        le=300,
        allow_inf_nan=False,
        description="Seconds without a sign of life until an instance's partitions go to others. "
        "Brokers take 6 to 1800 unless set up otherwise.",
    )
    kafka_idempotence: bool = Field(
        default=True,
        description="Have the brokers drop the repeats of a request that was sent twice. "
        "Only for brokers that can't: false.",
    )

    # Topics and our name
    topic_org_created: Topic = Field(default="org.created", description="The topic `org.created` comes on.")
    topic_user_joined: Topic = Field(default="user.joined", description="The topic `user.joined` comes on.")
    topic_job_completed: Topic = Field(
        default="job.completed",
        description="The topic `job.completed` comes on. The three may be the same topic.",
    )
    topics_also_read: Topics = Field(
        default=(),
        description="Further topics to read, comma-separated, such as one left behind by a renaming.",
    )
    topic_provisioning_outcomes: Topic = Field(
        default="provisioning.outcomes",
        description="Where the outcomes of `org.created` and `user.joined` go.",
    )
    topic_credits_outcomes: Topic = Field(
        default="credits.outcomes",
        description="Where the outcomes of `job.completed` and of `credits` commands go.",
    )
    topic_dead_letters: Topic = Field(
        default="quartermaster.dead-letters",
        description="Where refused records go, their original bytes kept. Can't be a topic that is read.",
    )
    source: str = Field(
        default="/quartermaster",
        min_length=1,
        max_length=512,
        pattern=r"^[^\x00-\x20\x7f]+$",
        description="CloudEvents `source` of our outcomes, and part of our mark in LiteLLM. "
        "Keep it: ids hang on it.",
    )

    # Database
    database_url: Annotated[SecretStr, AfterValidator(_check_database_url)] = Field(
        default=SecretStr("sqlite+aiosqlite:///quartermaster.db"),
        description="sqlite+aiosqlite:///FILE for one instance, "
        "postgresql+asyncpg://USER:PASSWORD@HOST:PORT/DATABASE for any number. Secret.",
    )

    # LiteLLM
    litellm_url: HttpUrl | None = Field(
        default=None, description="The LiteLLM proxy as we reach it. Required by `run` and `replay`."
    )
    litellm_public_url: HttpUrl | None = Field(
        default=None,
        description="The proxy as its users reach it: `base_url` in outcomes. Default: QM_LITELLM_URL.",
    )
    litellm_master_key: Annotated[SecretStr, AfterValidator(_check_header_secret)] | None = Field(
        default=None,
        description="An admin key of the proxy, sent as `Authorization: Bearer`. "
        "Required by `run` and `replay`. Secret.",
    )
    litellm_ssl_cafile: Authorities | None = Field(
        default=None, description="A PEM file of the authorities to trust for the proxy; none: the system's."
    )
    litellm_timeout_s: float = Field(
        default=10.0,
        gt=0,
        le=300,
        allow_inf_nan=False,
        description="Seconds until a call to LiteLLM counts as unanswered.",
    )
    litellm_concurrency: int = Field(
        default=8, ge=1, le=256, description="Organizations provisioned at the same time by one instance."
    )
    adopt_existing_teams: bool = Field(
        default=False,
        description="Take over a team that is not ours instead of `team_conflict`; "
        "its budget, models, members and keys stay.",
    )

    # What events leave open
    default_initial_credits: int = Field(
        default=0, ge=0, le=_MAX_INTEGER, description="Credits of an organization whose event names none."
    )
    default_max_budget_usd: Annotated[Decimal | None, BeforeValidator(_usd)] = Field(
        default=None,
        ge=0,
        description="Budget in USD of a team whose event names none; none: no limit.",
    )
    default_models: CommaSeparated = Field(
        default=(),
        description="LiteLLM models or access groups of a team whose event names none; none: all models.",
    )
    credits_per_job: int = Field(
        default=1, ge=0, le=_MAX_INTEGER, description="Credits a completed job costs from now on."
    )

    # Patience
    retry_for: float = Field(
        default=3600.0,
        ge=0,
        le=30 * _DAY_S,
        allow_inf_nan=False,
        description="Seconds, from an event's first try against LiteLLM, until provisioning gives up.",
    )
    dependency_wait: float = Field(
        default=3600.0,
        ge=0,
        le=30 * _DAY_S,
        allow_inf_nan=False,
        description="Seconds a `user.joined` or `job.completed` waits for an unknown organization.",
    )
    max_event_bytes: int = Field(
        default=524_288,
        ge=1024,
        le=16 * 1024 * 1024,
        description="Bytes of a record's value beyond which it is a dead letter, `too_large`.",
    )
    breaker_bad: int = Field(
        default=100,
        ge=1,
        le=200,
        description="Bad ones among a topic's last 200 records that pause the topic.",
    )
    breaker_pause: float = Field(
        default=60.0,
        gt=0,
        le=_DAY_S,
        allow_inf_nan=False,
        description="Seconds a paused topic rests before ten records are let through.",
    )
    keep_days: int = Field(
        default=90, ge=1, le=36_500, description="Days that outcomes and dead letters stay in the database."
    )

    # Keys
    key_encryption_key: Annotated[SecretStr, AfterValidator(_check_fernet_keys)] | None = Field(
        default=None,
        description="Fernet keys for the virtual keys at rest, comma-separated: the first encrypts, "
        "all decrypt. Required by `run` and `replay`. Secret.",
    )
    key_delivery_jwk: Annotated[str, AfterValidator(_check_delivery_jwk)] | None = Field(
        default=None,
        description="The receiver's public key (JWK, RSA or EC); with it outcomes carry the API key "
        "encrypted (JWE), without it in no form.",
    )

    # The process
    http_host: str = Field(
        default="127.0.0.1", min_length=1, description="Where /healthz, /readyz and /metrics listen."
    )
    http_port: int = Field(
        default=8080, ge=0, le=_MAX_PORT, description="Their port; 0: any free one, named in the log."
    )
    shutdown_timeout: float = Field(
        default=25.0,
        gt=0,
        le=3600,
        allow_inf_nan=False,
        description="Seconds after SIGTERM or SIGINT to finish what is in hand.",
    )
    log_format: Literal["json", "console"] | None = Field(
        default=None, description="`json` or `console`; none: `console` on a terminal, else `json`."
    )
    log_level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR"],
        BeforeValidator(lambda value: value.upper() if isinstance(value, str) else value),
    ] = Field(default="INFO", description="DEBUG, INFO, WARNING or ERROR.")

    @model_validator(mode="after")
    def _dead_letters_are_not_read(self) -> Self:
        for name in ("topic_org_created", "topic_user_joined", "topic_job_completed"):
            if getattr(self, name) == self.topic_dead_letters:
                raise ValueError(
                    f"{variable('topic_dead_letters')} must not be a topic that is read: "
                    f"it is the same as {variable(name)}"
                )
        if self.topic_dead_letters in self.topics_also_read:
            raise ValueError(
                f"{variable('topic_dead_letters')} must not be a topic that is read: "
                f"{variable('topics_also_read')} names it too"
            )
        return self

    @model_validator(mode="after")
    def _sasl_has_credentials(self) -> Self:
        if self.kafka_security_protocol.startswith("SASL_"):
            for name in ("kafka_sasl_username", "kafka_sasl_password"):
                if getattr(self, name) is None:
                    raise ValueError(
                        f"{variable(name)} is missing: "
                        f"{variable('kafka_security_protocol')}={self.kafka_security_protocol} needs it"
                    )
        return self

    @property
    def inbound_topics(self) -> tuple[str, ...]:
        """The topics to read, each once, in the order of the settings."""
        named = (self.topic_org_created, self.topic_user_joined, self.topic_job_completed)
        return tuple(dict.fromkeys((*named, *self.topics_also_read)))

    @property
    def kafka(self) -> KafkaConnection:
        """How to reach the brokers."""
        return KafkaConnection(
            bootstrap_servers=self.kafka_bootstrap_servers,
            security_protocol=self.kafka_security_protocol,
            sasl_mechanism=self.kafka_sasl_mechanism,
            sasl_username=self.kafka_sasl_username,
            sasl_password=self.kafka_sasl_password.get_secret_value() if self.kafka_sasl_password else None,
            ssl_cafile=str(self.kafka_ssl_cafile) if self.kafka_ssl_cafile else None,
        )

    @property
    def outbound_topics(self) -> Mapping[Stream, str]:
        """The topic each stream of ours is written to."""
        return {
            Stream.PROVISIONING: self.topic_provisioning_outcomes,
            Stream.CREDITS: self.topic_credits_outcomes,
            Stream.DEAD_LETTER: self.topic_dead_letters,
        }

    @property
    def event_topics(self) -> Mapping[EventType, str]:
        """The topic each type of event is published to by upstream."""
        return {
            EventType.ORG_CREATED: self.topic_org_created,
            EventType.USER_JOINED: self.topic_user_joined,
            EventType.JOB_COMPLETED: self.topic_job_completed,
        }

    @property
    def public_url(self) -> str | None:
        """`base_url` in outcomes: the proxy as its users reach it."""
        return self.litellm_public_url or self.litellm_url

    @property
    def fernet_keys(self) -> tuple[str, ...]:
        """The Fernet keys, the one that encrypts first; none where the setting is missing. Secret."""
        if self.key_encryption_key is None:
            return ()
        return tuple(self.key_encryption_key.get_secret_value().split(","))

    @property
    def is_sqlite(self) -> bool:
        """Whether the database is a SQLite file, and so this process's alone."""
        return self.sqlite_path is not None

    @property
    def sqlite_path(self) -> Path | None:
        """The database's file; none on PostgreSQL."""
        url = make_url(self.database_url.get_secret_value())
        return Path(str(url.database)) if url.drivername == _DRIVERS[0] else None


class IsolatedSettings(Settings):
    """Settings from the arguments alone: neither the environment nor a ``.env`` file is read."""

    @classmethod
    def settings_customise_sources(  # noqa: D102
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)


def variable(name: str) -> str:
    """How the environment spells the setting `name`."""
    return PREFIX + name.upper()


def load_settings(*, require: Collection[str] = (), env_file: Path | None = Path(".env")) -> Settings:
    """Read and check the settings.

    Args:
        require: fields that must be set although `Settings` has no default for them, such as
            `REQUIRED_TO_RUN`.
        env_file: read besides the environment, which goes first; none: the environment alone.

    Raises:
        SettingsError: one is missing or wrong.
    """
    try:
        # `_env_file` is pydantic-settings' own argument; its mypy plugin does not know it.
        settings = Settings(_env_file=env_file)
    except ValidationError as error:
        raise SettingsError(_in_one_line(error)) from None
    except UnicodeDecodeError:
        raise SettingsError(f"{env_file} is not UTF-8 text") from None
    except OSError as error:
        raise SettingsError(f"{env_file} can't be read: {error.strerror}") from None
    missing = [
        variable(name) for name in Settings.model_fields if name in require and not getattr(settings, name)
    ]
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        raise SettingsError(f"{', '.join(missing)} {verb} missing (neither in the environment nor in .env)")
    return settings


def unknown_variables(environ: Mapping[str, str] | None = None) -> list[str]:
    """Variables that look like settings of ours and are none: most often a misspelling."""
    known = {variable(name) for name in Settings.model_fields}
    names = os.environ if environ is None else environ
    return sorted(name for name in names if name.upper().startswith(PREFIX) and name.upper() not in known)


def _in_one_line(error: ValidationError) -> str:
    return "; ".join(_reason(detail["loc"], detail["msg"]) for detail in error.errors(include_input=False))


def _reason(location: tuple[Any, ...], message: str) -> str:
    # Our own checks speak in whole sentences behind pydantic's prefix; its messages begin with a capital.
    text = message.removeprefix("Value error, ").replace("Input should", "should")
    return f"{variable(str(location[0]))} {text[:1].lower()}{text[1:]}" if location else text
