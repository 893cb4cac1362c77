"""Runs a command that dies when the one who started it dies: `python -I -S tether.py PARENT COMMAND…`.

A file of its own, standard library only, because it is run by path before anything else is imported.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    parent, *command = sys.argv[1:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(parent):
        sys.exit("the parent has died already")
    try:
        os.execvp(command[0], command)  # noqa: S606 -- what the site's owner configured, and no shell
    except OSError as error:
        sys.exit(f"{command[0]} cannot be run: {error.strerror}")


if __name__ == "__main__":
    main()
