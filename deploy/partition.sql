-- Cuts the tables that grow for good into partitions (PostgreSQL 15 or later): once, while no instance runs.
--
--   psql "$DATABASE" -v ON_ERROR_STOP=1 -f deploy/partition.sql
--
-- The program needs no change and no setting for it: its statements name the whole tables. What is there is
-- moved, which takes a minute for some ten million rows. docs/scaling.md says when this is worth it, and why
-- by these keys.
BEGIN;

-- Every event ever taken: by its digest, which is as good as random.
ALTER TABLE identities RENAME TO identities_whole;
ALTER TABLE identities_whole RENAME CONSTRAINT pk_identities TO pk_identities_whole;
CREATE TABLE identities (
    LIKE identities_whole INCLUDING DEFAULTS INCLUDING CONSTRAINTS,
    CONSTRAINT pk_identities PRIMARY KEY (identity)
) PARTITION BY HASH (identity);

-- The ledger: by organization. A charge's id is derived from organization and job, so that it is unique where
-- it is unique within its organization.
ALTER TABLE ledger_entries RENAME TO ledger_entries_whole;
ALTER TABLE ledger_entries_whole RENAME CONSTRAINT pk_ledger_entries TO pk_ledger_entries_whole;
ALTER TABLE ledger_entries_whole RENAME CONSTRAINT uq_ledger_entries_org_id_entry TO uq_ledger_entries_whole;
CREATE TABLE ledger_entries (
    LIKE ledger_entries_whole INCLUDING DEFAULTS INCLUDING CONSTRAINTS,
    CONSTRAINT pk_ledger_entries PRIMARY KEY (org_id, transaction_id),
    CONSTRAINT uq_ledger_entries_org_id_entry UNIQUE (org_id, entry)
) PARTITION BY HASH (org_id);

-- Outcomes, kept for QM_KEEP_DAYS: by number, so that the oldest go by dropping a partition.
ALTER TABLE outcomes RENAME TO outcomes_whole;
ALTER TABLE outcomes_whole RENAME CONSTRAINT pk_outcomes TO pk_outcomes_whole;
ALTER SEQUENCE outcomes_outcome_seq_seq RENAME TO outcomes_whole_seq;
ALTER INDEX ix_outcomes_cause_identity RENAME TO ix_outcomes_whole_cause_identity;
ALTER INDEX ix_outcomes_job_key RENAME TO ix_outcomes_whole_job_key;
CREATE TABLE outcomes (
    LIKE outcomes_whole INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING IDENTITY,
    CONSTRAINT pk_outcomes PRIMARY KEY (outcome_seq)
) PARTITION BY RANGE (outcome_seq);
CREATE INDEX ix_outcomes_cause_identity ON outcomes (cause_identity);
CREATE INDEX ix_outcomes_job_key ON outcomes (job_key) WHERE job_key IS NOT NULL;

DO $$
DECLARE
    parts CONSTANT int := 16;
    rows_of_a_part CONSTANT bigint := 50000000;
    next_seq bigint;
    first bigint;
BEGIN
    FOR part IN 0 .. parts - 1 LOOP
        EXECUTE format(
            'CREATE TABLE identities_%s PARTITION OF identities FOR VALUES WITH (MODULUS %s, REMAINDER %s)',
            part, parts, part
        );
        EXECUTE format(
            'CREATE TABLE ledger_entries_%s PARTITION OF ledger_entries FOR VALUES WITH (MODULUS %s, REMAINDER %s)',
            part, parts, part
        );
    END LOOP;
    SELECT last_value + CASE WHEN is_called THEN 1 ELSE 0 END INTO next_seq FROM outcomes_whole_seq;
    PERFORM setval('outcomes_outcome_seq_seq', next_seq, false);
    -- What is there, and as many parts ahead; what comes after them goes to the last one, and can be cut later.
    FOR part IN 0 .. next_seq / rows_of_a_part + parts LOOP
        first := part * rows_of_a_part;
        EXECUTE format(
            'CREATE TABLE outcomes_%s PARTITION OF outcomes FOR VALUES FROM (%s) TO (%s)',
            part, first, first + rows_of_a_part
        );
    END LOOP;
    CREATE TABLE outcomes_later PARTITION OF outcomes DEFAULT;
END $$;

INSERT INTO identities SELECT * FROM identities_whole;
INSERT INTO ledger_entries SELECT * FROM ledger_entries_whole;
INSERT INTO outcomes OVERRIDING SYSTEM VALUE SELECT * FROM outcomes_whole;

CREATE TRIGGER ledger_entries_append_only BEFORE UPDATE OR DELETE ON ledger_entries
    FOR EACH ROW EXECUTE FUNCTION refuse_ledger_change();
CREATE TRIGGER ledger_entries_no_truncate BEFORE TRUNCATE ON ledger_entries
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_ledger_change();

DROP TABLE identities_whole, ledger_entries_whole, outcomes_whole;
COMMIT;
