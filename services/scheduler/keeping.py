"""The one statement by which a step is kept: it is run for every message, so it is one round trip."""

from sqlalchemy import Boolean, DateTime, Integer, LargeBinary, Text, Uuid, bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY

_AT = DateTime(timezone=True)

KEEP = text("""
WITH forgotten AS (
    DELETE FROM outbox WHERE id = ANY(:settled)
), recorded AS (
    INSERT INTO events (training_id, seq, type, envelope, at)
    SELECT :training, seq, type, envelope, :now
    FROM unnest(:seqs, :types, :envelopes) AS new (seq, type, envelope)
), posted AS (
    INSERT INTO outbox (id, training_id, exchange, routing_key, body, until_answered, attempts, due_at)
    SELECT id, :training, exchange, routing_key, body, until_answered, 1, :due_at
    FROM unnest(:ids, :exchanges, :keys, :bodies, :waits)
        AS new (id, exchange, routing_key, body, until_answered)
    ON CONFLICT DO NOTHING
)
UPDATE trainings
SET seq = :seq, state = :state, reason = :reason, round = :round, attempt = :attempt, phase = :phase,
    arrived = :arrived, expected = :expected, best_version = :best_version, updated_at = :now,
    snapshot = coalesce(:snapshot, snapshot),
    snapshot_seq = CASE WHEN :snapshot IS NULL THEN snapshot_seq ELSE :seq END
WHERE id = :training AND :seq > 0
""").bindparams(
    bindparam("training", type_=Uuid),
    bindparam("now", type_=_AT),
    bindparam("due_at", type_=_AT),
    bindparam("settled", type_=ARRAY(Uuid)),
    bindparam("seqs", type_=ARRAY(Integer)),
    bindparam("types", type_=ARRAY(Text)),
    bindparam("envelopes", type_=ARRAY(LargeBinary)),
    bindparam("ids", type_=ARRAY(Uuid)),
    bindparam("exchanges", type_=ARRAY(Text)),
    bindparam("keys", type_=ARRAY(Text)),
    bindparam("bodies", type_=ARRAY(LargeBinary)),
    bindparam("waits", type_=ARRAY(Boolean)),
    bindparam("seq", type_=Integer),
    bindparam("state", type_=Text),
    bindparam("reason", type_=Text),
    bindparam("round", type_=Integer),
    bindparam("attempt", type_=Integer),
    bindparam("phase", type_=Text),
    bindparam("arrived", type_=Integer),
    bindparam("expected", type_=Integer),
    bindparam("best_version", type_=Integer),
    bindparam("snapshot", type_=LargeBinary),
)
