"""The tables, their constraints and indexes, and why each is there.

Constraints state what the code also checks: code reports, the database decides. The tables that are kept for
good or grow fastest (identities, ledger entries, outcomes) are narrow and no foreign key points at them, so
that PostgreSQL can partition them without a change to the code.
"""

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)

from storage.types import BY_CODE_POINT, ROW_NUMBER, UtcDateTime

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# A queue's rows live briefly: without these, dead rows pile up at the very place where reading begins.
_QUEUE: Final = {
    "autovacuum_vacuum_scale_factor": 0.01,
    "autovacuum_vacuum_threshold": 1000,
    "autovacuum_analyze_scale_factor": 0.02,
}
# Room on each page for a row's next version: an update then touches no index.
_UPDATED_OFTEN: Final = {"fillfactor": 50}


def _one_of(column: str, *values: str) -> CheckConstraint:
    return CheckConstraint(f"{column} IN ({', '.join(repr(value) for value in values)})", name=column)


def _row_number(name: str) -> Column[int]:
    return Column(name, ROW_NUMBER, Identity(always=False), primary_key=True)


#: The row that an organization's order hangs on: narrow, locked in sorted order, written by every batch.
organizations = Table(
    "organizations",
    metadata,
    Column("org_id", BY_CODE_POINT, primary_key=True),
    Column("status", Text, nullable=False, server_default="unknown"),
    Column("balance", BigInteger, nullable=False, server_default="0"),
    Column("charges", BigInteger, nullable=False, server_default="0"),
    Column("entries", BigInteger, nullable=False, server_default="0"),
    Column("waiting_jobs", BigInteger, nullable=False, server_default="0"),
    Column("failed_at", UtcDateTime),
    _one_of("status", "unknown", "provisioning", "active", "failed"),
    CheckConstraint("balance >= 0", name="balance"),
    CheckConstraint("charges >= 0 AND charges <= entries", name="counters"),
    CheckConstraint("waiting_jobs >= 0", name="waiting_jobs"),
    postgresql_with=_UPDATED_OFTEN,
)
# Few at any time: whose waiting jobs may be decided now.
Index(
    "ix_organizations_waiting",
    organizations.c.org_id,
    postgresql_where=text("waiting_jobs > 0"),
    sqlite_where=text("waiting_jobs > 0"),
)

#: What an active organization is, as its outcome says it. Kept apart from the row that is locked all the
#: time.
org_profiles = Table(
    "org_profiles",
    metadata,
    Column("org_id", BY_CODE_POINT, ForeignKey("organizations.org_id"), primary_key=True),
    Column("name", Text, nullable=False),
    Column("owner_user_id", BY_CODE_POINT, nullable=False),
    Column("team_id", BY_CODE_POINT, nullable=False),
    Column("adopted", Boolean(create_constraint=False), nullable=False),
    Column("max_budget_usd", Text),
    Column("models", Text, nullable=False),
    Column("metadata", Text),
    Column("provisioned_at", UtcDateTime, nullable=False),
)

members = Table(
    "members",
    metadata,
    Column("org_id", BY_CODE_POINT, ForeignKey("organizations.org_id"), primary_key=True),
    Column("user_id", BY_CODE_POINT, primary_key=True),
    Column("role", Text, nullable=False),
    Column("email_set", Boolean(create_constraint=False), nullable=False),
    Column("key_hash", Text, nullable=False),
    Column("key_alias", Text, nullable=False),
    Column("key_name", Text, nullable=False),
    Column("provisioned_at", UtcDateTime, nullable=False),
    _one_of("role", "owner", "admin", "member"),
)

#: Every event ever taken, by a digest of (source, id). Kept for good: a window would break a back-fill.
identities = Table(
    "identities",
    metadata,
    Column("identity", Uuid, primary_key=True),
    Column("fingerprint", LargeBinary, nullable=False),
)

