"""Sweeps on a Ray cluster of which a node is killed, and as jobs of submitit."""

from __future__ import annotations

import sys
import threading

import pytest

from glassformer.experiments.executors import RayExecutor, Resources, SlurmExecutor
from glassformer.experiments.runs import Run
from glassformer.experiments.sweep import run_sweep, wait_until

pytestmark = pytest.mark.usefixtures("planted")


def slow_runs(number, steps=20):
    settings = [{"steps": steps, "seconds": 0.1, "seed": seed} for seed in range(number)]
    return [Run(f"seed-{row['seed']}", "planted:count_slowly", row) for row in settings]


def expected(number, steps=20):
    return {f"seed-{seed}": {"counted": steps, "seed": seed} for seed in range(number)}


@pytest.mark.parametrize(
    ("module", "build"),
    [("ray", lambda folder: RayExecutor()), ("submitit", lambda folder: SlurmExecutor(folder))],
)
def test_a_missing_package_is_named_with_its_extra(tmp_path, monkeypatch, module, build):
    monkeypatch.setitem(sys.modules, module, None)
    extra = {"ray": "ray", "submitit": "slurm"}[module]
    with pytest.raises(ImportError, match=rf"pip install 'glassformer\[{extra}\]'"):
        build(tmp_path)


@pytest.fixture
def cluster(monkeypatch):
    ray = pytest.importorskip("ray", reason="needs Ray (extra ray)")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    second = cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    ray.init(address=cluster.address, log_to_driver=False)
    yield cluster, second
    ray.shutdown()
    cluster.shutdown()


@pytest.mark.slow
def test_a_ray_node_that_is_killed_loses_no_run(tmp_path, cluster, values_of):
    nodes, second = cluster

    def kill_a_node():
        assert wait_until(lambda: len(list(tmp_path.glob("*/count.txt"))) == 2, 60)
        nodes.remove_node(second, allow_graceful=False)

    executor = RayExecutor()
    assert executor.num_workers == 2
    killer = threading.Thread(target=kill_a_node)
    killer.start()
    run_sweep(slow_runs(3, steps=80), tmp_path, executor)
    killer.join()
    assert values_of(tmp_path) == expected(3, steps=80)
    calls = [len(path.read_text().splitlines()) for path in tmp_path.glob("*/calls.txt")]
    assert sorted(calls) == [1, 1, 2]  # one was on the node


def test_a_job_asks_for_what_a_run_needs(tmp_path):
    pytest.importorskip("submitit", reason="needs submitit (extra slurm)")
    needed = Resources(4, 1, 16.0, minutes=90.5)
    parameters = SlurmExecutor(tmp_path, needed, "local").executor.parameters
    assert parameters["cpus_per_task"] == 4
    assert parameters["gpus_per_node"] == 1
    assert parameters["mem_gb"] == 16
    assert parameters["timeout_min"] == 91
    parameters = SlurmExecutor(tmp_path, needed, "local", {"timeout_min": 600}).executor.parameters
    assert parameters["timeout_min"] == 600


@pytest.mark.slow
def test_a_ray_task_reserves_what_a_run_needs(cluster):
    executor = RayExecutor(Resources(2, 1, 0.5))
    assert executor.options == {"num_cpus": 2, "num_gpus": 1, "max_retries": 3, "memory": 2**29}
    assert executor.num_workers == 1


@pytest.mark.slow
def test_jobs_of_submitit_execute_the_runs(tmp_path, values_of):
    pytest.importorskip("submitit", reason="needs submitit (extra slurm)")
    executor = SlurmExecutor(tmp_path / "logs", cluster="local")
    run_sweep(slow_runs(2, steps=3), tmp_path / "runs", executor)
    assert values_of(tmp_path / "runs") == expected(2, steps=3)


@pytest.mark.slow
def test_a_job_of_submitit_that_is_killed_is_tried_again(tmp_path, values_of):
    pytest.importorskip("submitit", reason="needs submitit (extra slurm)")
    executor = SlurmExecutor(tmp_path / "logs", cluster="local")
    run_sweep([Run("dies", "planted:die", {"times": 1})], tmp_path / "runs", executor)
    assert values_of(tmp_path / "runs") == {"dies": {"deaths": 1}}
