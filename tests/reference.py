"""Slow, obvious twins of what the package computes: the source notebook's algorithm, row by row.

Nothing here imports the package. Every optimised kernel is tested against one of these.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.integer[Any]]


class Fit(NamedTuple):
    """What the notebook's loop ends with."""

    users: Floats
    items: Floats
    iterations: int
    converged: bool
    objective: float


def solve_rows(
    rows: Ints,
    columns: Ints,
    ratings: Floats,
    fixed: Floats,
    current: Floats,
    reg: float,
    nu: float,
) -> Floats:
    """Solve (VᵀV + λ n^ν I) u = Vᵀ r for each row that has a rating; the others stay."""
    solved = current.copy()
    identity = np.eye(fixed.shape[1])
    order = np.lexsort((columns, rows))
    rows, columns, ratings = rows[order], columns[order], ratings[order]
    starts = np.searchsorted(rows, np.arange(current.shape[0] + 1))
    for row in range(current.shape[0]):
        rated = slice(starts[row], starts[row + 1])
        n = rated.stop - rated.start
        if n == 0:
            continue
        known = fixed[columns[rated]]
        gram = known.T @ known + reg * n**nu * identity
        solved[row] = np.linalg.solve(gram, known.T @ ratings[rated])
    return solved


def objective(
    users: Ints,
    items: Ints,
    ratings: Floats,
    user_factors: Floats,
    item_factors: Floats,
    reg: float,
    nu: float,
) -> float:
    """Squared errors plus λ Σ n^ν |x|² over the rows that have a rating."""
    errors = ratings - np.einsum("nd,nd->n", user_factors[users], item_factors[items])
    total = float(errors @ errors)
    for rows, factors in ((users, user_factors), (items, item_factors)):
        for row, n in zip(*np.unique(rows, return_counts=True), strict=True):
            total += reg * float(n) ** nu * float(factors[row] @ factors[row])
    return total


def notebook_als(
    users: Ints,
    items: Ints,
    ratings: Floats,
    start: tuple[Floats, Floats],
    reg: float,
    *,
    nu: float = 0.0,
    tol: float = 1e-3,
    max_iter: int = 1000,
) -> Fit:
    """Alternate until the change of the factors settles, as the source notebook does."""
    user_factors, item_factors = start[0].copy(), start[1].copy()
    previous = math.inf
    for iteration in range(1, max_iter + 1):  # noqa: B007 - it is returned
        old_users, old_items = user_factors, item_factors
        user_factors = solve_rows(users, items, ratings, item_factors, user_factors, reg, nu)
        item_factors = solve_rows(items, users, ratings, user_factors, item_factors, reg, nu)
        change = float(
            np.linalg.norm(user_factors - old_users) + np.linalg.norm(item_factors - old_items)
        )
        converged = abs(previous - change) < tol
        if converged:
            break
        previous = change
    final = objective(users, items, ratings, user_factors, item_factors, reg, nu)
    return Fit(user_factors, item_factors, iteration, converged, final)


def errors(
    users: Ints, items: Ints, ratings: Floats, user_factors: Floats, item_factors: Floats
) -> tuple[float, float]:
    """Mean squared and mean absolute error, rating by rating."""
    differences = [
        float(rating - user_factors[user] @ item_factors[item])
        for user, item, rating in zip(users, items, ratings, strict=True)
    ]
    n = len(differences)
    squared = math.fsum(d * d for d in differences) / n
    return squared, math.fsum(abs(d) for d in differences) / n


def least_squares_row(known: Floats, ratings: Floats, weight: float) -> Floats:
    """Solve one ridge system as the least squares problem [V; √w I] u ≈ [r; 0], without VᵀV."""
    rank = known.shape[1]
    stacked = np.vstack([known, math.sqrt(weight) * np.eye(rank)])
    return np.linalg.lstsq(stacked, np.concatenate([ratings, np.zeros(rank)]), rcond=None)[0]


def ridge(rows: Ints, factors: Floats, reg: float, nu: float) -> float:
    """λ Σ n^ν |x|² of one side, row by row, over the rows that have a rating."""
    degrees = np.bincount(rows, minlength=factors.shape[0])
    return math.fsum(
        reg * float(n) ** nu * float(x @ x) for n, x in zip(degrees, factors, strict=True) if n > 0
    )


