"""Types of the public names, which ``__init__.py`` resolves on first use."""

from als_spark.errors import ConfigError as ConfigError
from als_spark.errors import DataError as DataError
from als_spark.errors import SolveError as SolveError
from als_spark.errors import UserError as UserError
from als_spark.ml.als import ALS as ALS
from als_spark.ml.model import ALSModel as ALSModel
from als_spark.ml.pipeline import Pipeline as Pipeline
from als_spark.ml.summary import ALSIteration as ALSIteration
from als_spark.ml.summary import ALSTrainingSummary as ALSTrainingSummary
from als_spark.model.factor_model import FactorModel as FactorModel
from als_spark.model.files import load_model as load_model
from als_spark.model.files import save_model as save_model
from als_spark.model.foldin import FoldedRows as FoldedRows
from als_spark.model.foldin import extend_model as extend_model
from als_spark.model.foldin import fold_in as fold_in
from als_spark.model.recommend import popular_items as popular_items
from als_spark.model.recommend import recommend as recommend
from als_spark.model.recommend import similar_items as similar_items
from als_spark.solve.blocks import RatingBlock as RatingBlock
from als_spark.solve.blocks import build_block as build_block
from als_spark.solve.objective import Objective as Objective
from als_spark.spark.predict.evaluate import evaluate_models as evaluate_models
from als_spark.spark.predict.recommend import recommend_for_all as recommend_for_all
from als_spark.spark.predict.recommend import similar_items_for_all as similar_items_for_all
from als_spark.spark.prepare.prepare import PrepareOptions as PrepareOptions
from als_spark.spark.prepare.prepare import prepare_ratings as prepare_ratings
from als_spark.spark.read.columns import source_from_frame as source_from_frame
from als_spark.spark.read.sources import SourceOptions as SourceOptions
from als_spark.spark.read.sources import read_source as read_source
from als_spark.spark.read.split import SplitOptions as SplitOptions
from als_spark.spark.session import start_session as start_session
from als_spark.spark.store_files import store_at as store_at
from als_spark.spark.train.best import best_model as best_model
from als_spark.spark.train.run import train_grid as train_grid
from als_spark.store.store import ModelStore as ModelStore
from als_spark.store.store import open_store as open_store
from als_spark.train.backend import Factors as Factors
from als_spark.train.grid import SweepCollector as SweepCollector
from als_spark.train.grid import grid_specs as grid_specs
from als_spark.train.local import LocalBackend as LocalBackend
from als_spark.train.loop import continue_training as continue_training
from als_spark.train.loop import train_models as train_models
from als_spark.train.ranking import RankingRule as RankingRule
from als_spark.train.records import IterationRecord as IterationRecord
from als_spark.train.records import Judge as Judge
from als_spark.train.records import ModelSpec as ModelSpec
from als_spark.train.records import TrainingOptions as TrainingOptions
from als_spark.train.start import initial_factors as initial_factors
from als_spark.train.state import LoopState as LoopState
from als_spark.train.state import start_states as start_states

__version__: str
__all__: list[str]
