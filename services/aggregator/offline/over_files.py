"""A round over files, with the very code of a worker: python -m services.aggregator.offline

Reads an `OfflineRound` from standard input and writes an `OfflineDone` to standard output.  No file is
written unless all is well.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from pydantic import JsonValue, ValidationError

from infra.objects.errors import ObjectStoreUnavailable
from infra.objects.files import FileObjects
from infra.plugins import Rules, load_rule, strategy
from infra.weights.finite import require_finite
from infra.weights.layout import ALIGNMENT
from schemas.identity import derived
from schemas.ids import ModelId
from schemas.offline import OfflineDone, OfflineRound
from schemas.reduction import ReducePlan
from schemas.refusal import Refusal
from schemas.strategies import Strategy
from schemas.weights import MAX_SHARDS, ModelRef, StateRef
from schemas.words import Extra
from services.aggregator.known import StaleObject
from services.aggregator.offline.done import Inputs, done, note_of, places
from services.aggregator.offline.inputs import FileRefused, read_input
from services.aggregator.offline.outputs import deliver
from services.aggregator.offline.state_folder import FoundState, read_state
from services.aggregator.offline.updates import TRAINING, Terms, client_id, planned, read_updates
from services.aggregator.offline.whole_round import combine
from services.aggregator.rules.weighting import check_updates
from services.aggregator.work import Worker

MODEL = ModelId(derived("offline", "model"))
_CUSTOM = "custom"  # what a rule from a module is called here


def main() -> None:
    try:
        answer = run(OfflineRound.model_validate_json(sys.stdin.buffer.read()))
    except (Refusal, StaleObject, ObjectStoreUnavailable) as error:  # the last one of a disk that is full
        sys.exit(str(error))
    except ValidationError as error:
        sys.exit("; ".join(_sentences(error)))
    sys.stdout.write(answer.model_dump_json() + "\n")


def run(asked: OfflineRound) -> OfflineDone:
    """Do the round, or refuse and leave everything as it was."""
    out = Path(asked.out)
    try:
        folder = TemporaryDirectory(prefix=".warren-", dir=out.absolute().parent)
    except OSError as error:
        raise FileRefused(out, error.strerror or error) from error
    with folder as name:
        scratch = Path(name)
        inputs = _read(asked, scratch)
        objects = FileObjects(scratch / "objects", _given(inputs))
        worker = Worker(objects, inputs.rules)
        plan = _plan(asked, inputs, worker)
        combined = combine(worker, objects, plan)
        note = note_of(inputs, combined, scratch)
        deliver(places(asked, combined, objects, note))
        return done(asked, inputs, plan, combined)


def _read(asked: OfflineRound, scratch: Path) -> Inputs:
    chosen, rules = _strategy(asked)
    current = read_input(Path(asked.current), scratch / "current", check=require_finite)
    state = FoundState({}, None)
    if asked.state is not None:
        state = read_state(Path(asked.state), chosen, current, scratch)
    round_ = asked.round
    if round_ is None:
        round_ = 0 if state.round is None else state.round + 1
    return Inputs(chosen, rules, round_, current, state, read_updates(asked.updates, scratch))


def _strategy(asked: OfflineRound) -> tuple[Strategy, Rules]:
    """A rule of a module is as good as one that an operator has registered."""
    rules = {_CUSTOM: load_rule(asked.strategy)} if ":" in asked.strategy else {}
    name = _CUSTOM if rules else asked.strategy
    return strategy(name, _by_id(asked.options), rules), rules


def _by_id(options: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """Clients may be weighed under their names."""
    weights = options.get("client_weights")
    if not isinstance(weights, dict):
        return dict(options)
    return {**options, "client_weights": {str(client_id(name)): told for name, told in weights.items()}}


def _given(inputs: Inputs) -> dict[str, Path]:
    slots = {f"state-{slot}": found.path for slot, found in inputs.state.slots.items()}
    updates = {update.key: update.input.path for update in inputs.updates}
    return {"current": inputs.current.path, **slots, **updates}


def _plan(asked: OfflineRound, inputs: Inputs, worker: Worker) -> ReducePlan:
    layout = inputs.current.layout
    model = ModelRef(
        model_id=MODEL,
        version=inputs.round,
        key="current",
        sha256=inputs.current.sha256,
        size=layout.size,
        header_size=layout.header_size,
    )
    least = -(-layout.data_size // (MAX_SHARDS * ALIGNMENT)) * ALIGNMENT
    extra = _extra(asked, inputs)
    terms = Terms(model, layout, inputs.strategy, extra, max(asked.shard_bytes, least))
    updates = planned(worker, asked, terms, inputs.updates)
    check_updates(inputs.strategy, updates)
    return ReducePlan(
        training_id=TRAINING,
        round=inputs.round,
        epoch=1,
        strategy=inputs.strategy,
        update=asked.update,
        norm_clip=asked.norm_clip,
        buffers=asked.buffers,
        extra=extra,
        current=model,
        state=_state(inputs),
        shard_bytes=terms.shard_bytes,
        updates=updates,
    )


def _extra(asked: OfflineRound, inputs: Inputs) -> Extra | None:
    """What the strategy would want of the last round, if the updates have it; SWAG has rounds without."""
    wanted = asked.extra or inputs.strategy.extra_of(inputs.round, inputs.round + 1)
    if asked.extra or wanted is not Extra.SECOND_MOMENT:
        return wanted
    names = (tensor.name for update in inputs.updates for tensor in update.input.layout.tensors)
    return wanted if any(name.startswith(f"{wanted}/") for name in names) else None


def _state(inputs: Inputs) -> tuple[StateRef, ...]:
    return tuple(
        StateRef(slot=slot, key=f"state-{slot}", sha256=found.sha256, size=found.layout.size)
        for slot, found in inputs.state.slots.items()
    )


def _sentences(error: ValidationError) -> list[str]:
    """Of options; all else was checked by whoever asks."""
    faults = error.errors(include_url=False, include_input=False)
    return [f"{'.'.join(('options', *map(str, fault['loc'])))}: {fault['msg']}" for fault in faults]
