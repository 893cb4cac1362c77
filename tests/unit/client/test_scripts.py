# ruff: noqa: ASYNC110, ASYNC240 -- tests may look at the disk, and wait by looking
import asyncio
import json
import os
from pathlib import Path

import pytest

from agents.client.runner import Runner, tail_of
from agents.client.scripts import ScriptRunner, UserCode
from agents.client.settings import inherited_environment
from agents.client.training import Order
from schemas.words import Extra, UpdateKind
from tests.unit.client.builders import a_state, to_evaluate, to_train
from tests.unit.client.conftest import Assign

SHOW = """
import json, os, sys
shown = {"argv": sys.argv[1:], "env": dict(os.environ), "cwd": os.getcwd(), "path": sys.path[0],
         "config": json.load(open(os.environ["WARREN_CONFIG"])), "stdin": sys.stdin.read()}
open(os.environ["WARREN_RESULT_OUT"], "w").write(json.dumps(shown))
print("bye")
"""
HANG = """
import os, subprocess, sys, time
child = subprocess.Popen(["sleep", "600"])
open(os.environ["WARREN_RESULT_OUT"], "w").write(f"{os.getpid()} {child.pid}")
time.sleep(600)
"""
LEAVE_BEHIND = """
import os, subprocess
child = subprocess.Popen(["sleep", "600"])
open(os.environ["WARREN_RESULT_OUT"], "w").write(f"{child.pid}")
"""


async def test_a_script_is_told_everything_by_arguments_environment_and_config(
    script_runner: Runner, assign: Assign, script: Path
) -> None:
    script.write_text(SHOW)
    order = to_train()
    assignment = assign(order)
    assert await script_runner.run(assignment) == 0
    shown = json.loads(assignment.result.read_text())
    ids = ["--training-id", str(order.training_id), "--round", "4", "--model-id", str(order.model.model_id)]
    assert shown["argv"] == ["train", *ids]
    assert shown["config"] == {"lr": 0.5, "round": 4}
    assert shown["env"]["WARREN_MODEL_IN"] == str(assignment.model)
    assert Path(shown["env"]["WARREN_STATE_DIR"]).is_dir()
    assert (shown["cwd"], shown["path"], shown["stdin"]) == (str(script.parent), str(script.parent), "")
    assert tail_of(assignment.output) == "bye"


async def test_a_script_is_told_to_test_when_a_model_is_to_be_evaluated(
    script_runner: Runner, assign: Assign, script: Path
) -> None:
    script.write_text(SHOW)
    assignment = assign(to_evaluate())
    await script_runner.run(assignment)
    assert json.loads(assignment.result.read_text())["argv"][0] == "test"


async def test_a_script_is_told_how_its_update_is_to_look_and_where_the_state_is(
    script_runner: Runner, assign: Assign, script: Path
) -> None:
    script.write_text(SHOW)
    order = to_train(update=UpdateKind.DELTA, partial=True, extra=Extra.CONTROL, state=a_state())
    assignment = assign(order)
    assert await script_runner.run(assignment) == 0
    told = json.loads(assignment.result.read_text())["env"]
    names = ("WARREN_UPDATE_KIND", "WARREN_PARTIAL", "WARREN_EXTRA", "WARREN_STATE_IN")
    assert [told[name] for name in names] == ["delta", "1", "control", str(assignment.state_in)]


@pytest.mark.parametrize(
    ("order", "told"), [(to_train(), {"WARREN_UPDATE_KIND": "weights"}), (to_evaluate(), {})]
)
async def test_what_does_not_apply_to_a_task_is_not_set(
    script_runner: Runner, assign: Assign, script: Path, order: Order, told: dict[str, str]
) -> None:
    script.write_text(SHOW)
    await script_runner.run(assignment := assign(order))
    seen = json.loads(assignment.result.read_text())["env"]
    names = ("WARREN_UPDATE_KIND", "WARREN_PARTIAL", "WARREN_EXTRA", "WARREN_STATE_IN")
    assert {name: seen[name] for name in names if name in seen} == told


