"""Rules about the code itself that a machine can check."""

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("schemas", "infra", "services", "agents")
DEPLOYABLES = (
    "services.api.__main__",
    "services.scheduler.__main__",
    "services.aggregator.__main__",
    "agents.client.__main__",
    "agents.operator.__main__",
)
SCHEDULER = (
    *("state", "evolve", "decide", "phases", "aggregating", "chaining", "selecting"),
    *("react", "workers", "orders", "reducing", "saga", "posting"),
)
AGGREGATOR = (
    *("inspecting/admission", "inspecting/inspection", "inspecting/numbers", "inspecting/spans"),
    *("reducing/combining", "reducing/finishing", "reducing/folding", "reducing/recipe", "reducing/windows"),
    "offline/history",
)
WEIGHTS = ("header", "layout", "arrays", "compare", "parts", "pickles", "refusals")
PURE = (
    *sorted((ROOT / "schemas").glob("*.py")),
    *(ROOT / f"services/scheduler/{name}.py" for name in SCHEDULER),
    *sorted((ROOT / "services/aggregator/rules").glob("*.py")),
    *(ROOT / f"services/aggregator/{name}.py" for name in AGGREGATOR),
    *(ROOT / f"infra/weights/{name}.py" for name in WEIGHTS),
    ROOT / "agents/client/training.py",
)
WORLDLY = {
    *(
        "asyncio",
        "io",
        "logging",
        "multiprocessing",
        "os",
        "pathlib",
        "random",
        "secrets",
        "shutil",
        "signal",
    ),
    *("socket", "sqlite3", "subprocess", "sys", "tempfile", "threading", "time", "urllib", "concurrent"),
    *("aio_pika", "aiormq", "asyncpg", "faststream", "httpx", "minio", "pydantic_settings", "sqlalchemy"),
}
IMPURE = {"now", "utcnow", "today", "uuid1", "uuid4", "default_rng", "open", "print", "input", "exec", "eval"}
SOURCES = tuple(path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py")))
AT_THE_ENVIRONMENT = ("infra/stack/", "agents/client/fork_server.py")  # the latter gives user code its own
TALKERS = ("agents/operator",)  # the command line, whose output is for people


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def imports_of(path: Path) -> Iterator[str]:
    """Every module that is imported, wherever in the file."""
    for node in ast.walk(tree_of(path)):
        match node:
            case ast.Import():
                yield from (alias.name for alias in node.names)
            case ast.ImportFrom(module=str(module)):
                yield module


def names_in(path: Path) -> Iterator[str]:
    """Every name that is looked up or imported, without what it belongs to."""
    for node in ast.walk(tree_of(path)):
        match node:
            case ast.Attribute():
                yield node.attr
            case ast.Name():
                yield node.id
            case ast.ImportFrom():
                yield from (alias.name for alias in node.names)


def calls_in(path: Path) -> Iterator[str]:
    """Every function that is called, without what it belongs to."""
    for node in ast.walk(tree_of(path)):
        match node:
            case ast.Call(func=ast.Attribute(attr=name)) | ast.Call(func=ast.Name(id=name)):
                yield name


def methods_called(path: Path, *names: str) -> Iterator[ast.Call]:
    """Every call of a method with one of these names."""
    for node in ast.walk(tree_of(path)):
        match node:
            case ast.Call(func=ast.Attribute(attr=name)) if name in names:
                yield node


def test_the_packages_that_are_loaded_are_those_of_this_checkout() -> None:
    loaded = {name: importlib.import_module(name).__file__ for name in PACKAGES}
    assert loaded == {name: str(ROOT / name / "__init__.py") for name in PACKAGES}


def test_imports_go_one_way_and_no_deployable_imports_another() -> None:
    lint = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    checked = subprocess.run(
        [sys.executable, "-c", lint], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_no_deployable_loads_torch() -> None:
    look = (
        "import importlib, sys\n"
        "for name in sys.argv[1:]:\n"
        "    importlib.import_module(name)\n"
        "    if 'torch' in sys.modules: sys.exit(name + ' loads torch')"
    )
    looked = subprocess.run(
        [sys.executable, "-c", look, *DEPLOYABLES], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert looked.returncode == 0, looked.stderr


def test_torch_is_named_nowhere_in_services_infra_and_schemas() -> None:
    places = [path for path in SOURCES if path.relative_to(ROOT).parts[0] != "agents"]
    assert [named(path) for path in places if "torch" in {n.split(".")[0] for n in imports_of(path)}] == []


@pytest.mark.parametrize("path", PURE, ids=named)
def test_pure_modules_know_no_clock_chance_files_or_logs(path: Path) -> None:
    assert {name.split(".")[0] for name in imports_of(path)} & WORLDLY == set()
    assert set(calls_in(path)) & IMPURE == set()


def test_pure_modules_of_the_saga_import_pure_modules_only() -> None:
    pure = {named(path).removesuffix(".py").replace("/", ".") for path in PURE}
    for name in SCHEDULER:
        ours = {n for n in imports_of(ROOT / f"services/scheduler/{name}.py") if n.startswith(PACKAGES)}
        assert ours <= {*pure, "schemas"}, name


def test_every_subscriber_of_faststream_is_made_where_the_ack_policy_is_said() -> None:
    made = [(named(path), call) for path in SOURCES for call in methods_called(path, "subscriber")]
    assert [place for place, _ in made] == ["infra/broker/faststream_factory.py"]
    assert all("ack_policy" in {argument.arg for argument in call.keywords} for _, call in made)


def test_every_raw_consumer_is_made_where_deliveries_are_acknowledged_by_hand() -> None:
    """aiormq's `basic_consume` acknowledges nothing by itself unless it is told `no_ack`."""
    wanted = {"basic_consume", "basic_get"}
    made = [(named(path), call) for path in SOURCES for call in methods_called(path, *wanted)]
    assert [place for place, _ in made] == ["infra/broker/consumer.py"]
    assert all("no_ack" not in {argument.arg for argument in call.keywords} for _, call in made)


def test_init_files_are_empty() -> None:
    inits = [path for folder in (*PACKAGES, "tests") for path in (ROOT / folder).rglob("__init__.py")]
    assert [named(path) for path in inits if path.read_bytes()] == []


def test_every_package_has_an_init_file() -> None:
    folders = {path.parent for path in SOURCES if "versions" not in path.parts}
    assert [named(folder) for folder in folders if not (folder / "__init__.py").exists()] == []


def test_nothing_prints_but_the_command_line() -> None:
    quiet = [path for path in SOURCES if not named(path).startswith(TALKERS)]
    assert [named(path) for path in quiet if "print" in set(calls_in(path))] == []


def test_the_environment_is_read_in_settings_and_by_the_local_stack_only() -> None:
    others = [p for p in SOURCES if p.name != "settings.py" and not named(p).startswith(AT_THE_ENVIRONMENT)]
    readers = {"environ", "environb", "getenv", "putenv"}
    assert [named(path) for path in others if readers & set(names_in(path))] == []


def test_imports_are_absolute() -> None:
    relative = (
        named(path)
        for path in SOURCES
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.ImportFrom) and node.level
    )
    assert list(relative) == []
