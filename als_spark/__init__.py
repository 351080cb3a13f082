"""Alternating least squares matrix factorisation on Apache Spark, with NumPy kernels."""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "ConfigError": "errors",
    "DataError": "errors",
    "FactorModel": "model",
    "Factors": "backend",
    "FoldedRows": "foldin",
    "LocalBackend": "local",
    "ModelSpec": "training",
    "ModelStore": "store.store",
    "PrepareOptions": "spark.prepared",
    "RatingBlock": "blocks",
    "SolveError": "errors",
    "SourceOptions": "spark.sources",
    "SplitOptions": "spark.validation",
    "SweepCollector": "sweep",
    "TrainingOptions": "training",
    "UserError": "errors",
    "build_block": "blocks",
    "evaluate_models": "spark.evaluation",
    "extend_model": "foldin",
    "fold_in": "foldin",
    "grid_specs": "sweep",
    "initial_factors": "training",
    "load_model": "persistence",
    "open_store": "store.store",
    "popular_items": "recommending",
    "prepare_ratings": "spark.ratings",
    "read_source": "spark.sources",
    "recommend": "recommending",
    "recommend_for_all": "spark.recommend",
    "save_model": "persistence",
    "similar_items": "recommending",
    "similar_items_for_all": "spark.recommend",
    "source_from_frame": "spark.ratings",
    "store_at": "spark.hadoop_files",
    "train_grid": "spark.sweep",
    "train_models": "training",
}
"""Where each public name lives. Resolved on first use, since every executor imports this module."""

__all__ = ["__version__", *sorted(_HOMES)]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
