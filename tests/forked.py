"""A process that has its libraries imported once, and forks for each command that it is given."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from msiam.errors import MsiamError


def serve(commands: Mapping[str, Callable[..., Any]]) -> None:
    """In that process: read commands, a line each: a name, and its arguments.

    Answers with the number of the process that was forked, and when that is gone with how it
    ended: 0, 2 for a mistake, 1 for any other failure, or less than 0 for a signal.
    """
    for line in sys.stdin:
        name, *arguments = line.split()
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                commands[name](*arguments)
                code = 0
            except MsiamError as error:
                print(error, file=sys.stderr, flush=True)
                code = 2
            except BaseException:
                traceback.print_exc()
            os._exit(code)
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


@contextlib.contextmanager
def server(*script: str) -> Iterator[subprocess.Popen[str]]:
    """Start a script that serves, with one thread."""
    with subprocess.Popen(
        [sys.executable, *script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    ) as process:
        yield process
        process.stdin.close()


def start(server: subprocess.Popen[str], *command: object) -> int:
    """The number of the process that runs a command."""
    print(*command, file=server.stdin, flush=True)
    return int(server.stdout.readline())


def end(server: subprocess.Popen[str]) -> int:
    """How it ended, once it has."""
    return int(server.stdout.readline())
