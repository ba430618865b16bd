"""What a notebook holds, as text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from labkit.cli.glance import Failure, Glance
from labkit.cli.opening import notebooks, reading
from labkit.cli.tables import cell, table
from labkit.errors import UnknownParameterError
from labkit.experiment import Experiment
from labkit.notebook import SQLiteLabNotebook
from labkit.outcome import KEY, METADATA, PARAMETERS, RESULTS

__all__ = ["KEY_DIGITS", "LEAST_DIGITS", "files", "log", "overview", "rows"]

#: So many digits of a key are shown: enough to tell a million points apart.
KEY_DIGITS = 12

#: So many digits of a key are asked for.
LEAST_DIGITS = 4

#: So many keys are named, when it could be any of them.
_NAMED = 5


def files(folder: Path) -> Iterator[str]:
    """Yield the lines of a list of the notebooks in a folder."""
    found = [_file(path) for path in notebooks(folder)]
    if not found:
        yield "There is no notebook here. labkit run makes one."
        return
    yield table(["notebook", "result sets", "done", "failed", "pending", "description"], found)


def _file(path: Path) -> list[Any]:
    with reading(path) as notebook:
        tags = notebook.resultSets()
        counts = [_counts(path, tag) for tag in tags]
        sums = [sum(column) for column in zip(*counts, strict=True)]
        return [path.name, len(tags), *sums, notebook.description()]


def _counts(path: Path, tag: str) -> list[int]:
    with Glance(path, tag) as glance:
        counts = glance.counts()
    return [counts.done, counts.failed, counts.pending]


def overview(path: Path) -> Iterator[str]:
    """Yield the lines of a list of a notebook's result sets."""
    with reading(path) as notebook:
        finished = ", finished and locked" if notebook.isLocked() else ""
        yield f"{path}: {notebook.description()}{finished}"
        yield ""
        head = ["result set", "done", "failed", "pending", "parameters", "results", "locked"]
        yield table(head, [_result_set(path, notebook, tag) for tag in notebook.resultSets()])


def _result_set(path: Path, notebook: SQLiteLabNotebook, tag: str) -> list[Any]:
    with Glance(path, tag) as glance:
        sizes = ", ".join(f"{name} ({n})" for name, n in glance.sizes().items())
        results = ", ".join(glance.names(RESULTS))
    locked = "yes" if notebook.resultSet(tag).isLocked() else "no"
    return [tag, *_counts(path, tag), sizes or None, results or None, locked]


def rows(path: Path, tag: str | None, limit: int, *, keys: bool, metadata: bool) -> Iterator[str]:
    """Yield the lines of a result set's first outcomes.

    Parameters
    ----------
    path, tag : Path, str
        The notebook and the result set; None for the current one.
    limit : int
        How many outcomes.
    keys : bool
        Show the beginnings of their keys.
    metadata : bool
        Show all that is known, one outcome below the other.
    """
    with reading(path, tag) as notebook:
        chosen = notebook.currentTag()
        rs = notebook.resultSet(chosen)
        units = rs.getAttribute("labkit.units") if "labkit.units" in rs else {}
        total = rs.numberOfResults()
    parts = (PARAMETERS, RESULTS, METADATA)
    with Glance(path, chosen) as glance:
        found = glance.rows(parts, limit)
        names = [(part, name) for part in parts[:2] for name in glance.names(part)]
    if not found:
        yield f"{path}: result set {chosen} has no outcomes yet"
        return
    if metadata:
        yield from chain.from_iterable(_block(row) for row in found)
    else:
        yield _table(found, names, units, keys=keys)
    if total > len(found):
        yield f"… {total - len(found):,} more; all of them: -n {total}"


def _block(row: dict[tuple[str, str], Any]) -> Iterator[str]:
    width = max(len(name) for _, name in row)
    for part in (PARAMETERS, RESULTS, METADATA):
        for (its_part, name), value in sorted(row.items()):
            if its_part == part and value is not None:
                text = str(value) if name == Experiment.TRACEBACK else cell(value, 200)
                yield f"{name:{width}}  " + text.rstrip().replace("\n", f"\n{'':{width}}  ")
    yield ""


def _table(
    found: Sequence[dict[tuple[str, str], Any]],
    names: Sequence[tuple[str, str]],
    units: dict[str, str],
    *,
    keys: bool,
) -> str:
    failed = [not row.get((METADATA, Experiment.STATUS)) for row in found]
    head = [f"{n} [{units[n]}]" if p == PARAMETERS and n in units else n for p, n in names]
    lines = [[row[name] for name in names] for row in found]
    if keys:
        head.insert(0, "key")
        for line, row in zip(lines, found, strict=True):
            line.insert(0, (row.get((METADATA, KEY)) or "")[:KEY_DIGITS] or None)
    if any(failed):
        head.append("failed")
        for line, row, is_failed in zip(lines, found, failed, strict=True):
            line.append(row.get((METADATA, Experiment.EXCEPTION)) if is_failed else "")
    return table(head, lines)


def log(path: Path, beginning: str) -> Iterator[str]:
    """Yield what the runs of a point printed and logged, and the traceback if it failed.

    Raises
    ------
    UnknownParameterError
        When it is not the beginning of one key; it says of which, or how to find one.
    """
    with reading(path) as notebook:
        tags = notebook.resultSets()
        key = _key(path, tags, beginning.strip().lower())
        text = notebook.log(key)
    if text:
        yield text.rstrip("\n")
    failures = list(chain.from_iterable(_failures(path, tag, key) for tag in tags))
    for failure in failures:
        yield failure.traceback.rstrip("\n")
    if not text and not failures:
        yield f"The runs of point {key} printed nothing."


def _failures(path: Path, tag: str, key: str) -> Iterable[Failure]:
    with Glance(path, tag) as glance:
        return glance.failures(key=key)


def _key(path: Path, tags: Iterable[str], beginning: str) -> str:
    remedy = f"labkit notebook show --keys {path} shows them"
    if len(beginning) < LEAST_DIGITS:
        raise UnknownParameterError(
            f"{beginning!r} is too short: give at least {LEAST_DIGITS} digits of a key; {remedy}"
        )
    found: set[str] = set()
    for tag in tags:
        with Glance(path, tag) as glance:
            found.update(glance.keys(beginning))
    if not found:
        raise UnknownParameterError(f"no key in {path} begins with {beginning}; {remedy}")
    if len(found) > 1:
        named = ", ".join(sorted(found)[:_NAMED]) + (", …" if len(found) > _NAMED else "")
        raise UnknownParameterError(f"{len(found)} keys begin with {beginning}: {named}")
    return found.pop()
