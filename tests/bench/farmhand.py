"""One system that runs points, in a process of its own: ``python -m tests.bench.farmhand NAME``.

Peers live in environments without labkit, so nothing is imported here but what is measured. A
request is a line of JSON on the standard input: how many points, a new folder for the file,
and the table that the peers write. The reply, a line on the standard output, has the seconds,
or the error.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.bench.rows import Layout, Store, run

ENGINES = 2

Request = dict[str, Any]
Measure = Callable[[Request], float]
"""Runs the empty experiment at so many points, and returns the seconds until all is on disk."""


@contextlib.contextmanager
def labkit() -> Iterator[Measure]:
    import labkit
    from tests.bench.experiments import Nothing

    with contextlib.ExitStack() as stack:
        lab: Any = None

        def measure(request: Request) -> float:
            nonlocal lab
            if lab is None:
                notebook = labkit.SQLiteLabNotebook(Path(request["folder"]) / "labkit.db")
                lab = stack.enter_context(labkit.ClusterLab(notebook, n=ENGINES))
            notebook = lab.notebook()
            results = notebook.addResultSet(f"round {len(notebook)}")
            lab["x"] = range(request["points"])
            started = time.perf_counter()
            lab.runExperiment(Nothing())
            is_all = lab.wait()
            seconds = time.perf_counter() - started
            _check(results.numberOfResults() if is_all else 0, request)
            return seconds

        yield measure


@contextlib.contextmanager
def epyc() -> Iterator[Measure]:
    import logging
    import tempfile
    import warnings

    import epyc
    import ipyparallel

    from tests.bench.experiments import Nothing

    # epyc activates its connection outside IPython, too
    warnings.filterwarnings("ignore", message="The IPython parallel magics")
    epyc.ClusterLab.WaitingTime = 1  # by default, it looks every half minute

    def measure(request: Request) -> float:
        path = os.fspath(Path(request["folder"]) / "epyc.h5")
        notebook = epyc.HDF5LabNotebook(path, create=True)
        lab = epyc.ClusterLab(notebook, profile_dir=profile, cluster_id="")
        try:
            lab["x"] = range(request["points"])
            started = time.perf_counter()
            lab.runExperiment(Nothing())
            lab.wait()
            seconds = time.perf_counter() - started
            _check(notebook.current().numberOfResults(), request)
            return seconds
        finally:
            lab.close()

    with tempfile.TemporaryDirectory() as home:
        profile = os.fspath(Path(home) / "profile_bench")
        with ipyparallel.Cluster(
            n=ENGINES, profile_dir=profile, cluster_id="", log_level=logging.ERROR
        ) as client:
            client.wait_for_engines(ENGINES, timeout=60)
            yield measure


@contextlib.contextmanager
def dask() -> Iterator[Measure]:
    from distributed import Client, LocalCluster, as_completed

    def points(count: int, store: Store) -> None:
        futures = client.map(run, range(count), pure=False)
        for batch in as_completed(futures, with_results=True).batches():
            store.add(record for _, record in batch)

    with (
        LocalCluster(
            n_workers=ENGINES, threads_per_worker=1, processes=True, dashboard_address=None
        ) as cluster,
        Client(cluster) as client,
    ):
        yield _stored(points)


@contextlib.contextmanager
def ray() -> Iterator[Measure]:
    import ray

    ray.init(num_cpus=ENGINES, include_dashboard=False, log_to_driver=False, logging_level="error")
    task = ray.remote(run)

    def points(count: int, store: Store) -> None:
        left = [task.remote(x) for x in range(count)]
        while left:
            most = min(len(left), 1000)
            done, left = ray.wait(left, num_returns=most, timeout=0.1)
            store.add(ray.get(done))

    try:
        yield _stored(points)
    finally:
        ray.shutdown()


@contextlib.contextmanager
def joblib() -> Iterator[Measure]:
    import joblib

    def points(count: int, store: Store) -> None:
        for record in pool(joblib.delayed(run)(x) for x in range(count)):
            store.add([record])

    # of what joblib offers, a generator that keeps the order is quickest here
    with joblib.Parallel(n_jobs=ENGINES, return_as="generator") as pool:
        yield _stored(points)


SYSTEMS = {"labkit": labkit, "epyc": epyc, "dask": dask, "ray": ray, "joblib": joblib}


def _stored(points: Callable[[int, Store], None]) -> Measure:
    """Measure a peer, its rows stored as labkit stores its own."""

    def measure(request: Request) -> float:
        like = Layout(*request["layout"])
        with Store(Path(request["folder"]) / "peer.db", like) as store:
            started = time.perf_counter()
            points(request["points"], store)
            store.flush()
            seconds = time.perf_counter() - started
            _check(store.count(), request)
        return seconds

    return measure


def _check(found: int, request: Request) -> None:
    if found != request["points"]:
        raise RuntimeError(f"{found} of {request['points']} points are there")


def main(name: str) -> None:
    """Answer until the standard input ends."""
    # what a library prints must not pass for a reply
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    try:
        with SYSTEMS[name]() as measure:
            for line in sys.stdin:
                replies.write(json.dumps({"seconds": measure(json.loads(line))}) + "\n")
    except Exception:
        replies.write(json.dumps({"error": traceback.format_exc()}) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
