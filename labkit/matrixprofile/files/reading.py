"""Series from files, by the suffix of the name."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labkit.errors import SeriesError
from labkit.matrixprofile.files import arrayfiles, textfiles
from labkit.matrixprofile.files.choosing import Part, known
from labkit.matrixprofile.series import as_series

__all__ = ["SUFFIXES", "Source", "read_series"]


def read_series(
    path: str | Path, *, column: str | int | None = None, dataset: str | None = None
) -> NDArray[np.float64]:
    r"""Read one series from a file.

    ====================  ========================================================
    ``.txt``              One number a line, as SCAMP has it.
    ``.csv``, ``.tsv``    One column of a table, with or without a header.
    ``.npy``              One array.
    ``.npz``              One array of several.
    ``.h5``, ``.hdf5``    One dataset.
    ``.parquet``          One column of a table.
    ====================  ========================================================

    Text may be packed: ``.txt.gz``, ``.csv.gz``, ``.tsv.gz``. Blank lines at its end are
    ignored. What is missing in a table becomes NaN.

    Parameters
    ----------
    path : str or Path
        The file.
    column : str or int, optional
        The column of a table, by its name or its number, counted from 0. May be left out
        when there is only one (in Parquet: only one of numbers).
    dataset : str, optional
        The array in ``.npz``, or the path of the dataset in HDF5. May be left out when there
        is only one (in HDF5: only one of numbers with one dimension).

    Returns
    -------
    ndarray of float64, shape (n,)
        The samples. Contiguous float64 in ``.npy`` or HDF5 is memory-mapped, to be read only.

    Raises
    ------
    SeriesError
        For a file that is not there or cannot be read as one series of numbers. The message
        names the file, the line or column, what was found, and what there is.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder, "pulse.csv")
    ...     _ = file.write_text("second,volt\n0,1.5\n1,\n2,2.5\n")
    ...     read_series(file, column="volt")
    array([1.5, nan, 2.5])
    """
    path = Path(path)
    form = _format_of(path)
    part = _part_of(path, form, column, dataset)
    _assert_there(path)
    try:
        values = form.read(path, part)
    except (OSError, EOFError, zlib.error) as e:
        raise SeriesError(f"{path} cannot be read: {getattr(e, 'strerror', None) or e}") from e
    return as_series(values, str(path))


@dataclass(frozen=True, slots=True)
class Source:
    """A file and which part of it, as one writes them on the command line.

    Examples
    --------
    >>> Source.parse("data.h5:/day 1/pulse").part
    '/day 1/pulse'
    """

    path: Path
    """The file."""
    part: str | None = None
    """Column or dataset."""

    @classmethod
    def parse(cls, text: str) -> Source:
        """Take apart ``FILE`` or ``FILE:PART``, where either may contain colons.

        The file is the longest beginning that exists; when none does, the shortest that has
        a known suffix.
        """
        cuts = [i for i, character in enumerate(text) if character == ":"]
        beginnings = [text, *(text[:i] for i in reversed(cuts))]
        there = [b for b in beginnings if b and Path(b).exists()]
        readable = [b for b in reversed(beginnings) if _suffix(Path(b)) in SUFFIXES]
        path = next(iter([*there, *readable]), text)
        return cls(Path(path), text[len(path) + 1 :] or None)

    def read(self) -> NDArray[np.float64]:
        """Read the series, as :func:`read_series` does."""
        form = _format_of(self.path)
        return read_series(self.path, **{form.part or "column": self.part})

    def __str__(self) -> str:
        return str(self.path) if self.part is None else f"{self.path}:{self.part}"


@dataclass(frozen=True, slots=True)
class _Format:
    """How files of a suffix are read, and what their parts are called."""

    read: Callable[[Path, Any], NDArray[Any]]
    part: str = ""


def _suffix(path: Path) -> str:
    is_packed = path.suffix.lower() == ".gz"
    return "".join(path.suffixes[-2:] if is_packed else path.suffixes[-1:]).lower()


def _format_of(path: Path) -> _Format:
    suffix = _suffix(path)
    if suffix not in SUFFIXES:
        found = f"the suffix {suffix}" if suffix else "no suffix"
        raise SeriesError(f"{path} has {found}, so its format is unknown{known(suffix, SUFFIXES)}")
    return SUFFIXES[suffix]


def _part_of(path: Path, form: _Format, column: Part, dataset: str | None) -> Part:
    for which, given in (("column", column), ("dataset", dataset)):
        if given is not None and which != form.part:
            has = f"it has {form.part}s: pass {form.part}=" if form.part else "it holds one series"
            raise SeriesError(f"{path} has no {which} {given}; {has}")
    return column if form.part == "column" else dataset


def _assert_there(path: Path) -> None:
    if path.is_dir():
        raise SeriesError(f"{path} is a folder; name one of the files in it")
    if path.exists():
        return
    if not path.parent.is_dir():
        raise SeriesError(f"{path}: there is no folder {path.parent}")
    others = [p.name for p in path.parent.iterdir() if _suffix(p) in SUFFIXES]
    raise SeriesError(f"there is no file {path}{known(path.name, others)}")


_LINES = _Format(lambda path, _: textfiles.read_lines(path))
_COMMAS = _Format(lambda path, column: textfiles.read_table(path, column, ","), "column")
_TABS = _Format(lambda path, column: textfiles.read_table(path, column, "\t"), "column")
_HDF5 = _Format(arrayfiles.read_hdf5, "dataset")

SUFFIXES = {
    ".txt": _LINES,
    ".txt.gz": _LINES,
    ".csv": _COMMAS,
    ".csv.gz": _COMMAS,
    ".tsv": _TABS,
    ".tsv.gz": _TABS,
    ".npy": _Format(lambda path, _: arrayfiles.read_npy(path)),
    ".npz": _Format(arrayfiles.read_npz, "dataset"),
    ".h5": _HDF5,
    ".hdf5": _HDF5,
    ".parquet": _Format(arrayfiles.read_parquet, "column"),
}
"""The formats that can be read."""
