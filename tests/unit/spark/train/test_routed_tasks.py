"""What executors do where factors stay in blocks, from the routing on, on lists; no Spark."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from als_spark.errors import SolveError
from als_spark.solve.blocks import build_block
from als_spark.solve.implicit import gram_of_all
from als_spark.solve.objective import Objective
from als_spark.solve.routing import SHARED_ROW, rows_of_block
from als_spark.solve.solver import add_sums
from als_spark.spark.prepare.pack import HeldOut
from als_spark.spark.prepare.routing import (
    Known,
    needs_of_partition,
    outgoing_of_partition,
    place_of_partition,
    ratings_of_partition,
    requests_of_partition,
)
from als_spark.spark.train.exchange import SharedSums, SolvedSlice, TrainSlice
from als_spark.spark.train.factor_blocks import (
    FactorBlock,
    Source,
    gram_partition,
    send_partition,
    start_partition,
)
from als_spark.spark.train.routed_tasks import (
    BlockModel,
    BlockReport,
    ErrorModel,
    ErrorTask,
    HalfStepTask,
    add_up,
    errors_routed,
    solve_routed,
)
from als_spark.train.backend import HalfStep, Start
from als_spark.train.loop import frobenius_distance
from als_spark.train.metrics import ErrorSums, SideStats
from als_spark.train.start import initial_factors
from als_spark.types import SIDES, other_side
from tests.conftest import local_backend, random_triples

T = random_triples()
T = T._replace(ratings=T.ratings - 2)
LOCAL = local_backend(T)
N = {"user": 40, "item": 30}
N_BLOCKS = 3
ROWS = {"user": (T.users, T.items), "item": (T.items, T.users)}
# Block 2 has no user; one row of each side is shared.
BLOCK_OF = {
    "user": np.where(np.arange(40) == 4, SHARED_ROW, np.arange(40) % 2),
    "item": np.where(np.arange(30) == 7, SHARED_ROW, np.arange(30) % 3),
}
STATS = {side: SideStats.of(N[side], [LOCAL.blocks[side]]) for side in SIDES}
KNOWN = SimpleNamespace(value=Known(BLOCK_OF, STATS, "initial", "float64"))
OBJECTIVES = [
    Objective(0.5, 1.0),
    Objective(0.1, 1.0, implicit=True, alpha=2.0),
    Objective(0.2, bias_reg=0.1, mean=0.5),
]


def entries_of(side, block):
    """The entries of a block: its rows, what it has of the shared one, some that are held out."""
    rows, columns = ROWS[side]
    shared = BLOCK_OF[side][rows] == SHARED_ROW
    for number, chosen in enumerate(
        (BLOCK_OF[side][rows] == block, shared & (columns % N_BLOCKS == block))
    ):
        ratings = build_block(
            rows[chosen],
            columns[chosen],
            T.ratings[chosen],
            n_rows=N[side],
            n_columns=N[other_side(side)],
        )
        yield TrainSlice(side, (block, number), bool(number), ratings)
    if side == "user":
        own = (BLOCK_OF["user"] == block) | (BLOCK_OF["user"] == SHARED_ROW)
        users = np.flatnonzero(own)[:5].astype(np.int32)
        items = ((7 * users + 3) % 30).astype(np.int32)
        yield HeldOut("test", users, items, np.full(users.size, 2.0))


def send(pairs):
    """What Spark's shuffle does: the pairs of each partition."""
    found = [[] for _ in range(N_BLOCKS)]
    for target, value in pairs:
        found[target].append((target, value))
    return found


class Routed:
    """A side that is solved, and the factors of the other one in blocks."""

    def __init__(self, side):
        self.side, self.fixed_side = side, other_side(side)
        entries = [list(entries_of(side, b)) for b in range(N_BLOCKS)]
        (self.needs,) = zip(
            *(needs_of_partition(own, side=side, known=KNOWN) for own in entries), strict=True
        )
        self.ratings = [
            list(ratings_of_partition([need, *own], known=KNOWN))
            for need, own in zip(self.needs, entries, strict=True)
        ]
        asked = send(
            pair for b, need in enumerate(self.needs) for pair in requests_of_partition(b, [need])
        )
        self.outgoing = [
            next(outgoing_of_partition(b, own, side=self.fixed_side, known=KNOWN))
            for b, own in enumerate(asked)
        ]

    def chunks(self, store, models):
        """The chunks of the fixed factors for each block."""
        return send(
            pair
            for outgoing, block in zip(self.outgoing, store, strict=True)
            for pair in send_partition([outgoing, "a report", block], models=models)
        )


