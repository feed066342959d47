"""Structured logs on standard error: JSON lines, or for a terminal coloured text.

Never a secret, and nothing of what others wrote steers a terminal or begins a line of its own.
"""

import io
import json
import logging
import re
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any, Final, Literal, TextIO

import structlog
from sqlalchemy.engine import make_url
from structlog.typing import EventDict, ExcInfo, Processor, WrappedLogger

from consumer.harmless import escaped, in_json
from consumer.settings import Settings

REDACTED: Final = "[redacted]"

# A LiteLLM key in any message, ours or a library's: a virtual key isn't known when logging is set up.
_LITELLM_KEY: Final = re.compile(r"\bsk-[A-Za-z0-9_-]{8,}")
# Shorter ones would redact half of every line, and are no secrets worth the name.
_SHORTEST_SECRET: Final = 4
_CHATTY: Final = (
    "aiokafka",
    "aiohttp.access",
    "alembic",
    "aiosqlite",
    "asyncio",
    "httpcore",
    "httpx",
    "sqlalchemy",
)
_REPEAT_AFTER_S: Final = 60.0


def configure_logging(settings: Settings, *, stream: TextIO | None = None) -> None:
    """Send everything that is logged, by structlog and by libraries, to `stream` (standard error).

    Guarantees: no line holds a secret of the settings or anything that looks like a LiteLLM key. A library's
    same message comes at most once a minute.
    """
    target = sys.stderr if stream is None else stream
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(target)
    handler.setFormatter(
        _RedactingFormatter(
            secrets_of(settings),
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *_renderers(log_format(settings, target), target),
            ],
        )
    )
    handler.addFilter(Sparingly(time.monotonic))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(settings.log_level)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    logging.captureWarnings(capture=True)


def log_format(settings: Settings, stream: TextIO) -> Literal["json", "console"]:
    """The format asked for, else `console` on a terminal and `json` elsewhere."""
    return settings.log_format or ("console" if stream.isatty() else "json")


def secrets_of(settings: Settings) -> list[str]:
    """Every secret value that the settings hold."""
    secrets = list(settings.fernet_keys)
    secrets.extend(
        value.get_secret_value()
        for value in (settings.litellm_master_key, settings.kafka_sasl_password)
        if value is not None
    )
    if password := make_url(settings.database_url.get_secret_value()).password:
        secrets.append(str(password))
    return secrets


def redact(text: str, secrets: Iterable[str]) -> str:
    """Replace the secrets, as they are and as JSON escapes them, and whatever looks like a LiteLLM key."""
    for secret in secrets:
        if len(secret) >= _SHORTEST_SECRET:
            text = text.replace(secret, REDACTED).replace(json.dumps(secret)[1:-1], REDACTED)
    return _LITELLM_KEY.sub(REDACTED, text)


class Sparingly(logging.Filter):
    """Lets a library's message pass once a minute: in an outage aiokafka repeats itself every 100 ms."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """Take the clock, in seconds."""
        super().__init__()
        self._clock = clock
        self._passed: dict[tuple[str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether the record passes."""
        if record.name.partition(".")[0] not in _CHATTY:
            return True
        now = self._clock()
        what = (record.name, str(record.msg))
        if now - self._passed.get(what, -_REPEAT_AFTER_S) < _REPEAT_AFTER_S:
            return False
        if len(self._passed) >= 1000:  # noqa: PLR2004 - messages made of f-strings must not fill the memory
            self._passed.clear()
        self._passed[what] = now
        return True


class _RedactingFormatter(structlog.stdlib.ProcessorFormatter):
    """Redacts the finished line, so that nothing gets past: no key, no nested value, no traceback."""

    def __init__(
        self, secrets: list[str], *, processors: list[Processor], foreign_pre_chain: list[Processor]
    ) -> None:
        super().__init__(processors=processors, foreign_pre_chain=foreign_pre_chain)
        self._secrets = secrets

    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record), self._secrets)


def _renderers(style: Literal["json", "console"], target: TextIO) -> list[Processor]:
    if style == "console":
        return [
            _harmless,
            structlog.dev.ConsoleRenderer(colors=target.isatty(), exception_formatter=_traceback),
        ]
    return [
        structlog.processors.format_exc_info,
        _in_reading_order,
        structlog.processors.JSONRenderer(serializer=_one_line),
    ]


def _one_line(event: EventDict, **options: Any) -> str:
    # Beyond ASCII all is escaped anyway; what is left is DEL.
    return in_json(json.dumps(event, **options))


def _harmless(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Escape what would steer the terminal, before the renderer adds colours of its own."""
    return {
        escaped(name): value if name in _RENDERED or isinstance(value, int | float) else _shown(value)
        for name, value in event.items()
    }


_RENDERED: Final = frozenset({"exc_info", "stack"})
"""What is rendered in lines, by `_traceback`, or is of our own making."""


def _shown(value: object) -> str | None:
    return None if value is None else escaped(value if isinstance(value, str) else repr(value))


def _traceback(sink: TextIO, exc_info: ExcInfo) -> None:
    """Write a traceback, each of its lines indented: an exception's text may look like a line of the log."""
    text = io.StringIO()
    structlog.dev.plain_traceback(text, exc_info)
    lines = escaped(text.getvalue(), keep="\n").strip("\n").split("\n")
    sink.write("".join(f"\n    {line}" for line in lines))


def _in_reading_order(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Give every line the same beginning: time, level, logger, event."""
    first = {name: event.pop(name) for name in ("timestamp", "level", "logger", "event") if name in event}
    return {**first, **event}
