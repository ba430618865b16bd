"""What a run tells at its end: what came of it, and what to type next."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from labkit.cli.census import Census, duration
from labkit.cli.glance import Failure, Glance
from labkit.cli.pages import KEY_DIGITS
from labkit.cli.running import Forecast, Report
from labkit.cli.tables import cell
from labkit.notebook import LabNotebook
from labkit.outcome import PARAMETERS, RESULTS

__all__ = ["forecast", "point", "report"]

#: So many failures are shown.
SHOWN = 3


def report(done: Report) -> Iterator[str]:
    """Yield the lines of a summary."""
    request, after = done.request, done.after
    if not done.points:
        what = "has failed" if request.only == "failed" else "is missing"
        yield f"Nothing to run: no point {what}"
    if done.trouble:
        yield f"Error: {done.trouble}"
    if done.interrupted:
        again = "" if request.only != "all" else " with --only missing"
        yield f"Interrupted. What is recorded stays; run the same command again{again} to go on."
    took = f" in {duration(done.seconds)}" if done.seconds else ""
    yield f"{request.notebook}{_tagged(done.tag)}: {_counted(after)}{took}"
    if after.pending:
        yield (
            f"{_points(after.pending)} pending on another cluster: the same command with its "
            "--profile fetches them"
        )
    yield from _failed(request.notebook, done.failures)
    yield from _next(request.notebook, done.tag)


def forecast(expected: Forecast) -> Iterator[str]:
    """Yield the lines of a dry run."""
    request, found = expected.request, expected.census
    yield f"{request.notebook}{_tagged(expected.tag)}: {_counted(found)}"
    yield f"To run ({request.only}): {_points(expected.points)}"
    if found.pending:
        yield f"  {found.pending:,} are pending: they run again unless a cluster still has them"
    yield expected.estimate


def point(parameters: dict[str, Any]) -> str:
    """Return a point as one line.

    Examples
    --------
    >>> point({"window": 50, "kind": "fast"})
    'window=50 kind=fast'
    """
    return " ".join(f"{name}={cell(value)}" for name, value in parameters.items())


def _counted(found: Census) -> str:
    counts = [
        (found.failed, "failed"),
        (found.pending, "pending"),
        (found.untried, "not run"),
    ]
    others = "".join(f", {count:,} {what}" for count, what in counts if count)
    return f"{found.done:,} of {_points(found.total)} done{others}"


def _points(count: int) -> str:
    return f"{count:,} point{'s' * (count != 1)}"


def _tagged(tag: str) -> str:
    return "" if tag == LabNotebook.DEFAULT_RESULTSET else f" (result set {tag})"


def _failed(notebook: Path, failures: list[Failure]) -> Iterator[str]:
    if not failures:
        return
    yield ""
    yield f"{_points(len(failures))} failed:"
    for failure in failures[:SHOWN]:
        yield f"  {point(failure.parameters)}: {cell(failure.error, 200)}"
    if len(failures) > SHOWN:
        yield f"  … and {len(failures) - SHOWN} more"
    if failures[0].key:
        yield "What such a run printed, and its traceback:"
        yield f"  labkit notebook log {_quoted(notebook)} {failures[0].key[:KEY_DIGITS]}"


def _next(notebook: Path, tag: str) -> Iterator[str]:
    with Glance(notebook, tag) as glance:
        if not glance.newest():
            return
        axes = _axes(glance)
    yield ""
    yield "Next:"
    yield f"  labkit notebook show {_quoted(notebook)}"
    if axes:
        picture = _quoted(notebook.with_suffix(".png"))
        yield f"  labkit notebook plot {_quoted(notebook)} {axes} -o {picture}"


def _axes(glance: Glance) -> str:
    """Return the options of a plot that shows something, or nothing."""
    sizes, numbers = glance.sizes(), glance.scalars(PARAMETERS)
    varied = sorted((n for n in sizes if sizes[n] > 1), key=lambda n: sizes[n])
    x = next((n for n in reversed(varied) if n in numbers), None)
    results = glance.scalars(RESULTS)
    y = next(iter(sorted(results, key=lambda n: results[n] != "float")), None)
    if x is None or y is None:
        return ""
    hue = next((f" --hue {shlex.quote(n)}" for n in varied if n != x), "")
    return f"--x {shlex.quote(x)} --y {shlex.quote(y)}{hue}"


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))
