"""One of several columns or datasets: by name, by number, or because there is no other."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from labkit.errors import SeriesError, suggestion

__all__ = ["Part", "choose", "known"]

Part = str | int | None
"""A column or dataset as it is asked for."""

LISTED = 20
"""So many names are told."""


def choose(path: Path, what: str, wanted: Part, names: Sequence[str]) -> int:
    """Return the position of the column or dataset that is wanted.

    Parameters
    ----------
    path : Path
        The file, for the error message.
    what : {"column", "dataset"}
        What the file has; only columns have numbers.
    wanted : str, int or None
        A name, or a number counted from 0. None for the only one.
    names : sequence of str
        Those that there are; empty for a column without name.

    Raises
    ------
    SeriesError
        When there is no such thing, or it is not clear which; it says what there is.

    Examples
    --------
    >>> choose(Path("a.csv"), "column", "volt", ["second", "volt"])
    1
    """
    if wanted is None and len(names) == 1:
        return 0
    if wanted is None:
        raise SeriesError(_which(path, what, names))
    if isinstance(wanted, str) and names.count(wanted) == 1:
        return names.index(wanted)
    is_number = what == "column" and str(wanted).isdecimal()
    if isinstance(wanted, str) and wanted in names:
        raise SeriesError(f"{path} has several {what}s {wanted}; choose one by its number")
    if is_number and int(wanted) < len(names):
        return int(wanted)
    numbered = f", columns 0 to {len(names) - 1}" if what == "column" and names else ""
    raise SeriesError(
        f"{path} has no {what} {wanted}{numbered}{known(str(wanted), [n for n in names if n])}"
    )


def _which(path: Path, what: str, names: Sequence[str]) -> str:
    if not names:
        return f"{path} has no {what} that is a series of numbers"
    told = ", ".join(n or f"number {i}" for i, n in enumerate(names[:LISTED]))
    more = ", …" if len(names) > LISTED else ""
    last = names[-1] or len(names) - 1
    return (
        f"{path} has {len(names)} {what}s: {told}{more}. Choose one: {what}={last!r}, "
        f"or {path}:{last} on the command line"
    )


def known(name: str, names: Collection[str]) -> str:
    """Say which names there are, unless they are very many, and which was probably meant.

    Examples
    --------
    >>> known("puls", ["pulse", "time"])
    '; did you mean pulse? Known: pulse, time'
    >>> known("puls", ["pulse", *map(str, range(1000))])
    '; did you mean pulse?'
    """
    said = suggestion(name, names)
    if len(names) <= LISTED:
        return said
    return said.partition(" Known:")[0].removesuffix(".")
