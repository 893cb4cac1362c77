"""Imports what is slow to import, once; then runs each script in a fork: `python fork_server.py MODULE…`.

Reads a line of JSON per script (argv, env, cwd, output); answers with {"pid"}, and {"code"} when it ended.
A file of its own, standard library only: it is run by path, by whatever interpreter the site names.
"""

import atexit
import ctypes
import gc
import importlib
import json
import os
import runpy
import signal
import sys
import threading
import traceback
from contextlib import suppress
from typing import NoReturn, TextIO, TypedDict

_PR_SET_PDEATHSIG = 1


class Request(TypedDict):
    argv: list[str]
    env: dict[str, str]
    cwd: str
    output: str


def main() -> None:
    del sys.path[0]  # the folder of this file: nothing in it is for user code
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for name in sys.argv[1:]:
        _preload(name)
    gc.freeze()  # the collector then leaves the shared pages alone
    request = _serve(answers)
    if request:
        _leave(_outcome_of(request))


def _preload(name: str) -> None:
    try:
        importlib.import_module(name)
    except ImportError as error:
        sys.stderr.write(f"cannot preload {name}: {error}\n")  # the script will say so too, if it needs it


def _serve(answers: TextIO) -> Request | None:
    """Forks for each request.  Returns it in the fork, and None in the server when the agent is done."""
    with os.fdopen(os.dup(0)) as requests:
        server = os.getpid()
        while line := requests.readline():
            pid = os.fork()
            if pid == 0:
                os.setsid()
                _die_with(server)
                answers.close()
                request: Request = json.loads(line)
                return request
            _answer(answers, pid=pid)
            _answer(answers, code=_end_of(pid))
    return None


def _answer(answers: TextIO, **words: int) -> None:
    answers.write(json.dumps(words) + "\n")
    answers.flush()


def _end_of(pid: int) -> int:
    """Waits; kills what the script left behind while its pid cannot have been given away."""
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _die_with(parent: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _become(request: Request) -> None:
    """What a new interpreter would have: arguments, environment, folder, streams, fresh randomness."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    said = os.open(request["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    for source, target in ((nothing, 0), (said, 1), (said, 2)):
        os.dup2(source, target)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed()
    sys.argv = request["argv"]
    sys.path.insert(0, os.path.dirname(os.path.abspath(sys.argv[0])))


def _outcome_of(request: Request) -> int:
    """Runs the script; its exit code, as an interpreter would find it."""
    _become(request)
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as ended:
        if ended.code is None or isinstance(ended.code, int):
            return ended.code or 0
        sys.stderr.write(f"{ended.code}\n")
        return 1
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def _leave(code: int) -> NoReturn:
    """What an interpreter does at its end, but for taking apart what was preloaded: that takes 0.2 s."""
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join()
    atexit._run_exitfuncs()  # there is no public name
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code & 0xFF)


if __name__ == "__main__":
    main()
