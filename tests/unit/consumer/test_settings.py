import json
from pathlib import Path

import certifi
import pytest
from cryptography.fernet import Fernet
from joserfc import jwk

from consumer.settings import (
    REQUIRED_TO_RUN,
    IsolatedSettings,
    Settings,
    SettingsError,
    load_settings,
    unknown_variables,
)

SECRET = "hush-4711"


@pytest.fixture(autouse=True)
def empty_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"QM_{name.upper()}", raising=False)
    monkeypatch.chdir(tmp_path)


def refusal(monkeypatch: pytest.MonkeyPatch, **values: str) -> str:
    for name, value in values.items():
        monkeypatch.setenv(f"QM_{name}", value)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_every_setting_has_a_default_but_those_that_run_requires() -> None:
    settings = load_settings()

    assert settings.kafka_bootstrap_servers == "localhost:9092"
    assert settings.inbound_topics == ("org.created", "user.joined", "job.completed")
    assert settings.topic_dead_letters == "quartermaster.dead-letters"
    assert settings.database_url.get_secret_value() == "sqlite+aiosqlite:///quartermaster.db"
    assert (settings.retry_for, settings.dependency_wait) == (3600, 3600)
    assert (settings.breaker_bad, settings.breaker_pause, settings.keep_days) == (100, 60, 90)
    assert settings.default_max_budget_usd is None
    assert settings.default_models == ()
    assert {name for name in REQUIRED_TO_RUN if getattr(settings, name) is None} == REQUIRED_TO_RUN


def test_every_setting_is_documented() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_missing_settings_are_named_in_one_line() -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(require=REQUIRED_TO_RUN)

    assert str(caught.value) == (
        "QM_LITELLM_URL, QM_LITELLM_MASTER_KEY, QM_KEY_ENCRYPTION_KEY are missing "
        "(neither in the environment nor in .env)"
    )


def test_a_required_setting_that_is_empty_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QM_LITELLM_URL", "")

    with pytest.raises(SettingsError, match=r"^QM_LITELLM_URL is missing"):
        load_settings(require={"litellm_url"})


def test_a_dotenv_file_is_read_and_the_environment_goes_first(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text("QM_KAFKA_GROUP_ID=file\nQM_CREDITS_PER_JOB=3\nOTHER=x\n")
    monkeypatch.setenv("QM_KAFKA_GROUP_ID", "environment")

    settings = load_settings()

    assert (settings.kafka_group_id, settings.credits_per_job) == ("environment", 3)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("KAFKA_BOOTSTRAP_SERVERS", "localhost"),
        ("KAFKA_BOOTSTRAP_SERVERS", "localhost:99999"),
        ("KAFKA_BOOTSTRAP_SERVERS", ","),
        ("KAFKA_SECURITY_PROTOCOL", "TLS"),
        ("KAFKA_SSL_CAFILE", "/nowhere/ca.pem"),
        ("TOPIC_ORG_CREATED", "org created"),
        ("TOPIC_USER_JOINED", "."),
        ("TOPICS_ALSO_READ", "fine,not/fine"),
        ("SOURCE", "with space"),
        ("SOURCE", "x" * 513),
        ("DATABASE_URL", "postgresql://host/db"),
        ("DATABASE_URL", "sqlite+aiosqlite://"),
        ("DATABASE_URL", "sqlite+aiosqlite:///:memory:"),
        ("DATABASE_URL", "postgresql+asyncpg://host"),
        ("DATABASE_URL", "nonsense"),
        ("LITELLM_URL", "localhost:4000"),
        ("LITELLM_URL", "http://user:pw@localhost"),
        ("LITELLM_URL", "http://localhost:4000x"),
        ("LITELLM_PUBLIC_URL", "ftp://host"),
        ("LITELLM_MASTER_KEY", "sk bad"),
        ("LITELLM_TIMEOUT_S", "0"),
        ("LITELLM_TIMEOUT_S", "inf"),
        ("LITELLM_CONCURRENCY", "0"),
        ("ADOPT_EXISTING_TEAMS", "perhaps"),
        ("DEFAULT_INITIAL_CREDITS", "-1"),
        ("DEFAULT_INITIAL_CREDITS", str(2**53)),
        ("DEFAULT_MAX_BUDGET_USD", "-0.01"),
        ("DEFAULT_MAX_BUDGET_USD", "NaN"),
        ("DEFAULT_MAX_BUDGET_USD", "1e3"),
        ("DEFAULT_MAX_BUDGET_USD", "1234567890123"),
        ("DEFAULT_MAX_BUDGET_USD", "0.1234567890123"),
        ("CREDITS_PER_JOB", "-1"),
        ("CREDITS_PER_JOB", "1.5"),
        ("RETRY_FOR", "-1"),
        ("RETRY_FOR", "1h"),
        ("DEPENDENCY_WAIT", "nan"),
        ("MAX_EVENT_BYTES", "10"),
        ("BREAKER_BAD", "0"),
        ("BREAKER_BAD", "201"),
        ("BREAKER_PAUSE", "0"),
        ("KEEP_DAYS", "0"),
        ("KEY_ENCRYPTION_KEY", "short"),
        ("KEY_DELIVERY_JWK", "{"),
        ("KEY_DELIVERY_JWK", "[]"),
        ("KEY_DELIVERY_JWK", '{"kty":"RSA","e":"AQAB"}'),
        ("HTTP_PORT", "65536"),
        ("SHUTDOWN_TIMEOUT", "0"),
        ("LOG_FORMAT", "xml"),
        ("LOG_LEVEL", "LOUD"),
    ],
)
def test_a_wrong_value_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    assert f"QM_{name} " in refusal(monkeypatch, **{name: value})


