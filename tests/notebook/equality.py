"""What it means that a value came back equal."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd


def same(given: Any, found: Any) -> bool:
    """Test whether what was found is what was given: as strict as each type can be."""
    if isinstance(given, np.ndarray):
        return same_array(given, found)
    if isinstance(given, pd.DataFrame):
        pd.testing.assert_frame_equal(found, given, check_exact=True, check_freq=False)
        return True
    if isinstance(given, pd.Series):
        pd.testing.assert_series_equal(found, given, check_exact=True, check_freq=False)
        return True
    if isinstance(given, np.generic):
        return same_scalar(given, found)
    if given is None or given is pd.NaT or given is pd.NA:
        return found is given
    if isinstance(given, list | tuple):
        return (
            isinstance(found, type(given) if type(given) in (list, tuple) else tuple | list)
            and len(given) == len(found)
            and all(map(same, given, found))
        )
    if isinstance(given, dict):
        # in the same order, too; keys may be NaN, which equals nothing
        return isinstance(found, dict) and same(list(given.items()), list(found.items()))
    if isinstance(given, set | frozenset):
        return type(given) is type(found) and sorted(map(repr, given)) == sorted(map(repr, found))
    if isinstance(given, Decimal):  # NaN equals nothing, and -0 equals 0
        return isinstance(found, Decimal) and given.as_tuple() == found.as_tuple()
    if isinstance(given, float | complex):
        return same_number(given, found)
    if isinstance(given, bool) or isinstance(found, bool | np.bool_):
        return type(given) is type(found) and given == found
    return given == found and found == given


def same_number(given: complex, found: Any) -> bool:
    """Test whether a number came back: NaN as NaN, zero with its sign."""
    if isinstance(given, complex):
        return isinstance(found, complex) and all(
            same_number(g, f) for g, f in ((given.real, found.real), (given.imag, found.imag))
        )
    if math.isnan(given):
        return isinstance(found, float) and math.isnan(found)
    return bool(given == found) and math.copysign(1, given) == math.copysign(1, found)


def same_scalar(given: np.generic, found: Any) -> bool:
    """Test whether a NumPy scalar, or the Python value that equals it, was found."""
    if isinstance(found, np.generic):
        return given.dtype == found.dtype and same_array(np.asarray(given), np.asarray(found))
    plain = {str: str.__str__, bytes: bytes}.get(type(found), type(given).item)
    return same(plain(given), found)


def same_array(given: np.ndarray[Any, Any], found: Any) -> bool:
    """Test whether an array of the same dtype, shape and elements was found."""
    if type(found) is not np.ndarray or given.dtype != found.dtype or given.shape != found.shape:
        return False
    if given.dtype.kind == "T":
        return all(map(same, given.flat, found.flat))
    if given.dtype.names is not None:
        return all(same_array(given[name], found[name]) for name in given.dtype.names)
    if given.dtype.char in "gG":  # their padding is noise
        return np.array_equal(given, found, equal_nan=True)
    return given.tobytes() == found.tobytes()


def same_in_table(given: Any, found: Any) -> bool:
    """Test whether a cell of a table holds a value, in the type that pandas has for it."""
    if given is None:
        return found is None or (np.isscalar(found) and pd.isna(found)) or found is pd.NaT
    if isinstance(found, pd.Timestamp) and not isinstance(given, pd.Timestamp):
        found = found.to_pydatetime()
    if isinstance(found, np.generic) and found.dtype.kind in "biuf" and found.dtype.char != "g":
        found = found.item()
    return same(given, found)
