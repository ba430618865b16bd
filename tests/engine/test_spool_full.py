"""A spool whose disk is full: all outcomes go back in the answer, and nothing stays."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pytest

import labkit
from labkit.engine import outbox, worker
from labkit.engine.hand import run_chunk
from labkit.engine.messages import Answer, Chunk

from ..notebook.disks import fill, mounted
from .answers import runs_in


class Megabyte(labkit.Experiment):
    """Gives one."""

    def do(self, params: dict[str, Any]) -> dict[str, Any]:
        return {"array": np.full(2**17, params["x"])}


@pytest.fixture(params=["tmpfs", "ext4"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A disk of a few megabytes, which the lab and its engine share."""
    with mounted(request.param, tmp_path) as where:
        (where / "probe").touch()
        yield where


def chunk_on(disk: Path, points: int) -> Chunk:
    probe = str(disk / "probe")
    return Chunk(
        "c",
        "sweep",
        0,
        cloudpickle.dumps(Megabyte()),
        {},
        [(f"k{x}", {"x": x}) for x in range(points)],
        probe=probe,
    )


def numbers(answer: Answer) -> list[int]:
    runs = runs_in(answer.records)
    return [int(run["results"]["array"][0]) for _, run in runs]


def spools(disk: Path) -> list[str]:
    return [f.name for f in disk.iterdir() if ".spool" in f.name]


def test_a_disk_that_is_full_before_the_chunk(disk: Path) -> None:
    fill(disk)
    chunk = chunk_on(disk, 3)
    answer = pickle.loads(run_chunk(chunk.order, pickle.dumps(chunk)))
    assert (numbers(answer), answer.spooled, answer.stop) == ([0, 1, 2], None, None)
    assert [f for f in spools(disk) if (disk / f).stat().st_size] == []


def test_a_disk_too_small_for_the_chunk(disk: Path) -> None:
    fill(disk, leave_bytes=2_500_000)
    chunk = chunk_on(disk, 5)
    answer = pickle.loads(run_chunk(chunk.order, pickle.dumps(chunk)))
    assert (numbers(answer), answer.spooled, answer.stop) == ([0, 1, 2, 3, 4], None, None)
    assert spools(disk) == []


def test_a_disk_that_is_full_after_some_records(
    disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # a record for each point, as when points take longer
    monkeypatch.setattr(outbox, "FLUSH_S", -1.0)
    fill(disk, leave_bytes=2_500_000)
    answer = pickle.loads(worker.run(pickle.dumps(chunk_on(disk, 5)), disk, is_shared=True))
    assert (numbers(answer), answer.spooled) == ([0, 1, 2, 3, 4], None)
    assert len(answer.records) == 5
    assert spools(disk) == []