def in_blocks(side, factors, number):
    return [
        FactorBlock(number, own, [one[own] for one in factors])
        for own in (rows_of_block(BLOCK_OF[side], b) for b in range(N_BLOCKS))
    ]


def shared_rows(side):
    return rows_of_block(BLOCK_OF[side], SHARED_ROW)


def steps_of(side):
    rng = np.random.default_rng(1)
    sizes = N[other_side(side)], N[side]
    return [
        HalfStep(
            *(rng.normal(size=(n, objective.columns(2 + k))) for n in sizes),
            objective,
            LOCAL.degrees(other_side(side)),
        )
        for k, objective in enumerate(OBJECTIVES)
    ]


def models_of(side, steps):
    fixed_rows = shared_rows(other_side(side))
    return [
        BlockModel(
            step.objective,
            None,
            step.fixed[fixed_rows],
            gram_of_all(step.fixed, step.fixed_degrees),
            Source(9, k, side, None),
            int(np.count_nonzero(step.fixed_degrees)),
        )
        for k, step in enumerate(steps)
    ]


def parts_of(routed, steps):
    """What the task of each block reads: in another order of the sources, too."""
    fixed = in_blocks(routed.fixed_side, [step.fixed for step in steps], 8)
    sources = [Source(8, k, routed.fixed_side, None) for k in range(len(steps))]
    current = in_blocks(routed.side, [step.current for step in steps], 9)
    for b, chunks in enumerate(routed.chunks(fixed, sources)):
        yield [routed.needs[b], *reversed(chunks), current[b], *routed.ratings[b]]


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("stay", [False, True])
def test_a_half_step_is_that_of_one_process(side, stay):
    steps, routed = steps_of(side), Routed(side)
    models = models_of(side, steps)
    task = SimpleNamespace(value=HalfStepTask(side, shared_rows(routed.fixed_side), models))
    wanted = LOCAL.solve(side, steps, "")
    found = [step.current.copy() for step in steps]
    losses, shared = np.zeros(len(steps)), []
    reports = []
    for b, parts in enumerate(parts_of(routed, steps)):
        for part in solve_routed(b, parts, task=task, store=5 if stay else None):
            if isinstance(part, SharedSums):
                shared.append(part)
            elif isinstance(part, SolvedSlice):
                rows = next(e for e in entries_of(side, b) if e.number == part.number).ratings.rows
                for k, factors in enumerate(part.factors):
                    found[k][rows] = factors
                losses += part.losses
            elif isinstance(part, BlockReport):
                assert (part.block, part.error) == (b, None)
                shared += part.shared
                reports.append(part)
            else:
                assert part.store == 5
                for k, factors in enumerate(part.factors):
                    found[k][part.rows] = factors
    for k, (step, expected) in enumerate(zip(steps, wanted, strict=True)):
        rows, sums = add_sums([(part.rows, part.sums[k]) for part in shared])
        degrees = LOCAL.degrees(side, positive=step.objective.implicit)[rows]
        found[k][rows], loss = step.row_solver().solve_sums(sums, rows, degrees, side=side)
        np.testing.assert_allclose(found[k], expected.factors, rtol=1e-9, atol=1e-12)
        if not stay:
            assert losses[k] + loss == pytest.approx(expected.loss, rel=1e-9)
            continue
        total = add_up([report.sums[k] for report in reports])
        assert total.loss + loss == pytest.approx(expected.loss, rel=1e-9)
        rest = np.setdiff1d(np.arange(N[side]), rows)
        new, old = expected.factors[rest], step.current[rest]
        assert total.squared_change**0.5 == pytest.approx(frobenius_distance(new, old))
        counted = LOCAL.degrees(side, positive=step.objective.implicit)[rest]
        assert total.penalty == pytest.approx(step.objective.penalty(new, counted))
        n_others = int(np.count_nonzero(step.fixed_degrees))
        masses = step.objective.masses(LOCAL.degrees(side)[rest], n_others)
        assert total.squares == pytest.approx((new**2).sum(axis=1) @ masses)
        if step.objective.implicit:
            rated = gram_of_all(new, LOCAL.degrees(side)[rest])
            np.testing.assert_allclose(total.gram, rated, rtol=1e-9)
        else:
            assert total.gram is None


