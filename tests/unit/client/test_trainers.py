import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from agents.client.results import take_result, take_update
from agents.client.runner import Assignment, tail_of
from agents.client.scripts import UserCode
from agents.client.trainers import TrainerRunner
from schemas.weights import StateRef
from schemas.words import Extra, UpdateKind
from tests.unit.client.builders import TRAINING, WEIGHTS, a_state, to_evaluate, to_train
from tests.unit.client.conftest import Assign

CODE = """
import os, sys, time
{imports}

class Trainer:
    def __init__(self):
        self.tasks = 0

    def train(self, weights, config):
        self.tasks += 1
        print("hello from user code")
        match config.get("do", "train"):
            case "raise": raise ValueError("bad data")
            case "crash": os.kill(os.getpid(), 9)
            case "later": sys.exit(75)
            case "hang": time.sleep(600)
            case "look":
                open(os.environ["LOOK"], "w").write(repr((sorted(sys.modules), sorted(os.environ))))
        weights["bias"] += 1
        kinds = {{type(value).__module__ for value in weights.values()}}
        return weights, 5, {{"tasks": self.tasks, "pid": os.getpid(), "torch": float(kinds == {{"torch"}})}}

    def test(self, weights, config):
        return 3, {{"loss": float(weights["bias"].sum())}}
"""


@pytest.fixture
async def runner(how: UserCode, tmp_path: Path) -> AsyncIterator[TrainerRunner]:
    (tmp_path / "usercode.py").write_text(CODE.format(imports=""))
    env = {**how.env, "LOOK": str(tmp_path / "look")}
    runner = TrainerRunner("usercode:Trainer", UserCode(how.executor, how.cwd, env, how.patience_s))
    yield runner
    await runner.close()


def told(do: str) -> object:
    return to_train().model_copy(update={"config": {"do": do}})


async def figures(runner: TrainerRunner, assignment: Assignment) -> dict[str, float]:
    assert await runner.run(assignment) == 0, tail_of(assignment.output)
    return take_result(assignment).metrics


async def test_a_trainer_gets_the_weights_and_hands_back_new_ones(
    runner: TrainerRunner, assign: Assign
) -> None:
    assignment = assign()
    assert await figures(runner, assignment)
    take_update(assignment)
    assert (load_file(assignment.upload)["bias"] == WEIGHTS["bias"] + 1).all()
    assert tail_of(assignment.output) == "hello from user code"


SCAFFOLD = """
import numpy as np

class Trainer:
    def train(self, weights, config, task):
        assert (task.update_kind, task.partial, task.extra, task.round) == ("delta", False, "control", 4)
        assert config["round"] == task.round
        (task.state_dir / task.training_id).write_text(task.model_id)
        zeros = {name: np.zeros_like(value) for name, value in weights.items()}
        state = task.state or {}
        extra = {f"control/{name}": state.get(name, zeros[name]) * 2 for name in ("bias", "weight")}
        return zeros | extra, 5, {"state": float(len(state))}
"""


@pytest.mark.parametrize(("state", "doubled"), [(a_state(), 1.0), (None, 0.0)])
async def test_a_trainer_that_asks_for_its_task_is_told_how_the_update_is_to_look_and_gets_the_state(
    how: UserCode, assign: Assign, tmp_path: Path, state: StateRef | None, doubled: float
) -> None:
    (tmp_path / "scaffold.py").write_text(SCAFFOLD)
    runner = TrainerRunner("scaffold:Trainer", how)
    assignment = assign(to_train(update=UpdateKind.DELTA, extra=Extra.CONTROL, state=state))
    assert await figures(runner, assignment) == {"state": 2.0 if state else 0.0}
    take_update(assignment)
    assert (load_file(assignment.upload)["control/bias"] == doubled).all()
    assert (assignment.state / str(TRAINING)).read_text() == str(assignment.order.model.model_id)
    await runner.close()


async def test_a_trainer_evaluates(runner: TrainerRunner, assign: Assign) -> None:
    assert await figures(runner, assign(to_evaluate())) == {"loss": 3.0}


async def test_a_trainer_is_made_once_per_training(runner: TrainerRunner, assign: Assign) -> None:
    first, second = await figures(runner, assign()), await figures(runner, assign())
    assert (first["tasks"], second["tasks"]) == (1, 2)
    assert first["pid"] == second["pid"]
    await runner.forget(TRAINING)
    assert (await figures(runner, assign()))["tasks"] == 1


async def test_what_a_trainer_raises_is_in_its_output_and_it_goes_on(
    runner: TrainerRunner, assign: Assign
) -> None:
    assignment = assign(told("raise"))
    assert await runner.run(assignment) == 1
    assert "ValueError: bad data" in tail_of(assignment.output)
    assert (await figures(runner, assign()))["tasks"] == 2


async def test_a_trainer_that_crashed_is_replaced_at_the_next_task(
    runner: TrainerRunner, assign: Assign
) -> None:
    assert await runner.run(assign(told("crash"))) == -9
    assert (await figures(runner, assign()))["tasks"] == 1


async def test_a_trainer_may_ask_for_later(runner: TrainerRunner, assign: Assign) -> None:
    assert await runner.run(assign(told("later"))) == 75


async def test_a_cancelled_trainer_is_ended(runner: TrainerRunner, assign: Assign) -> None:
    before = await figures(runner, assign())
    running = asyncio.create_task(runner.run(assign(told("hang"))))
    await asyncio.sleep(0.1)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    with pytest.raises(ProcessLookupError):
        os.kill(int(before["pid"]), 0)


async def test_a_trainer_that_cannot_be_imported_fails_with_the_reason(how: UserCode, assign: Assign) -> None:
    runner, assignment = TrainerRunner("nowhere:Trainer", how), assign()
    assert await runner.run(assignment) == 1
    assert "No module named 'nowhere'" in tail_of(assignment.output)
    await runner.close()


async def test_a_trainer_that_does_not_import_torch_gets_arrays_and_no_torch_or_broker(
    runner: TrainerRunner, assign: Assign, tmp_path: Path
) -> None:
    assert (await figures(runner, assign(told("look"))))["torch"] == 0.0
    modules, environment = eval((tmp_path / "look").read_text())
    assert not {"torch", "aio_pika", "aiormq", "httpx", "sqlite3"} & set(modules)
    assert [name for name in environment if name.startswith("WARREN")] == ["WARREN_STATE_DIR"]


async def test_a_trainer_that_imports_torch_gets_tensors(
    how: UserCode, assign: Assign, tmp_path: Path
) -> None:
    (tmp_path / "withtorch.py").write_text(CODE.format(imports="import torch"))
    runner, assignment = TrainerRunner("withtorch:Trainer", how), assign()
    assert (await figures(runner, assignment))["torch"] == 1.0
    take_update(assignment)
    assert json.loads(assignment.config.read_text())["round"] == 4
    await runner.close()
