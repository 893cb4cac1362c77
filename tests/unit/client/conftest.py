import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from agents.client.runner import Assignment, Runner, prepare
from agents.client.scripts import ScriptRunner, UserCode, WarmScriptRunner
from agents.client.settings import inherited_environment
from agents.client.training import Order, state_of
from tests.unit.client.builders import to_train, write_model, write_state

Assign = Callable[..., Assignment]


@pytest.fixture
def assign(tmp_path: Path) -> Assign:
    """An assignment whose folder is ready and whose files are there."""

    def make(order: Order | None = None) -> Assignment:
        asked = order or to_train()
        assignment = Assignment(
            order=asked,
            model=write_model(tmp_path),
            folder=tmp_path / "tasks" / str(asked.task_id),
            state=tmp_path / "state",
            state_in=write_state(tmp_path) if state_of(asked) else None,
        )
        prepare(assignment)
        return assignment

    return make


@pytest.fixture
def how(tmp_path: Path) -> UserCode:
    return UserCode(executor=sys.executable, cwd=tmp_path, env=inherited_environment(), patience_s=0.2)


@pytest.fixture
def script(tmp_path: Path) -> Path:
    return tmp_path / "site.py"


@pytest.fixture(params=["cold", "warm"])
async def script_runner(request: pytest.FixtureRequest, script: Path, how: UserCode) -> AsyncIterator[Runner]:
    """Both ways to run a script keep one contract."""
    warm = WarmScriptRunner(script, ("json", "no_such_module"), how, parallel=1)
    runner: Runner = warm if request.param == "warm" else ScriptRunner(script, how)
    yield runner
    await runner.close()
