"""What memory a piece of code takes, in a process of its own."""

from __future__ import annotations

import subprocess
import sys

#: What the code begins with. On Linux, ``ru_maxrss`` counts what pytest held before this process
#: began; VmHWM is the process's own.
PRELUDE = """
import resource, sys
import torch

torch.set_num_threads(1)

def peak():
    if sys.platform == "darwin":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
"""


def growth(code: str, few: str, many: str) -> int:
    """How many bytes more a process holds at its peak for ``many`` than it did for ``few``.

    Args:
        code: defines what the other two call.
    """
    measured = f"{PRELUDE}\n{code}\n{few}\nbefore = peak()\n{many}\nprint(peak() - before)"
    done = subprocess.run([sys.executable, "-c", measured], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)