def brute_force_top(
    user_factors: Floats,
    item_factors: Floats,
    top: int,
    seen: Sequence[Sequence[int]] | None = None,
) -> tuple[Ints, Floats]:
    """The best items of each user: every score in float64, each user's list sorted in Python."""
    rows = np.full((user_factors.shape[0], top), -1)
    scores = np.full(rows.shape, np.nan)
    for u, user in enumerate(user_factors.astype(np.float64)):
        left_out = set() if seen is None else set(map(int, seen[u]))
        ranked = sorted(
            (-math.fsum(user * item), i)
            for i, item in enumerate(item_factors.astype(np.float64))
            if i not in left_out
        )[:top]
        for place, (score, item) in enumerate(ranked):
            rows[u, place], scores[u, place] = item, -score
    return rows, scores


def expected_lists(
    model: Any, side: str, top: int, seen: set[tuple[Any, Any]]
) -> dict[Any, list[tuple[Any, float]]]:
    """What a model recommends, by original ids: only rows with training ratings, on both sides."""
    sides = {
        "user": (model.users, model.factors.users, model.user_stats),
        "item": (model.items, model.factors.items, model.item_stats),
    }
    asked, factors, stats = sides[side]
    found, found_factors, found_stats = sides["item" if side == "user" else "user"]
    answers = {}
    for row, asked_id in enumerate(asked.ids.to_pylist()):
        if stats.degrees[row] == 0:
            continue
        known = factors[row].astype(np.float64)
        scored = []
        for k, found_id in enumerate(found.ids.to_pylist()):
            pair = (asked_id, found_id) if side == "user" else (found_id, asked_id)
            if found_stats.degrees[k] and pair not in seen:
                scored.append((-math.fsum(known * found_factors[k].astype(np.float64)), k))
        best = sorted(scored)[:top]
        answers[asked_id] = [(found.ids[k].as_py(), -score) for score, k in best]
    return answers


def expected_similar(
    items: Sequence[Any], model: Any, top: int
) -> dict[Any, list[tuple[Any, float]]]:
    """The items with the largest cosines of factors, for each item with training ratings."""
    factors, degrees = model.factors.items.astype(np.float64), model.item_stats.degrees
    answers = {}
    for row, item in enumerate(items):
        if degrees[row]:
            cosines = factors @ factors[row] / np.linalg.norm(factors, axis=1)
            cosines /= np.linalg.norm(factors[row])
            order = [k for k in np.argsort(-cosines) if degrees[k] and k != row][:top]
            answers[item] = [(items[k], float(cosines[k])) for k in order]
    return answers


def implicit_row(
    columns: Ints, ratings: Floats, fixed: Floats, others: Ints, reg: float, nu: float, alpha: float
) -> Floats:
    """Solve one row as Hu, Koren and Volinsky have it: from its dense preferences and confidences.

    ``others`` are the rows of ``fixed`` that have a rating. Each rating of a repeated pair adds its
    own share, as in Spark MLlib.
    """
    n = np.count_nonzero(ratings > 0)
    if n == 0:
        return np.zeros(fixed.shape[1])
    extra, wanted = np.zeros(fixed.shape[0]), np.zeros(fixed.shape[0])
    for column, rating in zip(columns, ratings, strict=True):
        extra[column] += alpha * abs(rating)
        wanted[column] += (1 + alpha * abs(rating)) * (rating > 0)
    confidence = np.diag(1 + extra[others])
    known = fixed[others]
    gram = known.T @ confidence @ known + reg * n**nu * np.eye(fixed.shape[1])
    return np.linalg.solve(gram, known.T @ wanted[others])


def implicit_rows(
    rows: Ints,
    columns: Ints,
    ratings: Floats,
    fixed: Floats,
    current: Floats,
    reg: float,
    nu: float,
    alpha: float,
) -> Floats:
    """Solve each row that has a rating; the others stay."""
    solved, others = current.copy(), np.unique(columns)
    for row in np.unique(rows):
        own = rows == row
        solved[row] = implicit_row(columns[own], ratings[own], fixed, others, reg, nu, alpha)
    return solved


def implicit_objective(
    users: Ints,
    items: Ints,
    ratings: Floats,
    user_factors: Floats,
    item_factors: Floats,
    reg: float,
    nu: float,
    alpha: float,
) -> float:
    """Σ c (p − u·v)² over all pairs of a user and an item with ratings, plus the ridges."""
    preference, confidence = np.zeros((2, user_factors.shape[0], item_factors.shape[0]))
    confidence[np.ix_(np.unique(users), np.unique(items))] = 1
    preference[users, items] = ratings > 0
    confidence[users, items] += alpha * np.abs(ratings)
    errors = preference - user_factors @ item_factors.T
    total = float((confidence * errors**2).sum())
    liked = ratings > 0
    return (
        total
        + ridge(users[liked], user_factors, reg, nu)
        + ridge(items[liked], item_factors, reg, nu)
    )