#: Events that wait or need LiteLLM, and failed ones until they are tried again.
inbox = Table(
    "inbox",
    metadata,
    _row_number("inbox_id"),
    Column("identity", Uuid, nullable=False),
    Column("org_id", BY_CODE_POINT, nullable=False),
    Column("type", Text, nullable=False),
    Column("subject", BY_CODE_POINT, nullable=False),
    Column("state", Text, nullable=False),
    Column("phase", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("origin", Text, nullable=False),
    Column("round", Integer, nullable=False),
    Column("stored_at", UtcDateTime, nullable=False),
    Column("due_at", UtcDateTime),
    Column("first_try_at", UtcDateTime),
    Column("attempts", Integer, nullable=False),
    Column("compensate_until", UtcDateTime),
    Column("failure", Text),
    Column("event", LargeBinary, nullable=False),
    UniqueConstraint("identity"),
    _one_of("type", "org.created", "user.joined", "job.completed"),
    _one_of("state", "waiting", "failed"),
    _one_of("phase", "provisioning", "compensating"),
    _one_of("reason", "organization", "litellm", "retry", "behind", "compensation", "turn", "failed"),
    CheckConstraint("round >= 1", name="round"),
    CheckConstraint("attempts >= 0", name="attempts"),
    sqlite_autoincrement=True,
    postgresql_with=_QUEUE,
)
_JOBS: Final = "state = 'waiting' AND type = 'job.completed'"
_PROVISIONING: Final = "state = 'waiting' AND type <> 'job.completed'"
_FAILED: Final = "state = 'failed'"
_WAITING: Final = "state = 'waiting'"


def _partial(name: str, where: str, *columns: Column[object]) -> None:
    Index(name, *columns, postgresql_where=text(where), sqlite_where=text(where))


# One organization's jobs in the order received, and whether any of them waited too long.
_partial("ix_inbox_jobs", _JOBS, inbox.c.org_id, inbox.c.inbox_id)
_partial("ix_inbox_jobs_due", f"{_JOBS} AND due_at IS NOT NULL", inbox.c.org_id, inbox.c.due_at)
# Each (type, subject) of an organization is a queue of its own, and one event at most is in hand.
_partial("ix_inbox_queue", _PROVISIONING, inbox.c.org_id, inbox.c.type, inbox.c.subject, inbox.c.inbox_id)
Index(
    "uq_inbox_head",
    inbox.c.org_id,
    inbox.c.type,
    inbox.c.subject,
    unique=True,
    postgresql_where=text(f"{_PROVISIONING} AND reason <> 'behind'"),
    sqlite_where=text(f"{_PROVISIONING} AND reason <> 'behind'"),
)
# Whose turn it is: by the hour, and one probe per organization where one of them owns all that is due.
_partial("ix_inbox_due", f"{_PROVISIONING} AND due_at IS NOT NULL", inbox.c.due_at, inbox.c.org_id)
_partial("ix_inbox_org_due", f"{_PROVISIONING} AND due_at IS NOT NULL", inbox.c.org_id, inbox.c.due_at)
_partial("ix_inbox_failed", _FAILED, inbox.c.inbox_id)
# What an operator looks for: why an organization failed, and what is kept of one job.
_partial("ix_inbox_org_failed", _FAILED, inbox.c.org_id, inbox.c.inbox_id)
_partial("ix_inbox_job", "type = 'job.completed'", inbox.c.org_id, inbox.c.subject)
# What the metrics count, without reading the events.
_partial("ix_inbox_waiting", _WAITING, inbox.c.reason, inbox.c.stored_at)

#: Append-only: triggers (in the migrations) refuse every change, on both databases. The balance is the sum of
#: these. Its owner could drop them; `ledger verify` would show what was changed.
ledger_entries = Table(
    "ledger_entries",
    metadata,
    Column("transaction_id", Uuid, primary_key=True),
    Column("org_id", BY_CODE_POINT, nullable=False),
    Column("entry", BigInteger, nullable=False),
    Column("kind", Text, nullable=False),
    Column("credits", BigInteger, nullable=False),
    Column("balance_after", BigInteger, nullable=False),
    Column("sequence", BigInteger),
    Column("job_id", BY_CODE_POINT),
    Column("reason", Text),
    Column("corrects", Uuid),
    Column("created_at", UtcDateTime, nullable=False),
    UniqueConstraint("org_id", "entry"),
    _one_of("kind", "grant", "charge", "adjustment"),
    CheckConstraint("entry >= 1", name="entry"),
    CheckConstraint("balance_after >= 0", name="balance_after"),
    CheckConstraint(
        "(kind = 'charge') = (sequence IS NOT NULL) AND (kind = 'charge') = (job_id IS NOT NULL)",
        name="charge",
    ),
    CheckConstraint("kind <> 'charge' OR credits <= 0", name="charge_credits"),
    CheckConstraint("kind <> 'grant' OR credits >= 0", name="grant_credits"),
)

#: Every decision as published, for `QM_KEEP_DAYS`: byte-identical repeats, and what became of an event.
outcomes = Table(
    "outcomes",
    metadata,
    _row_number("outcome_seq"),
    Column("outcome_id", Uuid, nullable=False),
    Column("org_id", BY_CODE_POINT, nullable=False),
    Column("type", Text, nullable=False),
    Column("stream", Text, nullable=False),
    Column("cause_identity", Uuid, nullable=False),
    Column("job_key", Uuid),
    Column("round", Integer, nullable=False),
    Column("decided_at", UtcDateTime, nullable=False),
    Column("value", LargeBinary, nullable=False),
    _one_of("stream", "provisioning", "credits"),
    sqlite_autoincrement=True,
)
Index("ix_outcomes_cause_identity", outcomes.c.cause_identity)
_partial("ix_outcomes_job_key", "job_key IS NOT NULL", outcomes.c.job_key)

dead_letters = Table(
    "dead_letters",
    metadata,
    _row_number("dead_letter_id"),
    Column("digest", Uuid, nullable=False),
    Column("topic", Text, nullable=False),
    Column("partition", Integer, nullable=False),
    Column("offset", BigInteger, nullable=False),
    Column("timestamp_ms", BigInteger, nullable=False),
    Column("key", LargeBinary),
    Column("value", LargeBinary),
    Column("headers", LargeBinary, nullable=False),
    Column("reason", Text, nullable=False),
    Column("error", Text, nullable=False),
    Column("event_id", Text),
    Column("event_source", Text),
    Column("event_type", Text),
    Column("dead_lettered_at", UtcDateTime, nullable=False),
    Column("origin", Text, nullable=False),
    Column("redriven_at", UtcDateTime),
    # One record is dead-lettered once, whoever reads it and however often.
    UniqueConstraint("digest"),
    sqlite_autoincrement=True,
)

#: What is still to be published, in order; a row is deleted once the broker has acknowledged it.
outbox = Table(
    "outbox",
    metadata,
    _row_number("outbox_id"),
    Column("shard", SmallInteger, nullable=False),
    Column("stream", Text, nullable=False),
    Column("org_id", BY_CODE_POINT, nullable=False),
    Column("ref", BigInteger, nullable=False),
    _one_of("stream", "provisioning", "credits", "dead_letter"),
    # Without AUTOINCREMENT SQLite would give a deleted row's number to a later one.
    sqlite_autoincrement=True,
    postgresql_with=_QUEUE,
)
Index("ix_outbox_shard", outbox.c.shard, outbox.c.outbox_id)

leases = Table(
    "leases",
    metadata,
    Column("scope", BY_CODE_POINT, primary_key=True),
    Column("token", Uuid),
    Column("expires_at", UtcDateTime, nullable=False),
    Column("served_at", UtcDateTime),
    postgresql_with={**_QUEUE, **_UPDATED_OFTEN},
)

#: The keys decided on before LiteLLM hears of them, encrypted.
virtual_keys = Table(
    "virtual_keys",
    metadata,
    Column("key_hash", Text, primary_key=True),
    Column("org_id", BY_CODE_POINT, nullable=False),
    Column("user_id", BY_CODE_POINT, nullable=False),
    Column("name", Text, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("alias", Text, nullable=False),
    Column("ciphertext", LargeBinary, nullable=False),
    Column("state", Text, nullable=False),
    Column("made_by", Uuid, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    # The intended key is inserted once; whoever comes second reads it and repeats the same call.
    UniqueConstraint("org_id", "user_id", "name", "generation"),
    UniqueConstraint("alias"),
    _one_of("state", "intended", "live", "removed"),
    CheckConstraint("generation >= 1", name="generation"),
)
Index(
    "uq_virtual_keys_live",
    virtual_keys.c.org_id,
    virtual_keys.c.user_id,
    virtual_keys.c.name,
    unique=True,
    postgresql_where=text("state = 'live'"),
    sqlite_where=text("state = 'live'"),
)

#: What our attempts made at LiteLLM, written down before the call: only this may be removed again.
litellm_resources = Table(
    "litellm_resources",
    metadata,
    Column("org_id", BY_CODE_POINT, primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("resource_id", BY_CODE_POINT, primary_key=True),
    Column("made_by", Uuid, nullable=False),
    Column("state", Text, nullable=False),
    Column("doubt_until", UtcDateTime),
    Column("due_at", UtcDateTime),
    _one_of("kind", "team", "member", "key"),
    _one_of("state", "intended", "made", "in_use", "removing", "removed", "kept"),
)
Index("ix_litellm_resources_made_by", litellm_resources.c.made_by)
_partial("ix_litellm_resources_due", "due_at IS NOT NULL", litellm_resources.c.due_at)

#: Replays that were begun and have not ended, so that the same command goes on where it was.
replays = Table(
    "replays",
    metadata,
    Column("replay_id", Uuid, primary_key=True),
    # The run that has it in hand: whoever takes it over gets a new one.
    Column("token", Uuid, nullable=False),
    Column("begun_at", UtcDateTime, nullable=False),
    Column("saved_at", UtcDateTime, nullable=False),
    Column("tally", Text, nullable=False),
)

replay_partitions = Table(
    "replay_partitions",
    metadata,
    Column("replay_id", Uuid, ForeignKey("replays.replay_id", ondelete="CASCADE"), primary_key=True),
    Column("topic", BY_CODE_POINT, primary_key=True),
    Column("partition", Integer, primary_key=True, autoincrement=False),
    Column("first_offset", BigInteger, nullable=False),
    Column("next_offset", BigInteger, nullable=False),
    Column("end_offset", BigInteger, nullable=False),
)
