import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from consumer.logging import Sparingly, configure_logging, redact
from consumer.settings import IsolatedSettings


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    logging.captureWarnings(capture=False)
    root.handlers = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def configured(**settings: object) -> io.StringIO:
    stream = io.StringIO()
    values = {"litellm_master_key": "master-key-1", "database_url": "postgresql+asyncpg://u:pass%20word@h/d"}
    configure_logging(IsolatedSettings.model_validate(values | settings), stream=stream)
    return stream


def test_lines_are_json_where_there_is_no_terminal() -> None:
    stream = configured()

    structlog.get_logger("quartermaster.test").info("it_happened", count=2)

    line = json.loads(stream.getvalue())
    assert list(line)[:4] == ["timestamp", "level", "logger", "event"]
    assert (line["event"], line["level"], line["count"]) == ("it_happened", "info", 2)


@pytest.mark.parametrize("style", ["json", "console"])
def test_no_secret_is_logged_by_us_a_library_or_a_traceback(style: str) -> None:
    stream = configured(log_format=style)

    structlog.get_logger("test").warning(
        "call", header="Bearer master-key-1", nested={"key": ["sk-Abc123_xyz"]}
    )
    logging.getLogger("httpx").error("connecting with %s", "pass word")
    try:
        raise RuntimeError("master-key-1 was refused")  # noqa: TRY301
    except RuntimeError:
        structlog.get_logger("test").exception("failed")

    text = stream.getvalue()
    assert "failed" in text
    assert "RuntimeError" in text
    for secret in ("master-key-1", "sk-Abc123_xyz", "pass word"):
        assert secret not in text


def test_a_secret_is_found_in_its_json_spelling() -> None:
    assert redact('{"password": "a\\"b\\\\c"}', ['a"b\\c']) == '{"password": "[redacted]"}'


def test_chatty_libraries_are_held_to_warnings() -> None:
    stream = configured(log_level="DEBUG")

    logging.getLogger("aiokafka.consumer").info("heartbeat")
    logging.getLogger("sqlalchemy.engine").debug("SELECT 1")

    assert stream.getvalue() == ""


def test_a_librarys_same_message_passes_once_a_minute() -> None:
    now = 0.0
    sparingly = Sparingly(lambda: now)

    def passes(name: str, message: str) -> bool:
        return sparingly.filter(logging.LogRecord(name, logging.ERROR, "", 0, message, (), None))

    assert passes("aiokafka.conn", "no broker %s")
    assert not passes("aiokafka.conn", "no broker %s")
    assert passes("aiokafka.conn", "other")
    assert passes("consumer.app", "ours")
    assert passes("consumer.app", "ours")
    now = 60.0
    assert passes("aiokafka.conn", "no broker %s")
