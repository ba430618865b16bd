"""Cells of a column, a block at a time, in little memory.

Python keeps an object for each cell, of 24 bytes for a number and 81 for a key. Packed,
these are 8 and 33. What is packed comes back as it was: nothing is known here of what
cells mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    #: An array, texts one after another, or the cells themselves.
    Packed = np.ndarray[Any, Any] | str | Sequence[Any]

__all__ = ["BETWEEN_TEXTS", "pack", "packed_type", "unpack"]

#: Where texts are packed, this is between them.
BETWEEN_TEXTS = "\0"

#: Texts of so many characters would gain nothing, and there they would be twice for a while.
_LONG = 500


def pack(cells: Sequence[Any]) -> Packed:
    r"""Pack numbers, doubles of which some are missing, and short texts; leave others as they are.

    Examples
    --------
    >>> pack((1.5, None)), pack(("walk", "walks")), pack((1, None))
    (array([1.5, nan]), 'walk\x00walks', (1, None))
    """
    import numpy as np

    types = set(map(type, cells))
    if types == {str} and sum(map(len, cells)) < _LONG * len(cells):
        joined = BETWEEN_TEXTS.join(cells)
        return joined if joined.count(BETWEEN_TEXTS) == len(cells) - 1 else cells
    # from an iterator twice as fast as from cells among which a shape is looked for
    if types in ({int}, {bool}):
        return np.fromiter(cells, np.int64 if types == {int} else np.bool_, len(cells))
    if types and types <= {float, type(None)}:
        is_whole = types == {float}
        numbers = np.fromiter(cells, float, len(cells)) if is_whole else np.array(cells, float)
        gone = int(np.isnan(numbers).sum())
        return numbers if not gone or gone == cells.count(None) else cells
    return cells


def packed_type(pieces: Sequence[Packed]) -> type | None:
    """Return bool, int or float, if that is what all cells are; floats may be missing."""
    types = {getattr(piece, "dtype", None) for piece in pieces}
    return _TYPES.get(str(types.pop())) if len(types) == 1 else None


_TYPES = {"bool": bool, "int64": int, "float64": float}


def unpack(packed: Packed) -> Sequence[Any]:
    """Return the cells.

    Examples
    --------
    >>> list(unpack(pack(cells := (1.5, None)))) == list(cells)
    True
    """
    import numpy as np

    if isinstance(packed, str):
        return packed.split(BETWEEN_TEXTS)
    if not isinstance(packed, np.ndarray):
        return packed
    cells: list[Any] = packed.tolist()
    if packed.dtype == np.float64:
        for i in np.flatnonzero(np.isnan(packed)).tolist():
            cells[i] = None
    return cells
