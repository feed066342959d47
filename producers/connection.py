"""How Kafka is reached: one description of the cluster for every client.

It loads no client: settings hold it, and most commands never talk to Kafka.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

SecurityProtocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]


class KafkaUnreachable(Exception):  # noqa: N818 - named for the state it reports
    """No broker answered; the message names the servers tried and no secret."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaConnection:
    """Where a Kafka cluster is and how to log in to it.

    Attributes:
        bootstrap_servers: Comma-separated `host:port`.
        security_protocol: As Kafka names it.
        sasl_mechanism: As Kafka names it: `PLAIN`, `SCRAM-SHA-256`, `SCRAM-SHA-512`.
        sasl_username: For these mechanisms.
        sasl_password: For these mechanisms; never shown.
        ssl_cafile: Certificates to trust instead of the system's, in PEM.
    """

    bootstrap_servers: str
    security_protocol: SecurityProtocol = "PLAINTEXT"
    sasl_mechanism: str | None = None
    sasl_username: str | None = None
    sasl_password: str | None = field(default=None, repr=False)
    ssl_cafile: str | None = None

    def client_options(self) -> dict[str, Any]:
        """Give the keyword arguments that a client of aiokafka takes, whichever it is.

        Raises:
            OSError: The file of certificates cannot be read.
        """
        options: dict[str, Any] = {
            "bootstrap_servers": [each.strip() for each in self.bootstrap_servers.split(",") if each.strip()],
            "security_protocol": self.security_protocol,
        }
        if self.security_protocol in {"SSL", "SASL_SSL"}:
            from aiokafka.helpers import create_ssl_context  # noqa: PLC0415 - whoever connects has it loaded

            options["ssl_context"] = create_ssl_context(cafile=self.ssl_cafile)
        if self.security_protocol in {"SASL_PLAINTEXT", "SASL_SSL"}:
            options["sasl_mechanism"] = self.sasl_mechanism or "PLAIN"
            options["sasl_plain_username"] = self.sasl_username
            options["sasl_plain_password"] = self.sasl_password
        return options


def describe_error(error: BaseException) -> str:
    """Say in one line what went wrong."""
    name = type(error).__name__
    # An aiokafka error names itself, sometimes with the number of a broker's answer.
    text = str(error).removeprefix(f"{name}: ")
    return name if text in {"", name} or text.startswith("[Error") else f"{name}: {text}"
