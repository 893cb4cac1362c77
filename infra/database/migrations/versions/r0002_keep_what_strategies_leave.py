"""Keep what strategies leave: their state, the means of training metrics, the best version."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("trainings", sa.Column("best_version", sa.Integer(), nullable=True))
    op.add_column("model_versions", _json("state", "[]"))
    op.add_column("rounds", _json("train_metrics", "{}"))


def _json(name: str, empty: str) -> sa.Column[object]:
    default = sa.text(f"'{empty}'::jsonb")
    return sa.Column(name, postgresql.JSONB(astext_type=sa.Text()), server_default=default, nullable=False)
