"""Rows as callers see them."""

from services.api import answers
from services.api.states import Stage
from services.api.store import trainings
from services.api.store.rows import Found


def training_view(row: Found) -> answers.Training:
    unstarted = trainings.stage_of(row) is Stage.OPEN
    strategy = row.plan["strategy"]
    return answers.Training(
        id=row.id,
        model=row.model_id,
        actor=row.owner_id,
        participants=row.participants,
        state=trainings.letter_of(row),
        target_num_updates=row.plan["rounds"],
        last_update=row.updated_at,
        uncertainty_method=row.uncertainty_method,
        aggregation_method=strategy.get("rule") or strategy["name"],
        options=row.options,
        status=row.state,
        reason=row.reason,
        round=row.round,
        attempt=row.attempt,
        phase=row.phase,
        created_at=row.created_at,
        start_requested_at=row.start_requested_at,
        local_models_arrived=row.arrived,
        local_models_expected=len(row.participants) if unstarted else row.expected,
        rounds_completed=row.rounds_completed,
        best_version=row.best_version,
        metrics=row.metrics or {},
        strategy=strategy,
        plan=row.plan,
    )
