"""The demonstration: discords and motifs of the recording that comes with labkit."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from labkit.cli import running, summary
from labkit.cli.opening import reading
from labkit.cli.tables import table
from labkit.matrixprofile import Discord, Discords, Motif, Recording, discords, recording

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

__all__ = ["WINDOW", "Findings", "findings", "show", "told"]

#: The window that is drawn, in samples: a little less than a heartbeat.
WINDOW = 100

#: So many of each are marked.
DISCORDS, MOTIFS = 2, 3


@dataclass(frozen=True, slots=True)
class Findings:
    """What the segments of a recording gave, put together."""

    segments: pd.DataFrame
    """The outcomes for one window, a row a segment."""
    distance: NDArray[np.float64]
    """(w,) Their matrix profiles one after the other; NaN where a window spans two segments."""
    discords: list[Discord]
    """The windows that are farthest from all others, the farthest first."""
    motifs: list[Motif]
    """The pairs that are nearest, the nearest first."""


def show(folder: Path, engines: int, tell: Callable[[str], object]) -> int:
    """Run what is missing, tell what was found, draw it, and return the exit status.

    Parameters
    ----------
    folder : Path
        Where the notebook and the picture go; it is made when there is none.
    engines : int
        How many engines to start, if anything is missing.
    tell : callable
        Is told each line.
    """
    folder.mkdir(parents=True, exist_ok=True)
    request = running.Request(Discords(), folder / "discords.db")
    heart = recording()
    tell(f"{heart.title}: {_length(heart)}, from {heart.source}")
    report = running.run(request, running.Place(engines), tell)
    if report.exit_status:
        for line in summary.report(report):
            tell(line)
        return report.exit_status
    if not report.points:
        tell("Nothing is missing: all points are in the notebook already.")
    with reading(request.notebook, report.tag) as notebook:
        found = findings(notebook.dataframe(), heart)
    picture = folder / "discords.png"
    _draw(found, heart, picture)
    for line in told(found, heart):
        tell(line)
    tell(f"\nThe picture:  {picture}")
    tell(f"All outcomes: labkit notebook show {request.notebook} -n {report.after.total}")
    return 0


def findings(outcomes: pd.DataFrame, heart: Recording) -> Findings:
    """Put the outcomes of the segments together.

    Parameters
    ----------
    outcomes : DataFrame
        What :class:`~labkit.matrixprofile.Discords` gave.
    heart : Recording
        The recording.
    """
    import numpy as np

    chosen = outcomes[outcomes["window"] == WINDOW]
    segments = chosen.drop_duplicates("segment", keep="last").sort_values("segment")
    distance = np.full(heart.samples.size - WINDOW + 1, np.nan)
    for segment, part in zip(segments["segment"], segments["matrix_profile"], strict=True):
        start = heart.samples.size * int(segment) // len(segments)
        distance[start : start + part.size] = part
    pairs = segments.dropna(subset="motif_distance").sort_values("motif_distance")
    return Findings(
        segments=segments,
        distance=distance,
        # one movement takes two heartbeats: it is marked once
        discords=discords(distance, WINDOW, k=DISCORDS, separation=2 * WINDOW),
        motifs=[
            Motif(int(pair["motif_a"]), int(pair["motif_b"]), float(pair["motif_distance"]))
            for pair in pairs.head(MOTIFS).to_dict("records")
        ],
    )


def _draw(found: Findings, heart: Recording, path: Path) -> None:
    from labkit.matrixprofile import plot

    figure = plot(heart, found.distance, WINDOW, discords=found.discords, motifs=found.motifs)
    figure.savefig(path)


def told(found: Findings, heart: Recording) -> Iterator[str]:
    """Yield what was found, for a reader who has not seen the picture yet."""
    times = heart.times_s
    yield ""
    yield table(
        ["segment", "discord [s]", "distance", "motif [s]", "again [s]", "distance"],
        [
            [
                row["segment"],
                _moment(times, row["discord"]),
                _distance(row["distance"]),
                _moment(times, row["motif_a"]),
                _moment(times, row["motif_b"]),
                _distance(row["motif_distance"]),
            ]
            for row in found.segments.to_dict("records")
        ],
    )
    odd = ", ".join(f"{times[d.index]:.1f} s ({d.distance:.2f})" for d in found.discords)
    alike = ", ".join(
        f"{times[m.a]:.1f} and {times[m.b]:.1f} s ({m.distance:.2f})" for m in found.motifs
    )
    length = f"{WINDOW / (heart.rate_hz or 1.0):.2f} s"
    yield f"\nWindows of {length}, a little less than a heartbeat, compared by their shape:"
    yield f"  Least like any other (discords): {odd}."
    yield "  The pulse is distorted there, as it is when the finger moves."
    yield f"  Most alike (motifs): {alike}."
    yield "  These are heartbeats that repeat each other almost exactly."


def _moment(times: NDArray[np.float64], sample: float | None) -> float | None:
    """Return the time of a sample in seconds; None where nothing was found."""
    # missing is NaN in one column, and None in another
    if sample is None or math.isnan(sample):
        return None
    return round(float(times[int(sample)]), 1)


def _distance(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 2)


def _length(heart: Recording) -> str:
    rate = heart.rate_hz or 1.0
    return f"{heart.samples.size / rate:.0f} s at {rate:.0f} samples a second"
