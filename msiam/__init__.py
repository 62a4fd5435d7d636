"""msiam: the toolkit for matching things with two towers.

Everything public is here, and is imported when it is first asked for, so that ``import msiam``
costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from msiam import errors as errors
    from msiam.data.sources import open_table as open_table
    from msiam.evaluation.bm25 import BM25 as BM25
    from msiam.evaluation.evaluator import Embedded as Embedded
    from msiam.evaluation.evaluator import Evaluator as Evaluator
    from msiam.evaluation.evaluator import Result as Result
    from msiam.evaluation.qrels import measure_rankings as measure_rankings
    from msiam.evaluation.qrels import read_qrels as read_qrels
    from msiam.evaluation.roc import wilson_interval as wilson_interval
    from msiam.evaluation.verdict import Verdict as Verdict
    from msiam.gallery.backend import Backend as Backend
    from msiam.gallery.duplicates import Duplicates as Duplicates
    from msiam.gallery.duplicates import find_duplicates as find_duplicates
    from msiam.gallery.gallery import Gallery as Gallery
    from msiam.gallery.table_backend import TableBackend as TableBackend
    from msiam.gallery.vector_table import TableOptions as TableOptions
    from msiam.gallery.vector_table import VectorTable as VectorTable
    from msiam.losses.base import Loss as Loss
    from msiam.losses.base import Targets as Targets
    from msiam.mining.batch import Miner as Miner
    from msiam.paths import resolve as resolve
    from msiam.recipe import Recipe as Recipe
    from msiam.registry.hookspecs import hookimpl as hookimpl
    from msiam.registry.options import Options as Options
    from msiam.run import Run as Run
    from msiam.run import load as load
    from msiam.run import mine as mine
    from msiam.run import train as train
    from msiam.towers.encoder import Continuous as Continuous
    from msiam.towers.encoder import Encoder as Encoder
    from msiam.towers.encoder import Rejected as Rejected
    from msiam.towers.model import Model as Model
    from msiam.towers.texts import text_of as text_of
    from msiam.towers.tower import Tower as Tower

_HOME = {
    "BM25": "msiam.evaluation.bm25",
    "Backend": "msiam.gallery.backend",
    "Continuous": "msiam.towers.encoder",
    "Duplicates": "msiam.gallery.duplicates",
    "Embedded": "msiam.evaluation.evaluator",
    "Encoder": "msiam.towers.encoder",
    "Evaluator": "msiam.evaluation.evaluator",
    "Gallery": "msiam.gallery.gallery",
    "Loss": "msiam.losses.base",
    "Miner": "msiam.mining.batch",
    "Model": "msiam.towers.model",
    "Options": "msiam.registry.options",
    "Recipe": "msiam.recipe",
    "Rejected": "msiam.towers.encoder",
    "Result": "msiam.evaluation.evaluator",
    "Run": "msiam.run",
    "TableBackend": "msiam.gallery.table_backend",
    "TableOptions": "msiam.gallery.vector_table",
    "Targets": "msiam.losses.base",
    "Tower": "msiam.towers.tower",
    "VectorTable": "msiam.gallery.vector_table",
    "Verdict": "msiam.evaluation.verdict",
    "errors": "msiam.errors",
    "find_duplicates": "msiam.gallery.duplicates",
    "hookimpl": "msiam.registry.hookspecs",
    "load": "msiam.run",
    "measure_rankings": "msiam.evaluation.qrels",
    "mine": "msiam.run",
    "open_table": "msiam.data.sources",
    "read_qrels": "msiam.evaluation.qrels",
    "resolve": "msiam.paths",
    "text_of": "msiam.towers.texts",
    "train": "msiam.run",
    "wilson_interval": "msiam.evaluation.roc",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'msiam' has no attribute '{name}'")
    module = importlib.import_module(_HOME[name])
    value = module if name == "errors" else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
