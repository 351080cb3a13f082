"""Starting a training from the factors of an earlier model."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from als_spark.model.ids import IdIndex
from als_spark.types import FloatArray


def take_known(
    start: FloatArray,
    ids: IdIndex,
    known: IdIndex,
    factors: FloatArray,
    usable: npt.NDArray[np.bool_] | None = None,
) -> int:
    """Put the factors of an earlier model into the start of one side, in place.

    Parameters
    ----------
    start : (n_rows, rank)
        The usual start; ids that the earlier model lacks keep theirs.
    ids : IdIndex
        Ids of the rows of ``start``.
    known : IdIndex
        Ids of the earlier model.
    factors : (n_known, rank)
        Its factors.
    usable : (n_known,) bool, optional
        Which of its rows to take; all if not given.

    Returns
    -------
    int
        Rows that were taken.
    """
    rows = known.rows_of(ids.ids)
    taken = rows >= 0
    if usable is not None:
        taken[taken] = usable[rows[taken]]
    start[taken] = factors[rows[taken]]
    return int(np.count_nonzero(taken))
