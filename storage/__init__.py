"""Everything kept in the database, and the one place with SQL.

Every function takes a transaction of `storage.database.Database` first and leaves its end to the caller, so
that one transaction can hold a whole batch: what was decided, its outcomes, and the mark that it was.

Rows of many organizations are touched in one order, so that two transactions wait for each other instead of
deadlocking: leases, identities, organizations (sorted by id), ledger, inbox, virtual keys and resources,
outcomes, dead letters, outbox. Whatever is decided about an organization is decided under the lock of its row
(`organizations.lock`).

On PostgreSQL many rows travel as arrays (`unnest`), on SQLite as JSON lists or `executemany`; `storage.bulk`
is the only module that knows which.
"""
