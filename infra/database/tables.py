"""The tables.  PostgreSQL is the truth; everything the broker holds can be derived again from here."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Float,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _now(name: str) -> Column[object]:
    return Column(name, DateTime(timezone=True), nullable=False, server_default=func.now())


users = Table(
    "users",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("username", Text, nullable=False, unique=True),
    Column("password_hash", Text, nullable=False),  # argon2id
    Column("first_name", Text, nullable=False, server_default=""),
    Column("last_name", Text, nullable=False, server_default=""),
    Column("email", Text, nullable=False, server_default=""),
    Column("message_endpoint", Text, nullable=False, server_default=""),
    Column("actor", Boolean, nullable=False, server_default=text("false")),
    Column("client", Boolean, nullable=False, server_default=text("false")),
    Column("admin", Boolean, nullable=False, server_default=text("false")),  # sees all, may revoke anyone
    _now("created_at"),
    Column("revoked_at", DateTime(timezone=True)),
)

tokens = Table(
    "tokens",
    metadata,
    Column("digest", Text, primary_key=True),  # sha256 of the token
    Column("user_id", Uuid, ForeignKey("users.id", ondelete="CASCADE"), nullable=False, index=True),
    _now("created_at"),
)

clients = Table(
    "clients",
    metadata,
    Column("id", Uuid, ForeignKey("users.id"), primary_key=True),
    Column("queue", Text, nullable=False, unique=True),
    _now("enrolled_at"),
    Column("revoked_at", DateTime(timezone=True)),
    Column("seen_at", DateTime(timezone=True)),  # presence: a projection of heartbeats
    Column("leaving", Boolean, nullable=False, server_default=text("false")),
    Column("tasks_in_hand", Integer, nullable=False, server_default="0"),
    Column("version", Text, nullable=False, server_default=""),
)

models = Table(
    "models",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("owner_id", Uuid, ForeignKey("users.id"), nullable=False, index=True),
    Column("name", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("input_shape", JSONB),
    Column("version", Integer, nullable=False, server_default="0"),  # the newest of its versions
    _now("created_at"),
)

model_versions = Table(
    "model_versions",
    metadata,
    Column("model_id", Uuid, ForeignKey("models.id", ondelete="CASCADE"), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("training_id", Uuid, index=True),  # none for the version its owner uploaded
    Column("key", Text, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("header_size", Integer, nullable=False),
    Column("state", JSONB, nullable=False, server_default=text("'[]'::jsonb")),  # `State`: the strategy's
    _now("created_at"),
)

trainings = Table(
    "trainings",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("owner_id", Uuid, ForeignKey("users.id"), nullable=False, index=True),
    Column("model_id", Uuid, ForeignKey("models.id"), nullable=False, unique=True),
    Column("plan", JSONB, nullable=False),
    # what the demonstrator's clients send and expect back
    Column("uncertainty_method", Text, nullable=False, server_default="NONE"),
    Column("options", JSONB, nullable=False, server_default=text("'{}'::jsonb")),
    Column("metric_names", JSONB, nullable=False, server_default=text("'[]'::jsonb")),
    _now("created_at"),
    # Once a start is requested the row belongs to the saga; before, to its owner.
    Column("start_requested_at", DateTime(timezone=True)),
    # what the saga keeps: the fold of the events up to snapshot_seq
    Column("seq", Integer, nullable=False, server_default="0"),
    Column("snapshot", LargeBinary),
    Column("snapshot_seq", Integer, nullable=False, server_default="0"),
    # the read side
    Column("state", Text, nullable=False, server_default="created"),
    Column("reason", Text),
    Column("round", Integer),
    Column("attempt", Integer),
    Column("phase", Text),
    Column("arrived", Integer, nullable=False, server_default="0"),
    Column("expected", Integer, nullable=False, server_default="0"),
    Column("best_version", Integer),  # by the metric that the plan selects by, if it selects any
    _now("updated_at"),
)

participants = Table(
    "participants",
    metadata,
    Column("training_id", Uuid, ForeignKey("trainings.id", ondelete="CASCADE"), primary_key=True),
    Column("client_id", Uuid, ForeignKey("users.id"), primary_key=True, index=True),
    _now("added_at"),
    Column("removed_at", DateTime(timezone=True)),
    Column("removed_reason", Text),
)

rounds = Table(
    "rounds",
    metadata,
    Column("training_id", Uuid, ForeignKey("trainings.id", ondelete="CASCADE"), primary_key=True),
    Column("round", Integer, primary_key=True),
    Column("attempt", Integer, nullable=False),
    Column("state", Text, nullable=False),  # training | aggregating | aggregated | chained | abandoned
    Column("expected", Integer, nullable=False),
    Column("arrived", Integer, nullable=False, server_default="0"),
    Column("accepted", Integer, nullable=False, server_default="0"),
    Column("sha256", Text),  # of the model it made
    Column("train_metrics", JSONB, nullable=False, server_default=text("'{}'::jsonb")),  # of its updates
    Column("metrics", JSONB, nullable=False, server_default=text("'{}'::jsonb")),  # of its evaluation
    Column("started_at", DateTime(timezone=True), nullable=False),
    Column("ended_at", DateTime(timezone=True)),
)

metrics = Table(
    "metrics",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("model_id", Uuid, ForeignKey("models.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("identifier", Text, nullable=False, server_default=""),  # train | test, or what a caller says
    Column("key", Text, nullable=False),
    Column("value_float", Float),
    Column("value_binary", LargeBinary),
    Column("step", Integer, nullable=False),  # the model version it was measured on, or led to
    Column("reporter_id", Uuid),
    _now("at"),
)

events = Table(
    "events",
    metadata,
    Column("training_id", Uuid, ForeignKey("trainings.id", ondelete="CASCADE"), primary_key=True),
    Column("seq", Integer, primary_key=True),  # dense from 1
    Column("type", Text, nullable=False),
    Column("envelope", LargeBinary, nullable=False),  # the very bytes that are published
    _now("at"),
)

outbox = Table(
    "outbox",
    metadata,
    Column("id", Uuid, primary_key=True),  # the message's id: ordered twice, it is there once
    Column("position", BigInteger, Identity(), nullable=False),
    Column("training_id", Uuid),
    Column("exchange", Text, nullable=False),  # or `objects`: a small object to store under routing_key
    Column("routing_key", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("until_answered", Boolean, nullable=False),  # else the row is done when the broker has confirmed
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("confirmed", Boolean, nullable=False, server_default=text("false")),
    Column("due_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    _now("created_at"),
    Index("ix_outbox_due", "due_at"),
    Index("ix_outbox_training", "training_id"),
)

timers = Table(
    "timers",
    metadata,  # a training waits for one moment at a time
    Column("training_id", Uuid, ForeignKey("trainings.id", ondelete="CASCADE"), primary_key=True),
    Column("message", LargeBinary, nullable=False),
    Column("due_at", DateTime(timezone=True), nullable=False, index=True),
)

OUTBOX_CHANNEL = "warren_outbox"  # NOTIFY wakes the relay when somebody else than the scheduler wrote a row
