"""``msiam``, ``python -m msiam``, and what ``torchrun -m msiam`` starts: a process of its own."""

from __future__ import annotations

import gc
import os
import sys

from msiam.cli import main

#: Commands that answer and leave nothing to be done. Looking for garbage while torch and
#: transformers are imported, and taking them apart at the end, would be half of their time.
BRIEF = ("search", "match", "plugins")


def run() -> None:
    """Run the command line as all that this process is for."""
    if sys.argv[1:2] == [] or sys.argv[1] not in BRIEF:
        main()
        return
    gc.disable()
    code: object = 0
    try:
        main()
    except SystemExit as exit:
        code = exit.code or 0
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 1)


if __name__ == "__main__":
    run()
