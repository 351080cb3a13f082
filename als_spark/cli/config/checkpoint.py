"""The options of a training that another process can continue."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from als_spark.cli.config.settings import CheckpointFolder, JobConfig, Shown, option
from als_spark.errors import ConfigError
from als_spark.train.checkpoint import Interval

CHECKPOINT = "checkpoint"
"""Title in ``--help``."""
DEFAULT_EVERY = "10m"

Every = Annotated[str, Field(min_length=1), Shown("N|Nm")]


class CheckpointConfig(JobConfig):
    """Whether a run keeps what it has trained, for the same command after it was killed."""

    checkpoint: CheckpointFolder | None = option(
        CHECKPOINT,
        "keep what is trained in this folder, on any file system: the same command continues from "
        "it after the run was killed, and deletes it at the end",
    )
    checkpoint_every: Every | None = option(
        CHECKPOINT,
        f"iterations, as 5, or minutes, as 10m, between two checkpoints (default: {DEFAULT_EVERY})",
    )
    restart: bool = option(CHECKPOINT, "begin anew, whatever the folder has of other runs", False)

    @property
    def interval(self) -> Interval:
        """How often the running models are kept."""
        return Interval.parse(self.checkpoint_every or DEFAULT_EVERY)

    @model_validator(mode="after")
    def _kept_somewhere(self) -> Self:
        if self.checkpoint_every is not None:
            Interval.parse(self.checkpoint_every)
        if self.checkpoint is None:
            alone = {
                f"--checkpoint-every {self.checkpoint_every}": self.checkpoint_every is not None,
                "--restart": self.restart,
            }
            for words, given in alone.items():
                if given:
                    raise ConfigError(
                        f"{words}: has no effect without a checkpoint: give a folder for it with "
                        "--checkpoint DIR, or leave it out"
                    )
        return self
