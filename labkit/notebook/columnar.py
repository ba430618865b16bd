"""Columns of cells as pandas series, without a Python object a value where that can be had."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from labkit.experiment import Experiment
from labkit.outcome import METADATA, PARAMETERS, PARTS, RESULTS

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["frame", "missing", "numbers", "objects", "series", "shared"]

#: Beyond this a double does not hold each integer.
_EXACT_IN_FLOAT = 2**53


def series(
    kind: str, cells: Sequence[Any], decode: Callable[[Any], Any], exact: Mapping[int, Any] | None
) -> pd.Series[Any]:
    """Return the values of a column.

    Parameters
    ----------
    kind : str
        The column's kind.
    cells : sequence
        What SQL gives; None where a value is missing.
    decode : callable
        Turns a cell of this kind into its value.
    exact : mapping of int to Any, optional
        The values that no cell could hold, by row.
    """
    import numpy as np
    import pandas as pd

    if kind == "float" and not _are_floats(exact or {}, cells):
        kind = "number"
    if kind not in _TYPED or (exact and kind != "float"):
        exact = exact or {}
        return objects([exact[i] if i in exact else decode(cell) for i, cell in enumerate(cells)])
    if kind == "float":
        numbers = np.array(cells, dtype=np.float64)
        for i, value in (exact or {}).items():
            numbers[i] = value
        return pd.Series(numbers)
    column: pd.Series[Any] = _TYPED[kind](cells)
    return column


def _are_floats(exact: Mapping[int, Any], cells: Sequence[Any]) -> bool:
    """Test whether a column of doubles holds them all: whole numbers may be among the cells."""
    if any(type(value) is not float for value in exact.values()):
        return False
    return int not in set(map(type, cells)) or all(
        abs(v) <= _EXACT_IN_FLOAT for v in cells if type(v) is int
    )


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


def _integers(cells: Sequence[int | None]) -> pd.Series[Any]:
    import numpy as np
    import pandas as pd

    if None in cells:
        return numbers(cells)
    return pd.Series(np.array(cells, dtype=np.int64))


def _booleans(cells: Sequence[Any]) -> pd.Series[Any]:
    import numpy as np
    import pandas as pd

    if None in cells:
        return objects([None if v is None else bool(v) for v in cells])
    return pd.Series(np.array(cells, dtype=bool))


def _text(cells: Sequence[str | None]) -> pd.Series[Any]:
    import pandas as pd

    return pd.Series(list(cells), dtype=object).infer_objects()


def _moments(cells: Sequence[str | None]) -> pd.Series[Any]:
    from datetime import datetime

    import pandas as pd

    try:
        texts: list[Any] = list(cells)
        return pd.Series(pd.to_datetime(texts, format="ISO8601"))
    except ValueError:  # mixed time zones
        return objects([None if v is None else datetime.fromisoformat(v) for v in cells])


_TYPED: dict[str, Callable[[Sequence[Any]], Any]] = {
    "int": _integers,
    "float": lambda cells: cells,
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
    return objects([None] * length)


def shared(numbers: Sequence[int | None], facts: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the metadata that many runs share, text as categories.

    Parameters
    ----------
    numbers : sequence of int
        For each row, which combination of facts is its own.
    facts : mapping
        The combinations.
    """
    import numpy as np
    import pandas as pd

    used = sorted({n for n in numbers if n is not None})
    position = {n: i for i, n in enumerate(used)}
    # the last value stands for a row without facts
    rows = np.array([len(used) if n is None else position[n] for n in numbers], dtype=np.intp)
    columns: dict[str, Any] = {}
    for name in sorted({name for n in used for name in facts[n]}):
        values = [*(facts[n].get(name) for n in used), None]
        if {type(v) for v in values} <= {str, type(None)}:
            categories = list(dict.fromkeys(v for v in values if v is not None))
            codes = np.array([-1 if v is None else categories.index(v) for v in values])
            column = pd.Categorical.from_codes(codes[rows], categories=pd.Index(categories))
            columns[name] = pd.Series(column)
        else:
            columns[name] = objects(objects(values).to_numpy()[rows]).infer_objects()
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
        found.setdefault((METADATA, name), missing(len(index)))
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
    table = pd.DataFrame({name: columns[name] for name in order}, index=pd.RangeIndex(len(index)))
    return table if isinstance(index, range) else table.set_axis(list(index))
