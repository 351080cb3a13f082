"""Alternating least squares matrix factorisation on Apache Spark, with NumPy kernels."""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "ALS": "ml.als",
    "ALSIteration": "ml.summary",
    "ALSModel": "ml.model",
    "ALSPosteriorSummary": "ml.posterior",
    "ALSTrainingSummary": "ml.summary",
    "ConfigError": "errors",
    "DataError": "errors",
    "Estimate": "spark.estimate.estimate",
    "FactorModel": "model.factor_model",
    "Factors": "train.backend",
    "FoldedRows": "model.foldin",
    "IntervalModel": "model.intervals",
    "IterationRecord": "train.records",
    "Judge": "train.records",
    "LargeModel": "model.large_model",
    "LocalBackend": "train.local",
    "LoopState": "train.state",
    "ModelSpec": "train.records",
    "ModelStore": "store.store",
    "Objective": "solve.objective",
    "Pipeline": "ml.pipeline",
    "PlacedFeatures": "spark.prepare.row_features",
    "Posterior": "train.bayes.loop",
    "PosteriorOptions": "train.bayes.options",
    "PrepareOptions": "spark.prepare.options",
    "RankingRule": "train.ranking",
    "RatingBlock": "solve.blocks",
    "Resources": "spark.estimate.resources",
    "Risk": "model.risk",
    "RowFeatures": "spark.prepare.row_features",
    "SideStats": "train.metrics",
    "Sizes": "spark.planner",
    "SolveError": "errors",
    "SourceOptions": "spark.read.sources",
    "SplitOptions": "spark.read.split",
    "SweepCollector": "train.grid",
    "TrainingOptions": "train.records",
    "UserError": "errors",
    "Workload": "spark.estimate.work",
    "best_model": "spark.train.best",
    "build_block": "solve.blocks",
    "continue_training": "train.loop",
    "estimate_training": "spark.estimate.estimate",
    "evaluate_models": "spark.predict.evaluate",
    "extend_model": "model.foldin",
    "fold_in": "model.foldin",
    "grid_specs": "train.grid",
    "implicit_features": "train.bayes.features",
    "initial_factors": "train.start",
    "load_intervals": "model.intervals",
    "load_model": "model.files",
    "open_store": "store.store",
    "place_features": "spark.prepare.row_features",
    "popular_items": "model.recommend",
    "prepare_ratings": "spark.prepare.prepare",
    "read_source": "spark.read.sources",
    "recommend": "model.recommend",
    "recommend_for_all": "spark.predict.recommend",
    "row_features": "spark.prepare.row_features",
    "save_model": "model.files",
    "similar_items": "model.recommend",
    "similar_items_for_all": "spark.predict.recommend",
    "source_from_frame": "spark.read.columns",
    "start_session": "spark.session",
    "start_states": "train.state",
    "store_at": "spark.store_files",
    "train_grid": "spark.train.run",
    "train_models": "train.loop",
    "train_posterior": "train.bayes.loop",
}
"""Where each public name lives. Resolved on first use, since every executor imports this module.

Type checkers read the names from ``__init__.pyi``.
"""

__all__ = ["__version__", *sorted(_HOMES)]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