class BiasedFit(NamedTuple):
    """Factors and biases of both sides."""

    users: Floats
    items: Floats
    user_biases: Floats
    item_biases: Floats


def biased_als(
    users: Ints,
    items: Ints,
    ratings: Floats,
    start: tuple[Floats, Floats],
    reg: float,
    bias_reg: float,
    *,
    nu: float,
    n_iterations: int,
) -> BiasedFit:
    """Alternate with biases around the mean rating, each row as one least squares problem."""
    mean = float(ratings.mean())
    sides = [[side.copy(), np.zeros(side.shape[0])] for side in start]
    for _ in range(n_iterations):
        for own, other, rows, columns in ((0, 1, users, items), (1, 0, items, users)):
            fixed, fixed_biases = sides[other]
            for row in np.unique(rows):
                rated = columns[rows == row]
                left = ratings[rows == row] - mean - fixed_biases[rated]
                rank = fixed.shape[1]
                ridge_rows = np.diag(np.sqrt([*[reg] * rank, bias_reg]) * rated.size ** (nu / 2))
                known = np.hstack([fixed[rated], np.ones((rated.size, 1))])
                solved = np.linalg.lstsq(
                    np.vstack([known, ridge_rows]),
                    np.concatenate([left, np.zeros(rank + 1)]),
                    rcond=None,
                )[0]
                sides[own][0][row], sides[own][1][row] = solved[:-1], solved[-1]
    return BiasedFit(sides[0][0], sides[1][0], sides[0][1], sides[1][1])


def biased_objective(
    users: Ints,
    items: Ints,
    ratings: Floats,
    fit: BiasedFit,
    reg: float,
    bias_reg: float,
    nu: float,
) -> float:
    """Squared errors, and the penalties of factors and biases."""
    total = 0.0
    for user, item, rating in zip(users, items, ratings, strict=True):
        product = float(fit.users[user] @ fit.items[item])
        predicted = ratings.mean() + fit.user_biases[user] + fit.item_biases[item] + product
        total += float(rating - predicted) ** 2
    for rows, factors, biases in (
        (users, fit.users, fit.user_biases),
        (items, fit.items, fit.item_biases),
    ):
        total += ridge(rows, factors, reg, nu) + ridge(rows, biases[:, None], bias_reg, nu)
    return total


def weighted_rows(
    rows: Ints,
    columns: Ints,
    ratings: Floats,
    weights: Floats,
    fixed: Floats,
    reg: float,
    nu: float,
) -> tuple[dict[int, Floats], float]:
    """Minimise Σ w (r − u·v)² + λ n^ν |u|² for each row that has a rating; the sum of the minima.

    Each by the derivative: (Vᵀ W V + λ n^ν I) u = Vᵀ W r.
    """
    solved, total = {}, 0.0
    for row in np.unique(rows).tolist():
        own = rows == row
        known, weight = fixed[columns[own]], np.diag(weights[own])
        ridge_weight = reg * float(own.sum()) ** nu
        gram = known.T @ weight @ known + ridge_weight * np.eye(fixed.shape[1])
        solved[row] = np.linalg.solve(gram, known.T @ weight @ ratings[own])
        errors_of_row = ratings[own] - known @ solved[row]
        total += float(weights[own] @ errors_of_row**2)
        total += ridge_weight * float(solved[row] @ solved[row])
    return solved, total


def damped_biases(
    users: Ints,
    items: Ints,
    ratings: Floats,
    shape: tuple[int, int],
    damping: tuple[float, float],
    *,
    alone: bool = False,
) -> Floats:
    """Predict every pair by μ + b_u + b_i, rating by rating (Koren 2010, section 2.1).

    ``alone`` leaves the biases of items out of those of users.
    """
    mean = float(ratings.mean())
    triples = list(zip(users.tolist(), items.tolist(), ratings.tolist(), strict=True))
    by_item, by_user = np.zeros(shape[1]), np.zeros(shape[0])
    for item in range(shape[1]):
        own = [rating - mean for _, i, rating in triples if i == item]
        by_item[item] = sum(own) / (len(own) + damping[1])
    for user in range(shape[0]):
        own = [r - mean - (0 if alone else by_item[i]) for u, i, r in triples if u == user]
        by_user[user] = sum(own) / (len(own) + damping[0])
    return mean + by_user[:, None] + by_item[None, :]
