"""Columns of cells as pandas series, without a Python object a value where that can be had."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from labkit.experiment import Experiment
from labkit.notebook.packing import BETWEEN_TEXTS, packed_type, unpack
from labkit.outcome import METADATA, PARAMETERS, PARTS, RESULTS

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from labkit.notebook.packing import Packed

__all__ = ["frame", "missing", "numbers", "objects", "series", "shared"]

#: Beyond this a double does not hold each integer.
_EXACT_IN_FLOAT = 2**53

#: Stands for rows without facts.
_NO_FACTS = -1


def series(
    kind: str,
    pieces: Sequence[Packed],
    decode: Callable[[Sequence[Any]], Iterable[Any]],
    exact: Mapping[int, Any],
) -> pd.Series[Any]:
    """Return the values of a column.

    Parameters
    ----------
    kind : str
        The column's kind.
    pieces : sequence
        What SQL gives, packed; None where a value is missing.
    decode : callable
        Turns cells of this kind into their values.
    exact : mapping of int to Any
        The values that no cell could hold, by row.
    """
    typed = _typed(kind, pieces, exact)
    if typed is not None:
        return typed
    return objects(exact.get(i, value) for i, value in enumerate(decode(_cells(pieces))))


def _typed(kind: str, pieces: Sequence[Packed], exact: Mapping[int, Any]) -> pd.Series[Any] | None:
    """Return a column of the dtype that its kind has, if that holds all values."""
    import pandas as pd

    if kind != "float":
        column: pd.Series[Any] | None
        column = None if exact or kind not in _TYPED else _TYPED[kind](pieces)
        return column
    numbers = _doubles(pieces)
    if numbers is None or any(type(value) is not float for value in exact.values()):
        return None
    numbers[list(exact)] = list(exact.values())
    return pd.Series(numbers)


def _cells(pieces: Sequence[Packed]) -> list[Any]:
    return list(itertools.chain.from_iterable(map(unpack, pieces)))


def _joined(pieces: Sequence[Any]) -> NDArray[Any]:
    import numpy as np

    return np.concatenate(pieces)


def _doubles(pieces: Sequence[Packed]) -> NDArray[np.float64] | None:
    """Return a column of doubles, if they hold all cells: whole numbers may be among these."""
    import numpy as np

    if packed_type(pieces) is float:
        return _joined(pieces)
    cells = _cells(pieces)
    if any(type(v) is int and abs(v) > _EXACT_IN_FLOAT for v in cells):
        return None
    return np.array(cells, dtype=np.float64)


def numbers(values: Sequence[int | float | None]) -> pd.Series[Any]:
    """Return whole numbers and others, as they are: where no dtype has them all, as objects."""
    import numpy as np
    import pandas as pd

    whole = [v for v in values if type(v) is int]
    if len(whole) == len(values) and all(-(2**63) <= v < 2**63 for v in whole):
        return pd.Series(np.array(whole, dtype=np.int64))
    if any(abs(v) > _EXACT_IN_FLOAT for v in whole):
        return objects(values)
    return pd.Series(np.array(values, dtype=np.float64))


def _integers(pieces: Sequence[Packed]) -> pd.Series[Any]:
    import pandas as pd

    return pd.Series(_joined(pieces)) if packed_type(pieces) is int else numbers(_cells(pieces))


def _booleans(pieces: Sequence[Packed]) -> pd.Series[Any]:
    import pandas as pd

    if packed_type(pieces) in (bool, int):
        return pd.Series(_joined(pieces).astype(bool))
    values = [None if v is None else bool(v) for v in _cells(pieces)]
    return objects(values) if None in values else pd.Series(values, dtype=bool)


def _text(pieces: Sequence[Packed]) -> pd.Series[Any]:
    import pandas as pd

    # it depends on pandas' version, and to infer it takes longer than the rest
    dtype = pd.Series([""], dtype=object).infer_objects().dtype
    texts = _arrow_texts(pieces)
    if texts is not None:
        return _of_dtype(texts, dtype)
    cells = _cells(pieces)
    if set(map(type, cells)) - {type(None)} != {str}:
        return pd.Series(cells, dtype=object).infer_objects()
    return pd.Series(cells, dtype=dtype)


def _arrow_texts(pieces: Sequence[Packed]) -> Any:
    """Return texts as Arrow's, without an object of Python's each; None if not all are packed."""
    if not pieces or set(map(type, pieces)) != {str}:
        return None
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        packed = pa.array(pieces, pa.large_string())
    except ValueError:  # half a surrogate pair
        return None
    return pc.list_flatten(pc.split_pattern(packed, BETWEEN_TEXTS))


def _of_dtype(values: Any, dtype: Any) -> pd.Series[Any]:
    """Return Arrow's values as a series of its own, which can be written."""
    column: pd.Series[Any] = values.to_pandas()
    return column.copy() if column.dtype == dtype else column.astype(dtype)


