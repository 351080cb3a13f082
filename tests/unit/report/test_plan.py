"""The text of ``--plan``."""

from __future__ import annotations

from typing import Any

from als_spark.report.plan import plan_text
from als_spark.spark.estimate.estimate import estimate_training
from als_spark.spark.estimate.resources import Resources
from als_spark.spark.estimate.work import Workload
from als_spark.spark.planner import Sizes

GB = 1 << 30


def text_of(sizes: Sizes, resources: Resources, **choices: Any) -> list[str]:
    record = estimate_training(sizes, resources, **choices).as_record()
    return plan_text({**record, "counted": "as given"}).splitlines()


def test_a_cluster() -> None:
    resources = Resources(4, 8, 8 * GB, GB, worker_limit=2 * GB, machine=64 * GB)
    sizes = Sizes(20_000_000, 50_000, 10**9, (50, 20), 4, 32)
    lines = text_of(sizes, resources)
    assert "  models   2 models of rank 20 to 50, float32" in lines
    (users,) = [line.split() for line in lines if line.startswith("  solving users")]
    (items,) = [line.split() for line in lines if line.startswith("  solving items")]
    assert (users[2], items[2]) == ("broadcast", "shuffle")
    (shuffled,) = [line.split() for line in lines if "shuffled between" in line]
    # None to solve users; the rest, and both together.
    assert shuffled[3] == "–"
    assert shuffled[4:6] == shuffled[6:8]
    (driver,) = [line for line in lines if line.startswith("  driver JVM")]
    assert "of 1.0 GB" in driver
    (worker,) = [line for line in lines if line.startswith("  Python worker, training")]
    assert "of 2.0 GB" in worker
    (together,) = [line for line in lines if line.startswith("  Python workers, together")]
    assert "8 at a time, and what they share: what an executor needs beyond its heap" in together
    small = lines[lines.index("Too small") + 1]
    assert small.startswith("  - the driver's JVM may need ")
    assert any(line.startswith("  to an executor over the network: ") for line in lines)


def test_whole_models_on_this_machine() -> None:
    lines = text_of(Sizes(900, 900, 9000, (5,), 8, 2), Resources(1, 2, GB, GB, local=True))
    assert "  models   1 model of rank 5, float64" in lines
    assert "  cluster  this machine: 2 tasks at a time, heap 1.0 GB" in lines
    assert any(line.startswith("  placement  grid  whole models") for line in lines)
    # Nothing travels, and nothing is too small.
    assert not any("broadcast," in line or "network" in line for line in lines)
    assert "Too small" not in lines
    (seconds,) = [line for line in lines if line.startswith("  about ")]
    assert seconds.split()[2] == "ms:"


def test_a_bayesian_method_in_groups() -> None:
    resources = Resources(4, 8, 8 * GB, 64 * GB)
    sizes = Sizes(2_000_000, 50_000, 10**8, (8,), 4, 32)
    lines = text_of(sizes, resources, workload=Workload("variational"), exchange="broadcast")
    assert "  models   1 model of rank 8, float32, variational" in lines
    assert not any("asked for" in line for line in lines)
    many = text_of(Sizes(2_000_000, 50_000, 10**8, (50,) * 12, 4, 32), resources)
    (jobs,) = [line for line in many if line.startswith("  jobs")]
    assert jobs.split()[1:5] == ["users", "1;", "items", "3"]