def test_user_code_inherits_nothing_that_is_warrens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WARREN_AGENT_CREDENTIALS", "/secret")
    monkeypatch.setenv("SITE_DATA", "/data")
    inherited = inherited_environment()
    assert not [name for name in inherited if name.startswith("WARREN")]
    assert inherited["SITE_DATA"] == "/data"


@pytest.mark.parametrize(
    ("code", "expected"),
    [("import sys; sys.exit(75)", 75), ("1/0", 1), ("import os; os.kill(os.getpid(), 9)", -9), ("pass", 0)],
)
async def test_the_exit_code_tells_how_a_script_ended(
    script_runner: Runner, assign: Assign, script: Path, code: str, expected: int
) -> None:
    script.write_text(code)
    assert await script_runner.run(assign()) == expected


async def test_a_runner_goes_on_after_a_script_that_crashed(
    script_runner: Runner, assign: Assign, script: Path
) -> None:
    script.write_text("import os; os.abort()")
    assert await script_runner.run(assign()) < 0
    script.write_text("print('well')")
    assert await script_runner.run(assignment := assign()) == 0
    assert tail_of(assignment.output) == "well"


async def test_a_cancelled_script_ends_with_all_its_children(
    script_runner: Runner, assign: Assign, script: Path
) -> None:
    script.write_text(HANG)
    assignment = assign()
    running = asyncio.create_task(script_runner.run(assignment))
    pids = await _written(assignment.result, 2)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await _gone(pids)


async def test_a_script_that_ignores_the_request_to_end_is_killed(
    script_runner: Runner, assign: Assign, script: Path
) -> None:
    script.write_text("import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)" + HANG)
    assignment = assign()
    running = asyncio.create_task(script_runner.run(assignment))
    pids = await _written(assignment.result, 2)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await _gone(pids)


async def test_nothing_a_script_leaves_behind_goes_on(
    script_runner: Runner, assign: Assign, script: Path
) -> None:
    script.write_text(LEAVE_BEHIND)
    assignment = assign()
    assert await script_runner.run(assignment) == 0
    await _gone(await _written(assignment.result, 1))


async def test_an_interpreter_that_is_not_there_fails_with_a_sentence(
    assign: Assign, script: Path, how: UserCode
) -> None:
    missing = UserCode(executor="no-such-python", cwd=how.cwd, env=how.env, patience_s=1)
    assignment = assign()
    assert await ScriptRunner(script, missing).run(assignment) == 1
    assert "no-such-python cannot be run: No such file" in tail_of(assignment.output)


async def test_the_tail_of_the_output_is_short_and_has_no_control_characters(
    script_runner: Runner, assign: Assign, script: Path
) -> None:
    script.write_text("import sys; sys.stdout.buffer.write(b'x' * 100_000 + b'\\x1b[31m\\xff end')")
    assignment = assign()
    await script_runner.run(assignment)
    tail = tail_of(assignment.output)
    assert len(tail) == 2_000
    assert tail.endswith("\\x1b[31m\ufffd end")


async def test_each_warm_run_draws_its_own_numbers(assign: Assign, script: Path, how: UserCode) -> None:
    from agents.client.scripts import WarmScriptRunner  # noqa: PLC0415

    script.write_text("import numpy, random; print(numpy.random.random(), random.random())")
    runner, said = WarmScriptRunner(script, ("numpy",), how, parallel=1), set()
    for _ in range(3):
        assignment = assign()
        assert await runner.run(assignment) == 0
        said.update(tail_of(assignment.output).split())
    await runner.close()
    assert len(said) == 6


async def _written(path: Path, words: int) -> list[int]:
    async with asyncio.timeout(10):
        while not path.exists() or len(path.read_text().split()) < words:
            await asyncio.sleep(0.01)
    return [int(word) for word in path.read_text().split()]


async def _gone(pids: list[int]) -> None:
    async with asyncio.timeout(10):
        while any(_is_alive(pid) for pid in pids):
            await asyncio.sleep(0.01)


def _is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z" and os.getpid() != pid
