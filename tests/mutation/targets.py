"""What is mutated, and which tests have to notice.

A target's witnesses are its unit tests first, and the integration tests on SQLite where SQL carries the rule.
End-to-end tests are none: a rule that only they would miss is a rule nobody has written down.
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Target:
    """Files that carry one thing, and the tests that are to notice when they don't.

    Attributes:
        name: What they carry.
        files: The files to be mutated, each in one target alone.
        witnesses: Test files, or folders of them.
    """

    name: str
    files: tuple[str, ...]
    witnesses: tuple[str, ...]


_STORAGE: Final = "tests/integration/storage"
_INGEST: Final = "tests/integration/consumer/ingest"

TARGETS: Final = (
    Target(
        "decisions",
        ("consumer/decisions/jobs.py", "consumer/decisions/credits.py"),
        ("tests/unit/consumer/decisions",),
    ),
    Target(
        "ledger",
        ("storage/ledger.py", "storage/organizations.py"),
        (f"{_STORAGE}/test_ledger.py", f"{_STORAGE}/test_organizations.py"),
    ),
    Target(
        "dedupe",
        ("schemas/fingerprint.py", "schemas/outcomes.py", "storage/identities.py", "storage/bulk.py"),
        (
            "tests/unit/schemas/test_fingerprint.py",
            "tests/unit/schemas/test_outcomes.py",
            f"{_STORAGE}/test_identities.py",
            f"{_STORAGE}/test_organizations.py",
            f"{_STORAGE}/test_ledger.py",
            f"{_STORAGE}/test_outbox.py",
        ),
    ),
    Target(
        "ingest",
        ("consumer/ingest/judging.py", "consumer/ingest/batch.py", "consumer/ingest/drain.py"),
        ("tests/unit/consumer/ingest/test_batch.py", _INGEST),
    ),
    Target(
        "breaker",
        ("consumer/ingest/breaker.py",),
        ("tests/unit/consumer/ingest/test_breaker.py",),
    ),
    Target(
        "relay order",
        ("storage/outbox.py", "producers/relay_plan.py"),
        (
            "tests/unit/producers/test_relay_plan.py",
            f"{_STORAGE}/test_outbox.py",
            "tests/integration/producers/test_relay_order.py",
        ),
    ),
)
"""All targets, in the order in which they are tried and told."""
