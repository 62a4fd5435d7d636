"""Recipe to run: the one place where everything meets.

folder.py names a run's files, training.py makes a run, run.py opens one, report.py shows it;
mining.py mines hard negatives with one (mineable.py from what, miner.py how, mined.py into what).
"""

from msiam.run.mining import mine
from msiam.run.run import Match, Run, load, open_gallery
from msiam.run.training import train

__all__ = ["Match", "Run", "load", "mine", "open_gallery", "train"]
