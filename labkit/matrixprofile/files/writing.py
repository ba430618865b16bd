"""Matrix profiles into files that other programs read, by the suffix of the name."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import labkit
from labkit.errors import ParameterError, suggestion
from labkit.notebook.atomic import replacing

__all__ = ["SUFFIXES", "About", "assert_writable", "files_of", "write_result"]

Columns = dict[str, NDArray[Any]]
Sides = dict[str, Columns]
"""What was computed of each side, by its name; of a single one the name is empty."""


@dataclass(frozen=True, slots=True)
class About:
    """What a matrix profile was computed of, and how: for whoever finds the file."""

    window: int
    """Subsequence length in samples."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """The options of the join, but those that say only where it ran."""
    series: Sequence[str] = ()
    """Names of the series: one, or two of an AB-join."""
    digests: Sequence[str] = ()
    """Digests of their samples."""

    def attributes(self, kind: str) -> dict[str, Any]:
        """Return all that is known, as names and values."""
        known = {"labkit": labkit.__version__, "kind": kind, "window": self.window}
        known |= {"series": list(self.series), "digest": list(self.digests), **self.options}
        return {k: v for k, v in known.items() if v is not None and v != []}

    def sides(self) -> tuple[str, ...]:
        """Return the names of the sides, of a single one an empty name."""
        if self.options.get("sides") != "both":
            return ("",)
        return ("a", "b") if len(self.series) > 1 else ("left", "right")


def write_result(
    path: str | Path, kind: str, result: Any, *, about: About, overwrite: bool = False
) -> list[Path]:
    """Write a matrix profile to a file: with its whole content, or not at all.

    ===================  =========================================================================
    ``.h5``, ``.hdf5``   Datasets ``distance``, ``index``, ...; a group for each of two sides.
                         What it was computed of is in the attributes.
    ``.npz``             Arrays of these names, for two sides as ``left_distance``; and ``about``,
                         JSON text.
    ``.csv``             A row a window, with a header: ``start`` (its first sample), ``distance``,
                         ``index``; of k neighbours ``distance_1``, ``index_1``, .... A summary is
                         a row a cell.
    ``.txt``             SCAMP's: a distance a line, and the indices in ``..._index.txt``. Of k
                         neighbours a line each: window, neighbour, distance. A summary is a line a
                         row. Each of two sides has its own files, ``..._left.txt``.
    ===================  =========================================================================

    Parameters
    ----------
    path : str or Path
        The file.
    kind : {"1nn", "1nn_only", "sum", "knn", "summary"}
        What it is.
    result : tuple or ndarray
        What the join returned.
    about : About
        What it is of.
    overwrite : bool
        Replace a file that is there.

    Returns
    -------
    list of Path
        What was written. Numbers in text have as many digits as they need to be read again
        exactly.

    Raises
    ------
    ParameterError
        For a name that cannot be written; see :func:`assert_writable`.

    Examples
    --------
    >>> import tempfile
    >>> result = np.array([0.5, np.inf]), np.array([1, -1])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     (file,) = write_result(f"{folder}/a.csv", "1nn", result, about=About(window=50))
    ...     print(file.read_text())
    start,distance,index
    0,0.5,1
    1,inf,-1
    <BLANKLINE>
    """
    assert_writable(path, kind, about=about, overwrite=overwrite)
    files = files_of(path, kind, about=about)
    with ExitStack() as stack:
        # all are written under other names before the first gets its own
        unfinished = [stack.enter_context(replacing(file)) for file in files]
        write = SUFFIXES[Path(path).suffix.lower()]
        write(unfinished, _named(kind, result, about), about.attributes(kind))
    return files


def files_of(path: str | Path, kind: str, *, about: About) -> list[Path]:
    """Return the files that a result will take: in SCAMP's format several, else one.

    Examples
    --------
    >>> [file.name for file in files_of("out.txt", "1nn", about=About(window=50))]
    ['out.txt', 'out_index.txt']
    """
    path = Path(path)
    if path.suffix.lower() != ".txt":
        return [path]
    parts = ["", "index"] if kind == "1nn" else [""]
    names = ["_".join(filter(None, (path.stem, s, p))) for s in about.sides() for p in parts]
    return [path.with_name(f"{name}{path.suffix}") for name in names]


def assert_writable(path: str | Path, kind: str, *, about: About, overwrite: bool = False) -> None:
    """Make sure, before work starts, that a result could be written.

    Raises
    ------
    ParameterError
        For an unknown suffix, a folder that is not there or cannot be written, or a file that
        is there and may not be replaced.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        known = suggestion(path.suffix, SUFFIXES)
        raise ParameterError(f"{path}: its suffix names no format of a matrix profile{known}")
    if not path.parent.is_dir():
        raise ParameterError(f"{path}: there is no folder {path.parent}; make it first")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise ParameterError(f"{path}: the folder {path.parent} cannot be written")
    for file in files_of(path, kind, about=about):
        if file.is_dir():
            raise ParameterError(f"{file} is a folder; name a file")
        if file.exists() and not overwrite:
            raise ParameterError(f"{file} exists already: choose another name, or overwrite it")


