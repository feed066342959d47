"""How far each replay has come."""

import sqlalchemy as sa
from alembic import op

from storage.types import BY_CODE_POINT, UtcDateTime

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "replays",
        sa.Column("replay_id", sa.Uuid(), nullable=False),
        sa.Column("token", sa.Uuid(), nullable=False),
        sa.Column("begun_at", UtcDateTime(), nullable=False),
        sa.Column("saved_at", UtcDateTime(), nullable=False),
        sa.Column("tally", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("replay_id", name="pk_replays"),
    )
    op.create_table(
        "replay_partitions",
        sa.Column("replay_id", sa.Uuid(), nullable=False),
        sa.Column("topic", BY_CODE_POINT, nullable=False),
        sa.Column("partition", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("first_offset", sa.BigInteger(), nullable=False),
        sa.Column("next_offset", sa.BigInteger(), nullable=False),
        sa.Column("end_offset", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["replay_id"], ["replays.replay_id"], name="fk_replay_partitions_replay_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("replay_id", "topic", "partition", name="pk_replay_partitions"),
    )
