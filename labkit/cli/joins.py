"""Matrix profiles as the command line asks for them: here, or by the tiles of a lab."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit.attachment import digest_of
from labkit.cli import running
from labkit.cli.opening import reading
from labkit.matrixprofile import abjoin, selfjoin
from labkit.matrixprofile.files.reading import Source
from labkit.matrixprofile.files.writing import About

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from labkit.matrixprofile import ABJoin, SelfJoin

__all__ = ["Computed", "Join", "compute", "compute_in_lab"]

CROWD = 64
"""For how many engines tiles are cut when nobody knows how many will compute."""


@dataclass(frozen=True)
class Join:
    """What is to be computed."""

    sources: tuple[Source, ...]
    """Where the series come from: one, or the two of an AB-join."""
    window: int
    """Subsequence length in samples."""
    kind: str
    """What is computed of each window."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """The options of the join that were given."""
    tile: int | None = None
    """Windows along a side of a tile."""
    threads: int | None = None
    """Threads, of this process or of an engine."""

    @cached_property
    def series(self) -> tuple[NDArray[np.float64], ...]:
        """The samples; SeriesError when they cannot be read."""
        return tuple(source.read() for source in self.sources)

    @property
    def is_self(self) -> bool:
        """Whether there is one series."""
        return len(self.sources) == 1

    @property
    def correlation(self) -> bool:
        """Whether correlations stand for distances."""
        return bool(self.options.get("correlation"))

    def here(self, progress: Callable[[float], object]) -> Any:
        """Compute it in this process."""
        join: Callable[..., Any] = selfjoin if self.is_self else abjoin
        where = {"threads": self.threads, "progress": progress}
        return join(*self.series, self.window, kind=self.kind, **self.options, **where)

    def experiment(self, threads: int | None, engines: int | None) -> SelfJoin | ABJoin:
        """Return the experiment whose points are tiles, each for so many threads."""
        from labkit.matrixprofile import ABJoin, SelfJoin

        made: Any = SelfJoin if self.is_self else ABJoin
        where = {"threads": threads, "tile": self.tile, "engines": engines}
        job: SelfJoin | ABJoin = made(
            *self.series, self.window, kind=self.kind, **self.options, **where
        )
        return job

    def cells(self) -> int:
        """Return how many pairs of windows there are; of one series each pair counts once."""
        counts = [samples.size - self.window + 1 for samples in self.series]
        return counts[0] * counts[0] // 2 if self.is_self else counts[0] * counts[1]

    def about(self, *, digests: bool = False) -> About:
        """Return what a file of the result is to tell."""
        defaults: dict[str, Any] = {"correlation": False, "sides": "one", "precision": "double"}
        if self.is_self or "aligned" in self.options:
            defaults["exclusion"] = "stumpy"
        return About(
            window=self.window,
            options={**defaults, **self.options},
            series=[str(source) for source in self.sources],
            digests=[digest_of(samples) for samples in self.series] if digests else [],
        )

    def notebook(self) -> Path:
        """Return the notebook that stands beside the series."""
        path = self.sources[0].path
        return path.with_name(f"{path.name.partition('.')[0]}-matrix-profile.db")


@dataclass(frozen=True, slots=True)
class Computed:
    """What came of a join."""

    result: Any
    """What :func:`labkit.matrixprofile.selfjoin` returns."""
    seconds: float = 0.0
    """How long it took."""
    cells: float = 0.0
    """How many pairs of windows were computed in that time; none when all was there."""


def compute(join: Join) -> Computed:
    """Compute a join in this process, with a progress bar in a terminal.

    Raises
    ------
    SeriesError
        When that cannot be: before any work starts.
    """
    from tqdm import tqdm

    shape = "{percentage:3.0f}%|{bar}| {elapsed}<{remaining}"
    started = time.monotonic()
    with tqdm(total=1.0, bar_format=shape, disable=None, delay=0.5) as bar:
        result = join.here(lambda fraction: bar.update(fraction - bar.n))
    return Computed(result, time.monotonic() - started, join.cells())


def compute_in_lab(
    join: Join,
    notebook: Path,
    place: running.Place,
    tell: Callable[[str], object],
) -> tuple[running.Report, Computed | None]:
    """Run the tiles that the notebook lacks, and merge all that it has.

    Returns
    -------
    Report, Computed or None
        What ran; and the result, when all tiles are there.

    Raises
    ------
    LabkitError
        When that cannot be: before any work starts.
    """
    # in this process one tile after another is computed, so each may have all cores
    threads = join.threads or (None if place.serial else 1)
    # engines of a profile come and go, but the same command is to find its tiles again
    job = join.experiment(threads, CROWD if place.profile is not None else place.engines)
    name = f"{join.kind}-{join.window}-{job.digest()[:8]}"
    if join.tile is None:
        job.side = _side_begun(notebook, name) or job.side
    request = running.Request(job, notebook, tag=f"{name}-{job.side}")
    report = running.run(request, place, tell)
    if report.exit_status:
        return report, None
    with reading(notebook, report.tag) as opened:
        result = job.result(opened, report.tag)
    share = report.points / report.after.total
    return report, Computed(result, report.seconds, share * join.cells())


def _side_begun(notebook: Path, name: str) -> int | None:
    """Return the side of the tiles that a notebook has most of, for the join of a name.

    For another number of engines they would be cut in another way, and be lost.
    """
    if not notebook.exists():
        return None
    with reading(notebook) as opened:
        sides = [
            int(tag.removeprefix(f"{name}-"))
            for tag in opened.resultSets()
            if tag.startswith(f"{name}-")
        ]
        area = {side: side**2 * opened.numberOfResults(f"{name}-{side}") for side in sides}
    return max((side for side in area if area[side]), key=area.__getitem__, default=None)
