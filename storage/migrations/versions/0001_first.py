"""The first version of every table, and the triggers that keep the ledger append-only."""

import sqlalchemy as sa
from alembic import op

from storage.types import BY_CODE_POINT, ROW_NUMBER, UtcDateTime

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

QUEUE = {
    "autovacuum_vacuum_scale_factor": 0.01,
    "autovacuum_vacuum_threshold": 1000,
    "autovacuum_analyze_scale_factor": 0.02,
}

REFUSAL = "the ledger is append-only: a correction is a new entry"

POSTGRESQL = (
    f"""
    CREATE FUNCTION refuse_ledger_change() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION '{REFUSAL}' USING ERRCODE = 'restrict_violation';
    END $$
    """,
    """
    CREATE TRIGGER ledger_entries_append_only BEFORE UPDATE OR DELETE ON ledger_entries
    FOR EACH ROW EXECUTE FUNCTION refuse_ledger_change()
    """,
    """
    CREATE TRIGGER ledger_entries_no_truncate BEFORE TRUNCATE ON ledger_entries
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_ledger_change()
    """,
)
SQLITE = (
    f"""
    CREATE TRIGGER ledger_entries_no_update BEFORE UPDATE ON ledger_entries
    BEGIN SELECT RAISE(ABORT, '{REFUSAL}'); END
    """,
    f"""
    CREATE TRIGGER ledger_entries_no_delete BEFORE DELETE ON ledger_entries
    BEGIN SELECT RAISE(ABORT, '{REFUSAL}'); END
    """,
)