def test_a_system_without_a_solution_is_reported():
    steps = [HalfStep(np.zeros((30, 2)), np.zeros((40, 2)), Objective(0.0), LOCAL.degrees("item"))]
    models = models_of("user", steps)
    task = SimpleNamespace(value=HalfStepTask("user", shared_rows("item"), models))
    parts = next(parts_of(Routed("user"), steps))
    report, block = solve_routed(0, parts, task=task, store=1)
    assert isinstance(report.error, SolveError)
    assert report.error.side == "user"
    np.testing.assert_array_equal(block.factors[0], np.zeros((block.rows.size, 2)))


@pytest.mark.parametrize("users_stay", [False, True])
@pytest.mark.parametrize("items_stay", [False, True])
def test_errors(users_stay, items_stay):
    rng = np.random.default_rng(3)
    objective = OBJECTIVES[2]
    trained = [[rng.normal(size=(N[side], 3)) for side in SIDES] for _ in range(2)]
    plain = [
        [objective.plain(own, side) for own, side in zip(pair, SIDES, strict=True)]
        for pair in trained
    ]
    rows = {side: shared_rows(side) for side in SIDES}
    routed = Routed("user")
    models = [
        ErrorModel(
            None if users_stay else users,
            None if items_stay else items,
            Source(8, k, "user", objective) if users_stay else None,
            users[rows["user"]],
            items[rows["item"]],
        )
        for k, (users, items) in enumerate(plain)
    ]
    task = SimpleNamespace(value=ErrorTask(rows["user"], rows["item"], models))
    sources = [Source(9, k, "item", objective) for k in range(2)]
    chunks = routed.chunks(in_blocks("item", [pair[1] for pair in trained], 9), sources)
    users = in_blocks("user", [pair[0] for pair in trained], 8)
    found, held = [], []
    for b in range(N_BLOCKS):
        entries = list(entries_of("user", b))
        held += [entry for entry in entries if isinstance(entry, HeldOut)]
        parts = [routed.needs[b], *chunks[b]] if items_stay else []
        parts += [BlockReport(b, [], [], None), users[b]] if users_stay else []
        parts += routed.ratings[b] if items_stay else ratings_of_partition(entries, known=KNOWN)
        found += errors_routed(parts, task=task)
    for k, (users, items) in enumerate(plain):
        sums = ErrorSums.by_split((split, own[k]) for split, own in found)
        (expected,) = LOCAL.errors([(users, items)], "")
        assert sums["train"].count == 400
        assert sums["train"].squared == pytest.approx(expected["train"].squared, rel=1e-10)
        errors = [
            part.ratings - np.einsum("nd,nd->n", users[part.users], items[part.items])
            for part in held
        ]
        assert sums["test"].squared == pytest.approx(sum(own @ own for own in errors), rel=1e-10)
        assert sums["test"].count == sum(own.size for own in errors) > 5


@pytest.mark.parametrize("side", SIDES)
def test_starts_and_their_grams(side):
    whole = dict(zip(SIDES, initial_factors(40, 30, 2, 6), strict=True))[side]
    starts = [Start(2, 6, "float64", 3), Start(2, 0, "float32", 2, whole + 1)]
    degrees = STATS[side].degrees
    blocks, gram = [], np.zeros((3, 3))
    for b in range(N_BLOCKS):
        (place,) = place_of_partition([(b, None)], side=side, known=KNOWN)
        np.testing.assert_array_equal(place.degrees, degrees[place.rows])
        shared = SimpleNamespace(value=starts)
        (block,) = start_partition([place], starts=shared, side=side, store=4)
        blocks.append(block)
        ((number, own),) = gram_partition([place, block], model=Source(4, 0, side, None))
        assert number == b
        gram += own
    rows = np.concatenate([block.rows for block in blocks])
    assert sorted([*rows, *shared_rows(side)]) == list(range(N[side]))
    drawn = np.concatenate([block.factors[0] for block in blocks])
    np.testing.assert_array_equal(drawn[:, :2], whole[rows])
    assert not drawn[:, 2].any()
    given = np.concatenate([block.factors[1] for block in blocks])
    np.testing.assert_array_equal(given, (whole[rows] + 1).astype(np.float32))
    rated = rows[degrees[rows] > 0]
    np.testing.assert_allclose(gram[:2, :2], whole[rated].T @ whole[rated])
