"""What a round over files was made of, and what has come of it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from infra.objects.files import FileObjects
from infra.plugins import Rules
from schemas.offline import (
    CombinedUpdate,
    OfflineDone,
    OfflineFile,
    OfflineRound,
    OfflineState,
    StateNote,
)
from schemas.reduction import ReducePlan
from schemas.strategies import Strategy
from services.aggregator.offline.inputs import Input
from services.aggregator.offline.state_folder import NOTE, FoundState, file_of
from services.aggregator.offline.updates import ReadUpdate, means_of_metrics
from services.aggregator.offline.whole_round import Combined


@dataclass(frozen=True, slots=True)
class Inputs:
    """All that is read."""

    strategy: Strategy
    rules: Rules
    round: int
    current: Input
    state: FoundState
    updates: tuple[ReadUpdate, ...]


def note_of(inputs: Inputs, combined: Combined, scratch: Path) -> Path:
    """The file that says what the new state goes with."""
    note = StateNote(strategy=inputs.strategy, round=inputs.round, model_sha256=combined.model.sha256)
    path = scratch / NOTE
    path.write_text(note.model_dump_json(indent=2) + "\n")
    return path


def places(asked: OfflineRound, combined: Combined, objects: FileObjects, note: Path) -> dict[Path, Path]:
    """Where each file belongs that was made; the model comes last."""
    found: dict[Path, Path] = {}
    if asked.state_out:
        folder = Path(asked.state_out)
        found = {file_of(folder, part.slot): objects.path(part.key) for part in combined.state}
        found[folder / NOTE] = note
    return {**found, Path(asked.out): objects.path(combined.model.key)}


def done(asked: OfflineRound, inputs: Inputs, plan: ReducePlan, combined: Combined) -> OfflineDone:
    model = combined.model
    return OfflineDone(
        strategy=inputs.strategy,
        round=inputs.round,
        model=OfflineFile(file=asked.out, sha256=model.sha256, size=model.size),
        state=tuple(_state(asked, combined)),
        updates=tuple(_updates(inputs, plan, combined)),
        metrics=means_of_metrics(asked.updates),
    )


def _state(asked: OfflineRound, combined: Combined) -> Iterator[OfflineState]:
    for part in combined.state if asked.state_out else ():
        file = file_of(Path(asked.state_out or ""), part.slot)
        yield OfflineState(slot=part.slot, file=str(file), sha256=part.sha256, size=part.size)


def _updates(inputs: Inputs, plan: ReducePlan, combined: Combined) -> Iterator[CombinedUpdate]:
    facts = {each.client_id: each for each in plan.updates}
    for each in inputs.updates:
        found = facts[each.client_id]
        yield CombinedUpdate(
            file=each.told.file,
            sha256=each.input.sha256,
            client_id=each.client_id,
            num_examples=each.told.num_examples,
            norm=found.norm,
            distance=found.distance,
            is_chosen=each.client_id in combined.clients,
        )