def upgrade() -> None:
    op.create_table(
        "dead_letters",
        sa.Column("dead_letter_id", ROW_NUMBER, sa.Identity(always=False), nullable=False),
        sa.Column("digest", sa.Uuid(), nullable=False),
        sa.Column("topic", sa.Text(), nullable=False),
        sa.Column("partition", sa.Integer(), nullable=False),
        sa.Column("offset", sa.BigInteger(), nullable=False),
        sa.Column("timestamp_ms", sa.BigInteger(), nullable=False),
        sa.Column("key", sa.LargeBinary(), nullable=True),
        sa.Column("value", sa.LargeBinary(), nullable=True),
        sa.Column("headers", sa.LargeBinary(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("event_id", sa.Text(), nullable=True),
        sa.Column("event_source", sa.Text(), nullable=True),
        sa.Column("event_type", sa.Text(), nullable=True),
        sa.Column("dead_lettered_at", UtcDateTime(), nullable=False),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("redriven_at", UtcDateTime(), nullable=True),
        sa.PrimaryKeyConstraint("dead_letter_id", name=op.f("pk_dead_letters")),
        sa.UniqueConstraint("digest", name=op.f("uq_dead_letters_digest")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "identities",
        sa.Column("identity", sa.Uuid(), nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("identity", name=op.f("pk_identities")),
    )
    op.create_table(
        "inbox",
        sa.Column("inbox_id", ROW_NUMBER, sa.Identity(always=False), nullable=False),
        sa.Column("identity", sa.Uuid(), nullable=False),
        sa.Column("org_id", BY_CODE_POINT, nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("subject", BY_CODE_POINT, nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("phase", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("stored_at", UtcDateTime(), nullable=False),
        sa.Column("due_at", UtcDateTime(), nullable=True),
        sa.Column("first_try_at", UtcDateTime(), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("compensate_until", UtcDateTime(), nullable=True),
        sa.Column("failure", sa.Text(), nullable=True),
        sa.Column("event", sa.LargeBinary(), nullable=False),
        sa.CheckConstraint("phase IN ('provisioning', 'compensating')", name=op.f("ck_inbox_phase")),
        sa.CheckConstraint(
            "reason IN ('organization', 'litellm', 'retry', 'behind', 'compensation', 'turn', 'failed')",
            name=op.f("ck_inbox_reason"),
        ),
        sa.CheckConstraint("state IN ('waiting', 'failed')", name=op.f("ck_inbox_state")),
        sa.CheckConstraint(
            "type IN ('org.created', 'user.joined', 'job.completed')", name=op.f("ck_inbox_type")
        ),
        sa.CheckConstraint("attempts >= 0", name=op.f("ck_inbox_attempts")),
        sa.CheckConstraint("round >= 1", name=op.f("ck_inbox_round")),
        sa.PrimaryKeyConstraint("inbox_id", name=op.f("pk_inbox")),
        sa.UniqueConstraint("identity", name=op.f("uq_inbox_identity")),
        postgresql_with=QUEUE,
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_inbox_due",
        "inbox",
        ["due_at", "org_id"],
        unique=False,
        postgresql_where=sa.text("state = 'waiting' AND type <> 'job.completed' AND due_at IS NOT NULL"),
        sqlite_where=sa.text("state = 'waiting' AND type <> 'job.completed' AND due_at IS NOT NULL"),
    )
    op.create_index(
        "ix_inbox_failed",
        "inbox",
        ["inbox_id"],
        unique=False,
        postgresql_where=sa.text("state = 'failed'"),
        sqlite_where=sa.text("state = 'failed'"),
    )
    op.create_index(
        "ix_inbox_jobs",
        "inbox",
        ["org_id", "inbox_id"],
        unique=False,
        postgresql_where=sa.text("state = 'waiting' AND type = 'job.completed'"),
        sqlite_where=sa.text("state = 'waiting' AND type = 'job.completed'"),
    )
    op.create_index(
        "ix_inbox_jobs_due",
        "inbox",
        ["org_id", "due_at"],
        unique=False,
        postgresql_where=sa.text("state = 'waiting' AND type = 'job.completed' AND due_at IS NOT NULL"),
        sqlite_where=sa.text("state = 'waiting' AND type = 'job.completed' AND due_at IS NOT NULL"),
    )
    op.create_index(
        "ix_inbox_org_due",
        "inbox",
        ["org_id", "due_at"],
        unique=False,
        postgresql_where=sa.text("state = 'waiting' AND type <> 'job.completed' AND due_at IS NOT NULL"),
        sqlite_where=sa.text("state = 'waiting' AND type <> 'job.completed' AND due_at IS NOT NULL"),
    )
    op.create_index(
        "ix_inbox_queue",
        "inbox",
        ["org_id", "type", "subject", "inbox_id"],
        unique=False,
        postgresql_where=sa.text("state = 'waiting' AND type <> 'job.completed'"),
        sqlite_where=sa.text("state = 'waiting' AND type <> 'job.completed'"),
    )
    op.create_index(
        "ix_inbox_waiting",
        "inbox",
        ["reason", "stored_at"],
        unique=False,
        postgresql_where=sa.text("state = 'waiting'"),
        sqlite_where=sa.text("state = 'waiting'"),
    )
    op.create_index(
        "uq_inbox_head",
        "inbox",
        ["org_id", "type", "subject"],
        unique=True,
        postgresql_where=sa.text("state = 'waiting' AND type <> 'job.completed' AND reason <> 'behind'"),
        sqlite_where=sa.text("state = 'waiting' AND type <> 'job.completed' AND reason <> 'behind'"),
    )
    op.create_table(
        "leases",
        sa.Column("scope", BY_CODE_POINT, nullable=False),
        sa.Column("token", sa.Uuid(), nullable=True),
        sa.Column("expires_at", UtcDateTime(), nullable=False),
        sa.Column("served_at", UtcDateTime(), nullable=True),
        sa.PrimaryKeyConstraint("scope", name=op.f("pk_leases")),
        postgresql_with={
            "autovacuum_vacuum_scale_factor": 0.01,
            "autovacuum_vacuum_threshold": 1000,
            "autovacuum_analyze_scale_factor": 0.02,
            "fillfactor": 50,
        },
    )
    op.create_table(
        "ledger_entries",
        sa.Column("transaction_id", sa.Uuid(), nullable=False),
        sa.Column("org_id", BY_CODE_POINT, nullable=False),
        sa.Column("entry", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("credits", sa.BigInteger(), nullable=False),
        sa.Column("balance_after", sa.BigInteger(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=True),
        sa.Column("job_id", BY_CODE_POINT, nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("corrects", sa.Uuid(), nullable=True),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.CheckConstraint(
            "(kind = 'charge') = (sequence IS NOT NULL) AND (kind = 'charge') = (job_id IS NOT NULL)",
            name=op.f("ck_ledger_entries_charge"),
        ),
        sa.CheckConstraint("kind <> 'charge' OR credits <= 0", name=op.f("ck_ledger_entries_charge_credits")),
        sa.CheckConstraint("kind <> 'grant' OR credits >= 0", name=op.f("ck_ledger_entries_grant_credits")),
        sa.CheckConstraint("kind IN ('grant', 'charge', 'adjustment')", name=op.f("ck_ledger_entries_kind")),
        sa.CheckConstraint("balance_after >= 0", name=op.f("ck_ledger_entries_balance_after")),
        sa.CheckConstraint("entry >= 1", name=op.f("ck_ledger_entries_entry")),
        sa.PrimaryKeyConstraint("transaction_id", name=op.f("pk_ledger_entries")),
        sa.UniqueConstraint("org_id", "entry", name=op.f("uq_ledger_entries_org_id_entry")),
    )
    op.create_table(
        "litellm_resources",
        sa.Column("org_id", BY_CODE_POINT, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("resource_id", BY_CODE_POINT, nullable=False),
        sa.Column("made_by", sa.Uuid(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("doubt_until", UtcDateTime(), nullable=True),
        sa.Column("due_at", UtcDateTime(), nullable=True),
        sa.CheckConstraint("kind IN ('team', 'member', 'key')", name=op.f("ck_litellm_resources_kind")),
        sa.CheckConstraint(
            "state IN ('intended', 'made', 'in_use', 'removing', 'removed', 'kept')",
            name=op.f("ck_litellm_resources_state"),
        ),
        sa.PrimaryKeyConstraint("org_id", "kind", "resource_id", name=op.f("pk_litellm_resources")),
    )
    op.create_index(
        "ix_litellm_resources_due",
        "litellm_resources",
        ["due_at"],
        unique=False,
        postgresql_where=sa.text("due_at IS NOT NULL"),
        sqlite_where=sa.text("due_at IS NOT NULL"),
    )
    op.create_index("ix_litellm_resources_made_by", "litellm_resources", ["made_by"], unique=False)
    op.create_table(
        "organizations",
        sa.Column("org_id", BY_CODE_POINT, nullable=False),
        sa.Column("status", sa.Text(), server_default="unknown", nullable=False),
        sa.Column("balance", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("charges", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("entries", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("waiting_jobs", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("failed_at", UtcDateTime(), nullable=True),
        sa.CheckConstraint(
            "status IN ('unknown', 'provisioning', 'active', 'failed')", name=op.f("ck_organizations_status")
        ),
        sa.CheckConstraint("balance >= 0", name=op.f("ck_organizations_balance")),
        sa.CheckConstraint("charges >= 0 AND charges <= entries", name=op.f("ck_organizations_counters")),
        sa.CheckConstraint("waiting_jobs >= 0", name=op.f("ck_organizations_waiting_jobs")),
        sa.PrimaryKeyConstraint("org_id", name=op.f("pk_organizations")),
        postgresql_with={"fillfactor": 50},
    )
    op.create_index(
        "ix_organizations_waiting",
        "organizations",
        ["org_id"],
        unique=False,
        postgresql_where=sa.text("waiting_jobs > 0"),
        sqlite_where=sa.text("waiting_jobs > 0"),
    )
    op.create_table(
        "outbox",
        sa.Column("outbox_id", ROW_NUMBER, sa.Identity(always=False), nullable=False),
        sa.Column("shard", sa.SmallInteger(), nullable=False),
        sa.Column("stream", sa.Text(), nullable=False),
        sa.Column("org_id", BY_CODE_POINT, nullable=False),
        sa.Column("ref", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "stream IN ('provisioning', 'credits', 'dead_letter')", name=op.f("ck_outbox_stream")
        ),
        sa.PrimaryKeyConstraint("outbox_id", name=op.f("pk_outbox")),
        postgresql_with=QUEUE,
        sqlite_autoincrement=True,
    )
    op.create_index("ix_outbox_shard", "outbox", ["shard", "outbox_id"], unique=False)
    op.create_table(
        "outcomes",
        sa.Column("outcome_seq", ROW_NUMBER, sa.Identity(always=False), nullable=False),
        sa.Column("outcome_id", sa.Uuid(), nullable=False),
        sa.Column("org_id", BY_CODE_POINT, nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("stream", sa.Text(), nullable=False),
        sa.Column("cause_identity", sa.Uuid(), nullable=False),
        sa.Column("job_key", sa.Uuid(), nullable=True),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("decided_at", UtcDateTime(), nullable=False),
        sa.Column("value", sa.LargeBinary(), nullable=False),
        sa.CheckConstraint("stream IN ('provisioning', 'credits')", name=op.f("ck_outcomes_stream")),
        sa.PrimaryKeyConstraint("outcome_seq", name=op.f("pk_outcomes")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_outcomes_cause_identity", "outcomes", ["cause_identity"], unique=False)
    op.create_index(
        "ix_outcomes_job_key",
        "outcomes",
        ["job_key"],
        unique=False,
        postgresql_where=sa.text("job_key IS NOT NULL"),
        sqlite_where=sa.text("job_key IS NOT NULL"),
    )
    op.create_table(
        "virtual_keys",
        sa.Column("key_hash", sa.Text(), nullable=False),
        sa.Column("org_id", BY_CODE_POINT, nullable=False),
        sa.Column("user_id", BY_CODE_POINT, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("alias", sa.Text(), nullable=False),
        sa.Column("ciphertext", sa.LargeBinary(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("made_by", sa.Uuid(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.CheckConstraint("state IN ('intended', 'live', 'removed')", name=op.f("ck_virtual_keys_state")),
        sa.CheckConstraint("generation >= 1", name=op.f("ck_virtual_keys_generation")),
        sa.PrimaryKeyConstraint("key_hash", name=op.f("pk_virtual_keys")),
        sa.UniqueConstraint("alias", name=op.f("uq_virtual_keys_alias")),
        sa.UniqueConstraint(
            "org_id",
            "user_id",
            "name",
            "generation",
            name=op.f("uq_virtual_keys_org_id_user_id_name_generation"),
        ),
    )
    op.create_index(
        "uq_virtual_keys_live",
        "virtual_keys",
        ["org_id", "user_id", "name"],
        unique=True,
        postgresql_where=sa.text("state = 'live'"),
        sqlite_where=sa.text("state = 'live'"),
    )
    op.create_table(
        "members",
        sa.Column("org_id", BY_CODE_POINT, nullable=False),
        sa.Column("user_id", BY_CODE_POINT, nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("email_set", sa.Boolean(), nullable=False),
        sa.Column("key_hash", sa.Text(), nullable=False),
        sa.Column("key_alias", sa.Text(), nullable=False),
        sa.Column("key_name", sa.Text(), nullable=False),
        sa.Column("provisioned_at", UtcDateTime(), nullable=False),
        sa.CheckConstraint("role IN ('owner', 'admin', 'member')", name=op.f("ck_members_role")),
        sa.ForeignKeyConstraint(["org_id"], ["organizations.org_id"], name=op.f("fk_members_org_id")),
        sa.PrimaryKeyConstraint("org_id", "user_id", name=op.f("pk_members")),
    )
    op.create_table(
        "org_profiles",
        sa.Column("org_id", BY_CODE_POINT, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("owner_user_id", BY_CODE_POINT, nullable=False),
        sa.Column("team_id", BY_CODE_POINT, nullable=False),
        sa.Column("adopted", sa.Boolean(), nullable=False),
        sa.Column("max_budget_usd", sa.Text(), nullable=True),
        sa.Column("models", sa.Text(), nullable=False),
        sa.Column("metadata", sa.Text(), nullable=True),
        sa.Column("provisioned_at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(["org_id"], ["organizations.org_id"], name=op.f("fk_org_profiles_org_id")),
        sa.PrimaryKeyConstraint("org_id", name=op.f("pk_org_profiles")),
    )

    for trigger in POSTGRESQL if op.get_bind().dialect.name == "postgresql" else SQLITE:
        op.execute(trigger)
