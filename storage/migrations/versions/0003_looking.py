"""What an operator looks for: why an organization has failed events, and what is kept of one job."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

FAILED = sa.text("state = 'failed'")
JOBS = sa.text("type = 'job.completed'")


def upgrade() -> None:
    op.create_index(
        "ix_inbox_org_failed",
        "inbox",
        ["org_id", "inbox_id"],
        unique=False,
        postgresql_where=FAILED,
        sqlite_where=FAILED,
    )
    op.create_index(
        "ix_inbox_job", "inbox", ["org_id", "subject"], unique=False, postgresql_where=JOBS, sqlite_where=JOBS
    )
