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
        only: Where given, the functions mutated; all where not.
    """

    name: str
    files: tuple[str, ...]
    witnesses: tuple[str, ...]
    only: frozenset[str] = frozenset()


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
        ("storage/ledger.py", "storage/organizations.py", "storage/judgements.py"),
        (
            f"{_STORAGE}/test_ledger.py",
            f"{_STORAGE}/test_organizations.py",
            f"{_STORAGE}/test_judgements.py",
            f"{_STORAGE}/test_looking.py",
        ),
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
            f"{_STORAGE}/test_judgements.py",
            f"{_STORAGE}/test_bulk.py",
        ),
        only=frozenset(
            (
                *("fingerprint", "canonical", "canonical_by_definition", "_plain", "_canonical_decimal"),
                *("outcome_id", "encode_outcome"),
                *("register", "lookup"),
                *(
                    "insert_new",
                    "insert_rows",
                    "among",
                    "wanted",
                    "is_wanted",
                    "columns_of",
                    "_given",
                    "_joined",
                ),
                *("_given", "_joined", "given_sql", "_pg_expression"),
                *("_pg_insert", "inserting", "write", "_together"),
            )
        ),
    ),
    Target(
        "ingest",
        ("consumer/ingest/judging.py", "consumer/ingest/batch.py", "consumer/ingest/drain.py"),
        ("tests/unit/consumer/ingest/test_batch.py", "tests/unit/consumer/ingest/test_judging.py", _INGEST),
    ),
    Target(
        "breaker",
        ("consumer/ingest/breaker.py",),
        ("tests/unit/consumer/ingest/test_breaker.py",),
    ),
    Target(
        "relay order",
        ("storage/outbox.py", "storage/written_outcomes.py", "producers/relay_plan.py"),
        (
            "tests/unit/producers/test_relay_plan.py",
            f"{_STORAGE}/test_outbox.py",
            f"{_STORAGE}/test_written_outcomes.py",
            f"{_STORAGE}/test_judgements.py",
        ),
    ),
    Target(
        "relay",
        ("producers/relay.py",),
        ("tests/integration/producers/test_relay_order.py",),
        # What carries order; the rest is waiting, stopping and telling, which takes a broker to judge.
        only=frozenset(
            f"Relay.{name}"
            for name in (
                "_pass",
                "_read",
                "_known",
                "_acknowledge",
                "_begin",
                "_closed_lanes",
                "_settle",
                "_collect",
                "_give_up",
                "_note",
                "_refuse",
                "_finish",
                "_state",
            )
        ),
    ),
)
"""All targets, in the order in which they are tried and told."""