# ---------- what there is to write ----------


def _named(kind: str, result: Any, about: About) -> Sides:
    names = about.sides()
    results = result if len(names) > 1 else (result,)
    return {n: _columns(kind, r, about) for n, r in zip(names, results, strict=True)}


def _columns(kind: str, result: Any, about: About) -> Columns:
    value = "correlation" if about.options.get("correlation") else "distance"
    if kind in {"1nn", "knn"}:
        return {value: np.asarray(result[0]), "index": np.asarray(result[1])}
    return {"sum" if kind == "sum" else value: np.asarray(result)}


def _prefixed(sides: Sides) -> Columns:
    return {f"{s}_{n}" if s else n: v for s, columns in sides.items() for n, v in columns.items()}


# ---------- formats ----------


def _write_hdf5(files: Sequence[Path], sides: Sides, attributes: dict[str, Any]) -> None:
    import h5py

    with h5py.File(files[0], "w") as file:
        file.attrs.update(attributes)
        for side, columns in sides.items():
            for name, values in columns.items():
                file[f"{side}/{name}"] = values


def _write_npz(files: Sequence[Path], sides: Sides, attributes: dict[str, Any]) -> None:
    # an open file: to a name, NumPy would add a suffix
    with files[0].open("wb") as file:
        np.savez(file, allow_pickle=False, **_prefixed(sides), about=json.dumps(attributes))


def _write_csv(files: Sequence[Path], sides: Sides, attributes: dict[str, Any]) -> None:
    columns = _prefixed(sides)
    if attributes["kind"] == "summary":
        table = _cells(columns)
    else:
        count = max(len(values) for values in columns.values())
        table = {"start": np.arange(count), **_ranked(columns)}
    _write_text(files[0], table, ",", header=True)


def _cells(columns: Columns) -> Columns:
    """Give each cell of a summary its row."""
    row, column = np.indices(next(iter(columns.values())).shape)
    return {"row": row.ravel(), "column": column.ravel()} | {
        name: values.ravel() for name, values in columns.items()
    }


def _ranked(columns: Columns) -> Columns:
    """Give each of k neighbours its own columns, distance beside index."""
    flat = {name: values for name, values in columns.items() if values.ndim == 1}
    deep = {name: values for name, values in columns.items() if values.ndim == 2}
    k = next((values.shape[1] for values in deep.values()), 0)
    return flat | {f"{n}_{rank + 1}": v[:, rank] for rank in range(k) for n, v in deep.items()}


def _write_txt(files: Sequence[Path], sides: Sides, attributes: dict[str, Any]) -> None:
    tables = (t for columns in sides.values() for t in _scamp(attributes["kind"], columns))
    for file, table in zip(files, tables, strict=True):
        _write_text(file, table, " ", header=False)


def _scamp(kind: str, columns: Columns) -> list[Columns]:
    """Return what SCAMP writes of one side, a table a file."""
    if kind == "knn":
        distance, index = columns.values()
        start, rank = np.nonzero(index >= 0)
        return [{"0": start, "1": index[start, rank], "2": distance[start, rank]}]
    if kind == "summary":
        (matrix,) = columns.values()
        return [{str(i): column for i, column in enumerate(matrix.T)}]
    return [{name: values} for name, values in columns.items()]


def _write_text(path: Path, columns: Columns, delimiter: str, *, header: bool) -> None:
    import pyarrow as pa
    from pyarrow import csv

    longest = max(len(values) for values in columns.values())
    # the two sides of an AB-join may differ in length
    padded = [
        pa.concat_arrays([array, pa.nulls(longest - len(array), array.type)])
        for array in map(pa.array, columns.values())
    ]
    options = csv.WriteOptions(include_header=False, delimiter=delimiter, quoting_style="none")
    with path.open("wb") as file:
        if header:
            # not by pyarrow, which puts every name into quotes
            file.write(f"{delimiter.join(columns)}\n".encode())
        csv.write_csv(pa.table(padded, names=list(columns)), file, options)


SUFFIXES: dict[str, Callable[[Sequence[Path], Sides, dict[str, Any]], None]] = {
    ".h5": _write_hdf5,
    ".hdf5": _write_hdf5,
    ".npz": _write_npz,
    ".csv": _write_csv,
    ".txt": _write_txt,
}
"""The formats that can be written."""
