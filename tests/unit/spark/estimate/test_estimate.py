"""Estimates from counts alone: bytes, memory, seconds, and what is too small."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from als_spark.errors import ConfigError
from als_spark.solve.objective import Objective
from als_spark.solve.posterior import Columns
from als_spark.spark.estimate import rates
from als_spark.spark.estimate.assumed import distinct
from als_spark.spark.estimate.check import check_plan
from als_spark.spark.estimate.estimate import Estimate, estimate_training
from als_spark.spark.estimate.resources import IDLE, Resources
from als_spark.spark.estimate.work import Workload
from als_spark.spark.planner import Sizes, memory_bytes, plan
from als_spark.spark.shared import pack
from als_spark.types import SIDES

GB = 1 << 30
CLUSTER = Resources(10, 8, 16 * GB, 8 * GB)
MILLIONS = Sizes(1_000_000, 50_000, 10**8, (50,), 4, 80)
MANY = Sizes(20_000_000, 50_000, 10**9, (50,), 4, 80)
HERE = Resources(1, 2, 2 * GB, 2 * GB, local=True)


def words(estimate: Estimate, *, certain: bool) -> list[str]:
    return [found.words for found in estimate.findings if found.certain is certain]


class TestTraffic:
    def test_broadcast_factors_go_to_every_executor_and_solved_rows_to_the_driver(self):
        found = estimate_training(MILLIONS, CLUSTER)
        by_user, by_item = (found.traffic[side] for side in SIDES)
        # With the column that the kernels append.
        assert (by_user.broadcast, by_item.broadcast) == (50_000 * 51 * 4, 1_000_000 * 51 * 4)
        assert (by_user.collected, by_item.collected) == (1_000_000 * 200, 50_000 * 200)
        assert by_user.shuffled == by_item.shuffled == 0
        assert found.arriving == by_user.broadcast + by_item.broadcast

    def test_what_is_broadcast_is_what_the_solvers_have(self):
        solver = Objective(0.1).row_solver(np.ones((3000, 50), np.float32))
        sizes = Sizes(3000, 3000, 10**5, (50,), 4, 80)
        sent = estimate_training(sizes, CLUSTER, placement="ratings").traffic["user"]
        assert len(pack([solver])) == pytest.approx(sent.broadcast, rel=0.01)

    def test_shuffled_factors_go_where_they_are_needed(self):
        found = estimate_training(MANY, CLUSTER)
        assert found.plan.exchange == {"user": "broadcast", "item": "shuffle"}
        by_user, by_item = (found.traffic[side] for side in SIDES)
        needed = distinct(20_000_000, 10**9 / found.plan.n_blocks)
        assert by_item.shuffled == pytest.approx(found.plan.n_blocks * needed * 200)
        assert 20_000_000 * 200 < by_item.shuffled < 80 * 20_000_000 * 200
        # Users stay on the executors, items come to the driver.
        assert (by_user.collected, by_item.collected) == (0, 50_000 * 200)
        assert by_item.broadcast == 0
        # Each executor has its own part already.
        assert found.arriving == pytest.approx(by_user.broadcast + by_item.shuffled * 0.09)

    def test_models_add_up(self):
        one, three = (
            estimate_training(replace(MILLIONS, ranks=ranks), CLUSTER, exchange=exchange)
            for ranks, exchange in (((50,), "shuffle"), ((50, 50, 50), "shuffle"))
        )
        for side in SIDES:
            assert three.traffic[side].shuffled == 3 * one.traffic[side].shuffled

    def test_whole_models_send_nothing(self):
        found = estimate_training(replace(MILLIONS, n_ratings=2 * 10**6), HERE, placement="grid")
        assert (found.traffic, found.arriving) == ({}, 0)
        assert set(found.seconds) == {"computing"}

    @pytest.mark.parametrize("method", ["variational", "sample"])
    def test_a_bayesian_method_sends_moments(self, method):
        sizes = replace(MILLIONS, ranks=(8,))
        found = estimate_training(
            sizes, CLUSTER, workload=Workload(method), exchange="broadcast"
        ).traffic["item"]
        columns = Columns(9, method)
        assert found.collected == 50_000 * 4 * columns.total
        covariances = 45 if method == "variational" else 0
        assert found.broadcast == 1_000_000 * 4 * (10 + covariances)


class TestMemory:
    def test_an_executor_beyond_its_heap(self):
        found = estimate_training(MILLIONS, CLUSTER)
        workers = [found.memory[f"Python worker, {step}"].total for step in ("packing", "training")]
        shared = found.memory["shared by the workers"].total
        assert found.as_record()["bytes_beyond_heap"] == 8 * max(workers) + shared

    def test_parts_by_process(self):
        memory = estimate_training(MILLIONS, CLUSTER).memory
        ratings = memory["executor JVM"].parts["ratings by user and by item"]
        assert ratings == pytest.approx(2 * 10**8 * (8 + rates.JVM_RATING) / 10)
        assert memory["shared by the workers"].total == 1_000_000 * 51 * 4
        assert memory["driver JVM"].parts["results of tasks"] == 2 * 1_000_000 * 200
        assert memory["driver Python"].parts["factors of all models"] == 1_050_000 * 200
        for need in memory.values():
            assert need.total == sum(need.parts.values())
            assert all(size > 0 for size in need.parts.values())

    def test_double_precision_and_weights_take_more(self):
        usual = estimate_training(MILLIONS, CLUSTER).memory
        for more in (
            estimate_training(replace(MILLIONS, itemsize=8), CLUSTER).memory,
            estimate_training(MILLIONS, CLUSTER, workload=Workload(weights=True)).memory,
        ):
            assert more["executor JVM"].total > 1.1 * usual["executor JVM"].total

    def test_shuffling_takes_memory_of_workers_and_not_of_the_driver(self):
        broadcast, shuffle = (
            estimate_training(MILLIONS, CLUSTER, exchange=exchange).memory
            for exchange in ("broadcast", "shuffle")
        )
        name = "Python worker, training"
        assert "fixed rows that a block needs" in shuffle[name].parts
        assert shuffle[name].total > broadcast[name].total
        assert "shared by the workers" not in shuffle
        assert shuffle["driver JVM"].total < broadcast["driver JVM"].total

    def test_more_partitions_pack_in_less(self):
        few, many = (
            estimate_training(MILLIONS, CLUSTER, partitions=n).memory["Python worker, packing"]
            for n in (80, 160)
        )
        assert few.parts["a block of ratings"] == 2 * many.parts["a block of ratings"]

    def test_in_local_mode_there_is_one_jvm(self):
        memory = estimate_training(replace(MILLIONS, cores=2), HERE).memory
        assert "executor JVM" not in memory
        assert {"ratings by user and by item", "broadcast"} <= memory["driver JVM"].parts.keys()
        assert memory["driver JVM"].parts["Spark itself"] == rates.JVM_BASE


class TestSeconds:
    def test_parts(self):
        found = estimate_training(MILLIONS, CLUSTER)
        assert found.iteration == sum(found.seconds.values())
        a, b = rates.seconds_of(50, "float32")
        # At least the ratings of full rows, and at most all of them and all rows.
        assert 10**8 * a / 80 < found.seconds["computing"] < (2 * 10**8 * a + 1_050_000 * b) / 80

    def test_cores_and_the_network_share_the_work(self):
        slow = estimate_training(MILLIONS, CLUSTER).seconds
        cores = replace(CLUSTER, executors=20)
        more = estimate_training(replace(MILLIONS, cores=160), cores).seconds
        assert more["computing"] == pytest.approx(slow["computing"] / 2)
        fast = estimate_training(MILLIONS, replace(CLUSTER, network=10 * CLUSTER.network)).seconds
        assert fast["traffic"] < slow["traffic"]
        assert fast["computing"] == slow["computing"]

    def test_a_last_round_that_leaves_cores_idle(self):
        whole, more = (
            estimate_training(MILLIONS, CLUSTER, partitions=n).seconds["computing"]
            for n in (160, 161)
        )
        assert more == pytest.approx(whole * 3 / 161 * 160 / 2)

    def test_what_is_held_out_costs_nothing(self):
        all_of_it, half = (
            estimate_training(MILLIONS, CLUSTER, workload=Workload(train_share=share)).seconds
            for share in (1.0, 0.5)
        )
        assert half["reading the ratings"] == all_of_it["reading the ratings"] / 2

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_seconds_rise_with_the_rank(self, dtype):
        found = [rates.seconds_of(rank, dtype) for rank in (1, 5, 10, 30, 50, 100, 200, 400)]
        assert all(a < b for a, b in pairwise(found))
        for rank, known in rates.KERNELS[dtype].items():
            assert rates.seconds_of(rank, dtype) == pytest.approx(known)

    def test_a_bayesian_row_costs_more(self):
        sizes = replace(MILLIONS, ranks=(16,))
        ridge, sample, variational = (
            estimate_training(
                sizes, CLUSTER, workload=Workload(method), exchange="broadcast"
            ).seconds["computing"]
            for method in ("ridge", "sample", "variational")
        )
        assert ridge < sample < variational
        found = estimate_training(
            MILLIONS, CLUSTER, workload=Workload("sample"), exchange="broadcast"
        )
        parts = found.memory["driver Python"].parts
        # 20 samples of 51 numbers, but 10 of a side of a million rows, by 2 GiB.
        assert parts["samples that are kept"] == 1_050_000 * 10 * 51 * 4


class TestTooSmall:
    def test_nothing_where_there_is_room(self):
        found = estimate_training(MILLIONS, CLUSTER)
        assert found.findings == []
        assert found.trainable

    def test_a_heap_that_cannot_hold_a_half_step(self):
        tight = replace(CLUSTER, driver_memory=GB // 8)
        found = estimate_training(MILLIONS, tight)
        assert not found.trainable
        (said,) = words(found, certain=True)
        assert said.startswith("191 MB of factors are collected at once, and the driver's JVM has")
        assert '`exchange="shuffle"`, or --conf spark.driver.memory=' in said
        # Which helps.
        assert estimate_training(MILLIONS, tight, exchange="shuffle").trainable

    def test_float32_is_a_remedy_of_float64_alone(self):
        tight = replace(CLUSTER, driver_memory=GB // 8)
        double = estimate_training(replace(MILLIONS, itemsize=8), tight)
        assert all('`dtype="float32"`' in said for said in words(double, certain=True))
        single = estimate_training(MILLIONS, tight)
        assert not any("dtype" in said for said in words(single, certain=True))

    def test_rankings_leave_no_other_exchange(self):
        tight = replace(CLUSTER, driver_memory=GB // 8)
        found = estimate_training(MILLIONS, tight, workload=Workload(rankings=True))
        assert words(found, certain=True)
        assert not any("exchange" in said for said in words(found, certain=True))

    def test_a_worker_that_cannot_hold_the_factors(self):
        tight = replace(CLUSTER, worker_limit=100 << 20)
        found = estimate_training(MILLIONS, tight, exchange="broadcast")
        said = words(found, certain=True)
        assert said[0].startswith("the user factors of one model take 195 MB, and spark.executor.p")
        assert "--conf spark.executor.pyspark.memory=" in said[0]
        # By itself the plan shuffles them.
        assert estimate_training(MILLIONS, tight).trainable

    def test_ratings_that_a_worker_cannot_hold(self):
        tight = replace(HERE, worker_limit=100 << 20)
        sizes = Sizes(10_000, 10_000, 10**7, (10,), 4, 2)
        found = estimate_training(sizes, tight, placement="grid")
        assert "the packed ratings take 153 MB" in words(found, certain=True)[0]
        assert '`placement="ratings"`' in words(found, certain=True)[0]
        one = estimate_training(sizes, tight, placement="ratings", partitions=1)
        assert "packing a block of ratings takes 153 MB" in words(one, certain=True)[0]
        assert "`partitions=`" in words(one, certain=True)[0]
        assert estimate_training(sizes, tight, placement="ratings", partitions=8).trainable

    def test_executors_that_leave_with_the_only_copies(self):
        elastic = replace(CLUSTER, idle=60.0)
        (said,) = words(estimate_training(MILLIONS, elastic, exchange="shuffle"), certain=True)
        assert said.startswith(f"executors without a task for 60 s leave ({IDLE}), with the ")
        assert f'`exchange="broadcast"`, or --conf {IDLE}=3600s, or a checkpoint dir' in said
        # Each of the remedies helps.
        assert estimate_training(MILLIONS, elastic, exchange="broadcast").trainable
        for other in (replace(elastic, idle=3600.0), replace(elastic, outlived=True), CLUSTER):
            assert estimate_training(MILLIONS, other, exchange="shuffle").trainable
        # Also where the plan has chosen it by itself.
        assert not estimate_training(MANY, elastic).trainable

    def test_a_machine_that_cannot_hold_the_models_may_swap(self):
        sizes = replace(MILLIONS, ranks=(50,) * 100)
        found = estimate_training(sizes, replace(CLUSTER, machine=16 * GB), exchange="broadcast")
        assert words(found, certain=True) == []
        said = words(found, certain=False)
        assert any('use `exchange="shuffle"`, or a larger machine' in one for one in said)

    def test_a_table_of_moments_that_is_too_large(self):
        sizes = replace(MILLIONS, ranks=(50,))
        workload = Workload("variational", covariance="full")
        found = estimate_training(sizes, CLUSTER, workload=workload, exchange="broadcast")
        said = words(found, certain=True)[0]
        assert said.startswith("what is known of the rows of a side takes")
        assert said.endswith('or `covariance="diagonal"`')
        # Variances alone have room, and are taken where nothing is said.
        for chosen in ("diagonal", None):
            workload = Workload("variational", covariance=chosen)
            found = estimate_training(sizes, CLUSTER, workload=workload, exchange="broadcast")
            assert words(found, certain=True) == []

    @pytest.mark.parametrize("placement", ["ratings", "grid"])
    @pytest.mark.parametrize("sizes", [MILLIONS, replace(MILLIONS, ranks=(20, 50, 100))])
    @pytest.mark.parametrize("tight", [GB // 64, GB // 8, GB])
    def test_each_setting_is_named_with_one_value_that_is_enough(self, tight, sizes, placement):
        choices = {"placement": placement, "exchange": "broadcast"}
        if placement == "grid":
            choices = {"placement": "grid"}
        poor = Resources(10, 8, tight, tight, overhead=tight, worker_limit=tight // 4)
        before = estimate_training(sizes, poor, **choices)
        said = " ".join(map(str, before.findings))
        advised: dict[str, set[str]] = {}
        for setting, value in re.findall(r"--conf (\S+)=(\d+[mg])", said):
            advised.setdefault(setting, set()).add(value)
        assert {"spark.driver.memory", "spark.executor.pyspark.memory"} <= advised.keys()
        assert all(len(values) == 1 for values in advised.values())
        own = {name: memory_bytes(values.pop()) for name, values in advised.items()}
        rich = Resources(
            10,
            8,
            own.get("spark.executor.memory", tight),
            own["spark.driver.memory"],
            overhead=own.get("spark.executor.memoryOverhead", tight),
            worker_limit=own["spark.executor.pyspark.memory"] // 8,
        )
        after = estimate_training(sizes, rich, **choices)
        assert after.trainable
        # Blocks and groups of models follow from what workers may use.
        assert after.findings == [] or after.plan.as_record() != before.plan.as_record()

    @pytest.mark.parametrize(
        ("resources", "setting"),
        [
            (replace(CLUSTER, driver_memory=GB), "--conf spark.driver.memory="),
            (replace(CLUSTER, executor_memory=GB // 2), "--conf spark.executor.memory="),
            (replace(CLUSTER, worker_limit=230 << 20), "--conf spark.executor.pyspark.memory="),
            (replace(CLUSTER, overhead=GB), "--conf spark.executor.memoryOverhead="),
            (replace(CLUSTER, machine=GB), "a larger machine"),
        ],
    )
    def test_what_may_be_too_small_is_a_warning(self, resources, setting):
        found = estimate_training(MILLIONS, resources)
        assert found.trainable
        (said,) = words(found, certain=False)
        assert setting in said

    def test_small_ratings_need_hardly_anything(self):
        # As the tests' sessions are: a heap of 1 GB, or containers of the smallest size.
        small = Sizes(1000, 500, 20_000, (1, 5, 20, 50) * 4, 8, 2)
        for resources in (
            replace(HERE, driver_memory=GB // 2, executor_memory=GB // 2, machine=4 * GB),
            Resources(1, 1, GB // 2, GB // 2, overhead=384 << 20),
            Resources(2, 1, GB // 2, GB // 2, worker_limit=300 << 20),
        ):
            for choices in ({}, {"placement": "ratings"}, {"exchange": "shuffle"}):
                found = estimate_training(
                    replace(small, cores=resources.all_cores), resources, **choices
                )
                assert found.findings == []


class TestCheck:
    def test_a_training_that_could_only_fail_is_stopped(self):
        tight = replace(CLUSTER, driver_memory=GB // 8)
        said: list[str] = []
        with pytest.raises(ConfigError, match=r"^this training could only run out of memory: 191"):
            check_plan(plan(MILLIONS), tight, Workload(), said.append)
        assert said == []

    def test_what_may_fail_is_told(self):
        said: list[str] = []
        check_plan(plan(MILLIONS), replace(CLUSTER, driver_memory=GB), Workload(), said.append)
        assert len(said) == 1
        check_plan(plan(MILLIONS), CLUSTER, Workload(), said.append)
        assert len(said) == 1


class TestReasons:
    @pytest.mark.parametrize(
        ("sizes", "choices", "name", "words"),
        [
            (MILLIONS, {}, "placement", "the packed ratings, 1.5 GB, are more than the 512 MB"),
            (MILLIONS, {"placement": "ratings"}, "placement", "as asked for"),
            (MILLIONS, {"exchange": "shuffle"}, "placement", "factors travel"),
            (MILLIONS, {"exchange": "shuffle"}, "user", "as asked for"),
            (MILLIONS, {}, "blocks", "one a core"),
            (MILLIONS, {"partitions": 7}, "blocks", "as asked for"),
            (replace(MILLIONS, cores=1), {}, "blocks", "whole rounds of the cores"),
            (MILLIONS, {}, "item", "the user factors of the largest model, 191 MB, are no more"),
            (MANY, {}, "item", "the user factors of the largest model, 3.7 GB, are more than the"),
            (
                MANY,
                {"workload": Workload(rankings=True)},
                "item",
                "the user factors of the largest",
            ),
            (MANY, {"workload": Workload(rankings=True)}, "user", "ranking measures need the"),
            (MANY, {"workload": Workload(accelerated=True)}, "user", "acceleration needs the"),
            (Sizes(900, 900, 9000, (5,), 4, 2), {}, "placement", "whole models side by side"),
            (
                Sizes(70_000, 10_700, 10**7, (50,), 4, 2),
                {},
                "placement",
                "half-steps spread over all cores",
            ),
            (
                Sizes(5, 3, 12, (2,), 8, 64),
                {"placement": "ratings"},
                "blocks",
                "no more than rows",
            ),
        ],
    )
    def test_why(self, sizes, choices, name, words):
        assert estimate_training(sizes, CLUSTER, **choices).reasons[name].startswith(words)


def test_the_record_has_it_all():
    found = estimate_training(MANY, CLUSTER)
    record = found.as_record()
    assert record["counts"] == {"users": 20_000_000, "items": 50_000, "ratings": 10**9}
    assert record["plan"] == found.plan.as_record()
    assert record["seconds_an_iteration"]["all"] == found.iteration
    assert record["cluster"]["executors"] == 10
    assert record["trainable"] is True