def _moments(pieces: Sequence[Packed]) -> pd.Series[Any]:
    from datetime import datetime

    import pandas as pd

    quick = _arrow_texts(pieces)
    if quick is not None:
        # its unit depends on pandas' version
        dtype = pd.to_datetime(["2000-01-01"], format="ISO8601").dtype
        with contextlib.suppress(ValueError):  # with time zones, say
            return _of_dtype(quick.cast("timestamp[us]"), dtype)
    texts = _cells(pieces)
    try:
        return pd.Series(pd.to_datetime(texts, format="ISO8601"))
    except ValueError:  # mixed time zones
        return objects([None if v is None else datetime.fromisoformat(v) for v in texts])


_TYPED: dict[str, Callable[[Sequence[Packed]], Any]] = {
    "int": _integers,
    "bool": _booleans,
    "str": _text,
    "datetime": _moments,
}


def objects(values: Iterable[Any]) -> pd.Series[Any]:
    """Return a series of Python objects, arrays among them left whole."""
    import numpy as np
    import pandas as pd

    listed = list(values)
    column = np.empty(len(listed), dtype=object)
    for i, value in enumerate(listed):
        column[i] = value
    return pd.Series(column, dtype=object)


def missing(length: int) -> pd.Series[Any]:
    """Return a column of which no value is known."""
    import numpy as np
    import pandas as pd

    return pd.Series(np.full(length, None), dtype=object)


def shared(pieces: Sequence[Packed], facts: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the metadata that many runs share, text as categories.

    Parameters
    ----------
    pieces : sequence
        For each row, which combination of facts is its own, packed.
    facts : mapping
        The combinations.
    """
    import numpy as np
    import pandas as pd

    is_whole = packed_type(pieces) is int
    numbers = (
        _joined(pieces) if is_whole else [_NO_FACTS if n is None else n for n in _cells(pieces)]
    )
    used, rows = np.unique(np.asarray(numbers, dtype=np.int64), return_inverse=True)
    found = [{} if n == _NO_FACTS else facts[n] for n in used.tolist()]
    columns: dict[str, Any] = {}
    for name in sorted({name for these in found for name in these}):
        values = [these.get(name) for these in found]
        if {type(v) for v in values} <= {str, type(None)}:
            categories = list(dict.fromkeys(v for v in values if v is not None))
            codes = np.array([-1 if v is None else categories.index(v) for v in values])
            column = pd.Categorical.from_codes(codes[rows], categories=pd.Index(categories))
            columns[name] = pd.Series(column)
        else:
            columns[name] = pd.Series(objects(values).infer_objects().array.take(rows))
    return columns


def _filled(column: pd.Series[Any], other: pd.Series[Any]) -> pd.Series[Any]:
    """Return a column with the values of another one where its own are missing."""
    gone = column.isna()
    if not gone.any():
        return column
    pairs = zip(column, other, gone, strict=True)
    return objects([b if is_gone else a for a, b, is_gone in pairs]).infer_objects()


def frame(found: Mapping[tuple[str, str], Any], index: Sequence[int]) -> pd.DataFrame:
    """Return the table of these rows: parameters, results, metadata, each part by name.

    Where a parameter and a result share a name, the column holds the result, and the
    parameter where there is no result.
    """
    import pandas as pd

    found = dict(found)
    for name in Experiment.StandardMetadata:
        if (METADATA, name) not in found:
            found[METADATA, name] = missing(len(index))
    columns: dict[str, Any] = {}
    for part in (PARAMETERS, METADATA, RESULTS):
        for name in [n for p, n in found if p == part]:
            column = found[part, name]
            if part == RESULTS and (PARAMETERS, name) in found:
                column = _filled(column, found[PARAMETERS, name])
            columns[name] = column
    order = dict.fromkeys(
        name for part in PARTS for p, name in sorted(found, key=lambda k: k[1]) if p == part
    )
    # nobody else has these columns
    table = pd.DataFrame(
        {name: columns[name] for name in order}, index=pd.RangeIndex(len(index)), copy=False
    )
    return table if isinstance(index, range) else table.set_axis(list(index))
