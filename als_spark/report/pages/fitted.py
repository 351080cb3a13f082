"""A fitted model as a notebook shows it: a part of a page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from als_spark.report.pages.page import render

__all__ = ["model_view"]

WIDTH, HEIGHT = 320, 120
"""Of the learning curve, in pixels."""


def model_view(
    title: str, facts: Mapping[str, Any], parameters: Mapping[str, Any], objectives: Sequence[float]
) -> str:
    """Write what is known of a model as HTML.

    Parameters
    ----------
    title : str
        What the model is.
    facts, parameters : mapping
        Sizes and results; values by name.
    objectives : sequence of float
        Objective after each iteration, all finite: drawn as a curve if there are several.

    Returns
    -------
    str
        An element that fits into any page.
    """
    return render(
        "model.html.jinja",
        title=title,
        facts=list(facts.items()),
        parameters=list(parameters.items()),
        objectives=list(objectives),
        points=curve(objectives),
        width=WIDTH,
        height=HEIGHT,
    )


def curve(values: Sequence[float]) -> str:
    """Return the points of a line through values, as SVG has them; logarithmic where it can be."""
    if len(values) < 2:
        return ""
    logarithmic = min(values) > 0
    heights = [math.log(value) if logarithmic else value for value in values]
    low, span = min(heights), max(heights) - min(heights) or 1.0
    step = WIDTH / (len(values) - 1)
    return " ".join(
        f"{k * step:.1f},{HEIGHT * (1 - (height - low) / span):.1f}"
        for k, height in enumerate(heights)
    )
