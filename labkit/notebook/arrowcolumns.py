"""Columns of a result set as Arrow has them, for parquet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from labkit.notebook.readable import plain_text, text

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import pyarrow as pa

    Array = np.ndarray[Any, Any]

__all__ = ["column"]


def column(series: pd.Series[Any]) -> pa.Array:
    """Return a column of the simplest type that holds all its values.

    Numbers, booleans, text, bytes and dates have types of their own; arrays and lists of
    them are lists, nested ones where they have several dimensions; of anything else,
    complex numbers too, it is the JSON text. A missing value is null; a NaN is a NaN.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> column(pd.Series([np.zeros((1, 2)), None])).to_pylist()
    [[[0.0, 0.0]], None]
    """
    import numpy as np
    import pandas as pd
    import pyarrow as pa

    if isinstance(series.dtype, pd.CategoricalDtype | pd.StringDtype):
        # what is missing is a NaN there
        there = series.notna()
        return _of_objects([_plain(v) if t else None for v, t in zip(series, there, strict=True)])
    if isinstance(series.dtype, pd.DatetimeTZDtype):
        # Arrow knows no zones that are some seconds aside
        series = series.dt.tz_convert("UTC")
    if series.dtype.kind in "biumM":
        return pa.Array.from_pandas(series)
    if series.dtype.kind == "f":
        numbers = series.to_numpy()
        wide = numbers.astype(np.float64) if numbers.dtype.char in "eg" else numbers
        return pa.array(wide, from_pandas=False)
    return _of_objects([_plain(value) for value in series])


def _plain(value: Any) -> Any:
    """Return the Python value of a scalar, and None for what is missing."""
    import numpy as np
    import pandas as pd

    if value is pd.NA or value is pd.NaT:
        return None
    if isinstance(value, BaseException):
        return str(value) or repr(value)
    if isinstance(value, np.generic) or (type(value) is np.ndarray and value.ndim == 0):
        if value.dtype.kind in "mM":
            scalar = np.asarray(value)[()]
            return None if np.isnat(scalar) else scalar
        plain = value.item()
        return value if hasattr(plain, "dtype") else plain
    if isinstance(value, str):
        return plain_text(value)
    if isinstance(value, complex) and value.imag == 0 and value.real != value.real:
        # what pandas makes of None in a column of complex numbers
        return None
    return value


def _of_objects(values: Sequence[Any]) -> pa.Array:
    import numpy as np
    import pyarrow as pa

    types = {type(value) for value in values if value is not None}
    if not types:
        return pa.nulls(len(values), pa.string())
    try:
        for wanted, make in _SIMPLE.items():
            if types <= wanted:
                return make(values)
        if types in ({np.datetime64}, {np.timedelta64}):
            return _times(values)
        if types == {datetime}:
            return _moments(values)
        if types <= {np.ndarray, list}:
            return _lists([None if v is None else _array(v) for v in values])
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError, ValueError, TypeError):
        pass
    return _json(values)


def _json(values: Sequence[Any]) -> pa.Array:
    import pyarrow as pa

    found = [None if value is None else text(value) for value in values]
    return pa.array(found, pa.string())


def _simple(name: str) -> Callable[[Sequence[Any]], Any]:
    def make(values: Sequence[Any]) -> pa.Array:
        import pyarrow as pa

        return pa.array(values, getattr(pa, name)(), from_pandas=False)

    return make


_SIMPLE: dict[frozenset[type], Callable[[Sequence[Any]], Any]] = {
    frozenset({bool}): _simple("bool_"),
    frozenset({int}): _simple("int64"),
    frozenset({int, float}): _simple("float64"),
    frozenset({str}): _simple("string"),
    frozenset({bytes}): _simple("binary"),
}


def _times(values: Sequence[Any]) -> pa.Array:
    """Return NumPy's times or durations, in a unit that Arrow has."""
    import numpy as np
    import pyarrow as pa

    there = np.array([value for value in values if value is not None])
    unit, count = np.datetime_data(there.dtype)
    is_fine = count == 1 and unit in ("s", "ms", "us", "ns", "D")
    times = there if is_fine else there.astype(f"{there.dtype.kind}8[s]")
    found = iter(pa.array(times).to_pylist() if unit == "D" else pa.array(times))
    return pa.array([None if value is None else next(found) for value in values])


def _moments(values: Sequence[datetime | None]) -> pa.Array:
    import pyarrow as pa

    zones = {value.utcoffset() for value in values if value is not None}
    if len(zones) > 1:
        raise ValueError("times of several zones")
    return pa.array(values, pa.timestamp("us", "UTC" if zones != {None} else None))


def _array(value: Any) -> Array:
    """Return an array of a type that Arrow has; ValueError for other lists and arrays."""
    import numpy as np

    if isinstance(value, list) and value:
        kinds = {type(v) for v in value}
        if not kinds <= {int, float} and len(kinds) > 1:
            raise ValueError("a list of several types")
    array = np.asarray(value)
    if array.ndim == 0 or array.dtype.kind not in "biufUM" or array.dtype.char == "g":
        raise ValueError("an array of a type that Arrow has not")
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _lists(arrays: Sequence[Array | None]) -> pa.Array:
    """Return arrays of the same number of dimensions as lists, without a Python object each."""
    import numpy as np

    there = [array for array in arrays if array is not None]
    if len({array.ndim for array in there}) != 1:
        raise ValueError("arrays of different numbers of dimensions")
    dtype = np.result_type(*([array for array in there if array.size] or there))
    if dtype == np.float16:
        # few programs read it
        dtype = np.dtype(np.float32)
    return _nested(arrays, there[0].ndim, dtype)


def _nested(arrays: Sequence[Array | None], ndim: int, dtype: np.dtype[Any]) -> pa.Array:
    import numpy as np
    import pyarrow as pa

    there = [array for array in arrays if array is not None]
    lengths = [0 if array is None else len(array) for array in arrays]
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int64())
    if ndim > 1:
        inside = _nested([row for array in there for row in array], ndim - 1, dtype)
    else:
        inside = _flat(np.concatenate([np.empty(0, dtype), *there]).astype(dtype, copy=False))
    mask = pa.array([array is None for array in arrays], pa.bool_())
    return pa.LargeListArray.from_arrays(offsets, inside, mask=mask)


def _flat(values: Array) -> pa.Array:
    import pyarrow as pa

    if values.dtype.kind == "U":
        return pa.array([plain_text(word) for word in values.tolist()], pa.string())
    return pa.array(values)