@pytest.mark.parametrize(
    "name", ["TOPIC_ORG_CREATED", "TOPIC_USER_JOINED", "TOPIC_JOB_COMPLETED", "TOPICS_ALSO_READ"]
)
def test_the_dead_letter_topic_is_never_read(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    message = refusal(monkeypatch, TOPIC_DEAD_LETTERS="bin", **{name: "bin"})

    assert message.startswith("QM_TOPIC_DEAD_LETTERS must not be a topic that is read")
    assert f"QM_{name}" in message


def test_the_three_topics_may_be_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ORG_CREATED", "USER_JOINED", "JOB_COMPLETED"):
        monkeypatch.setenv(f"QM_TOPIC_{name}", "events")
    monkeypatch.setenv("QM_TOPICS_ALSO_READ", "old, events,older,")

    assert load_settings().inbound_topics == ("events", "old", "older")


def test_sasl_needs_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    message = refusal(monkeypatch, KAFKA_SECURITY_PROTOCOL="SASL_SSL", KAFKA_SASL_USERNAME="u")

    assert message == "QM_KAFKA_SASL_PASSWORD is missing: QM_KAFKA_SECURITY_PROTOCOL=SASL_SSL needs it"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", f"postgres://u:{SECRET}@host/db"),
        ("DATABASE_URL", f"postgresql+asyncpg://u:{SECRET}@host:notaport/db"),
        ("LITELLM_MASTER_KEY", f"{SECRET} "),
        ("LITELLM_MASTER_KEY", f"{SECRET}\n"),
        ("KEY_ENCRYPTION_KEY", f"{'A' * 43}=,{SECRET}"),
        ("KEY_DELIVERY_JWK", json.dumps({"kty": "RSA", "d": SECRET})),
        ("LITELLM_URL", f"http://u:{SECRET}@host"),
    ],
)
def test_a_secret_is_never_printed_back(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    assert SECRET not in refusal(monkeypatch, **{name: value})


def test_the_settings_hide_their_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QM_LITELLM_MASTER_KEY", SECRET)
    monkeypatch.setenv("QM_DATABASE_URL", f"postgresql+asyncpg://u:{SECRET}@host/db")

    assert SECRET not in repr(load_settings())


def test_several_encryption_keys_keep_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [Fernet.generate_key().decode() for _ in range(3)]
    monkeypatch.setenv("QM_KEY_ENCRYPTION_KEY", ", ".join(keys))

    assert load_settings().fernet_keys == tuple(keys)


@pytest.mark.parametrize("key", [jwk.RSAKey.generate_key(2048), jwk.ECKey.generate_key("P-256")])
def test_a_public_key_is_taken_and_a_private_one_refused(
    monkeypatch: pytest.MonkeyPatch, key: jwk.RSAKey | jwk.ECKey
) -> None:
    message = refusal(monkeypatch, KEY_DELIVERY_JWK=json.dumps(key.as_dict(private=True)))
    assert message.startswith("QM_KEY_DELIVERY_JWK must be a public key")

    public = json.dumps(key.as_dict(private=False))
    monkeypatch.setenv("QM_KEY_DELIVERY_JWK", public)
    assert load_settings().key_delivery_jwk == public


def test_the_public_url_is_the_proxys_where_none_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QM_LITELLM_URL", "http://litellm:4000/")
    assert load_settings().public_url == "http://litellm:4000"

    monkeypatch.setenv("QM_LITELLM_PUBLIC_URL", "https://models.example/v1/")
    assert load_settings().public_url == "https://models.example/v1"


def test_a_file_of_authorities_must_hold_some(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nothing of the kind")

    assert refusal(monkeypatch, LITELLM_SSL_CAFILE=str(tmp_path / "ca.pem")) == (
        "QM_LITELLM_SSL_CAFILE names a file that is no certificates in PEM"
    )

    monkeypatch.setenv("QM_LITELLM_SSL_CAFILE", certifi.where())
    assert load_settings().litellm_ssl_cafile == Path(certifi.where())


def test_a_budget_keeps_its_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QM_DEFAULT_MAX_BUDGET_USD", "25.00")

    assert str(load_settings().default_max_budget_usd) == "25.00"


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"QM_SOURCE=\xff")

    with pytest.raises(SettingsError, match=r"^\.env is not UTF-8 text$"):
        load_settings()


def test_isolated_settings_read_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QM_KAFKA_GROUP_ID", "environment")

    assert IsolatedSettings(http_port=0).kafka_group_id == "quartermaster"


def test_a_misspelt_variable_is_found() -> None:
    assert unknown_variables({"QM_HTTP_PORT": "1", "QM_HTPP_PORT": "1", "PATH": "x"}) == ["QM_HTPP_PORT"]
