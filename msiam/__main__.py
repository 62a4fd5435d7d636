"""``python -m msiam``: the command line, and what ``torchrun -m msiam`` starts."""

from msiam.cli import main

main()
