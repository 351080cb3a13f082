"""A progress bar for a training that somebody waits for in a notebook, or has asked to see."""

from __future__ import annotations

import sys
import warnings
from typing import Any

from tqdm import TqdmWarning

from als_spark.train.records import IterationRecord

__all__ = ["IterationBar", "in_notebook"]


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return shell is not None and "IPKernelApp" in shell.config


class IterationBar:
    """Counts the iterations of all models: a widget in a notebook, else a line on standard error.

    Parameters
    ----------
    total : int
        Iterations at most; fewer are done where models converge.
    leave : bool
        Whether the bar is still there when it is closed.
    """

    def __init__(self, total: int, *, leave: bool = True) -> None:
        with warnings.catch_warnings():
            # A notebook without widgets gets the bar of text.
            warnings.simplefilter("ignore", TqdmWarning)
            # Which bar is right is decided when this is imported.
            from tqdm.auto import tqdm

        self._bar: Any = tqdm(
            total=total, leave=leave, desc="ALS", unit="iteration", dynamic_ncols=True
        )

    def on_iteration(self, record: IterationRecord) -> None:
        """Count an iteration, and show where its model stands."""
        self._bar.set_postfix_str(
            f"rank {record.rank}, objective {record.objective:.6g}", refresh=False
        )
        self._bar.update()

    def close(self, *, done: bool) -> None:
        """Stop counting; the bar is full if the training is done."""
        if done:
            self._bar.total = self._bar.n
            self._bar.refresh()
        self._bar.close()
