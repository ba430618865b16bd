"""What epyc's file formats cannot hold, kept beside it in the same file.

epyc's formats know numbers, text and flat lists. Every value is written in the nearest
form of these, which epyc reads; then the file is read as epyc would, and what did not
come back equal is written once more, exactly. An array whose form only lost its dtype
and shape gets these back, and is not written twice. epyc overlooks this part of a file,
and drops it or leaves its name out when it writes the file itself: then the nearest
forms are what there is.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from labkit.experiment import Experiment
from labkit.notebook import values
from labkit.notebook.content import ResultSetContent
from labkit.outcome import PARTS, Outcome

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

__all__ = ["InlineArrays", "difference", "restore", "same", "tagged", "untagged"]


class InlineArrays:
    """Takes arrays out of rows as text in NumPy's own file format, and gives them back.

    Examples
    --------
    >>> import numpy as np
    >>> inline = InlineArrays()
    >>> inline.get(inline.put("x", np.array(["a", "bc"])))
    array(['a', 'bc'], dtype='<U2')
    """

    def put(self, name: str, array: Array) -> str:
        """Return the text of an array."""
        import numpy as np

        buffer = io.BytesIO()
        # of a version that has any field name; NumPy would warn where it takes it itself
        np.lib.format.write_array(buffer, array, version=(3, 0), allow_pickle=False)
        return base64.b64encode(buffer.getvalue()).decode()

    def get(self, reference: str) -> Array:
        """Return the array of a text."""
        import numpy as np

        found: Array = np.load(io.BytesIO(base64.b64decode(reference)), allow_pickle=False)
        return found


def same(value: Any, plain: Any) -> bool:
    """Test whether a value came back: of the same type, and equal; NaN equals NaN.

    A NumPy scalar comes back as the Python value that it equals.

    Examples
    --------
    >>> same(1, 1.0), same([1, float("nan")], [1, float("nan")])
    (False, True)
    """
    if hasattr(value, "dtype"):
        value = _python_value(value)
    if type(value) is not type(plain):
        return False
    if isinstance(value, list):
        return len(value) == len(plain) and all(map(same, value, plain))
    if isinstance(value, dict):
        return same(list(value), list(plain)) and same([*value.values()], [*plain.values()])
    if hasattr(value, "tobytes"):
        return _is_same_array(value, plain)
    if isinstance(value, complex):
        return same(value.real, plain.real) and same(value.imag, plain.imag)
    if isinstance(value, float):
        # zero has a sign, and NaN equals nothing
        return repr(value) == repr(plain)
    if isinstance(value, datetime):
        return (value, value.tzinfo, value.fold) == (plain, plain.tzinfo, plain.fold)
    return bool(value == plain)


def _python_value(value: Any) -> Any:
    import numpy as np

    if isinstance(value, str):
        # item() would drop a NUL at the end
        return str.__str__(value)
    if isinstance(value, bytes):
        return bytes(value)
    return value.item() if isinstance(value, np.generic) and value.dtype.kind in "biufc" else value


def _is_same_array(value: Array, plain: Array) -> bool:
    return (
        value.dtype == plain.dtype
        and value.shape == plain.shape
        and value.tobytes() == plain.tobytes()
    )


def _all_same(given: Sequence[Any], plain: Sequence[Any]) -> bool:
    """Compare columns of one simple type at once."""
    types = set(map(type, given)) | set(map(type, plain))
    return len(types) == 1 and types <= {bool, int, str} and given == plain


def difference(page: ResultSetContent, plain: ResultSetContent) -> dict[str, Any]:
    """Return what of a result set its plain form does not give back, as JSON.

    Parameters
    ----------
    page : ResultSetContent
        The result set.
    plain : ResultSetContent
        What one reads of its plain form: the same outcomes in the same order.

    Returns
    -------
    dict
        Empty when nothing is lost.
    """
    columns = [_lost(page, plain, part, name) for part, name in _names(page, plain)]
    attributes = [
        [tagged("", k), tagged(k, v)]
        for k, v in page.attributes.items()
        if k not in plain.attributes or not same(v, plain.attributes[k])
    ]
    pending = [
        [tagged("", job), tagged("parameters", point)]
        for job, point in page.pending.items()
        if not same(point, plain.pending.get(job))
    ]
    # epyc's own metadata are in each result set anyway
    known = {p: {*plain.names.get(p, ()), *Experiment.StandardMetadata} for p in PARTS}
    names = {p: sorted({*page.names.get(p, ())} - known[p]) for p in PARTS}
    found: dict[str, Any] = {
        "columns": [column for column in columns if column],
        "attributes": attributes,
        "pending": pending,
        "keys": page.keys,
        "names": {part: tagged("", some) for part, some in names.items() if some},
        "description": tagged("", [page.description] * (page.description != plain.description)),
    }
    return {what: inside for what, inside in found.items() if inside}


def _names(*pages: ResultSetContent) -> list[tuple[str, str]]:
    found: dict[tuple[str, str], None] = {}
    for page in pages:
        for outcome in page.outcomes:
            for part in PARTS:
                found.update(dict.fromkeys((part, name) for name in outcome[part]))
    return list(found)


def _lost(page: ResultSetContent, plain: ResultSetContent, part: str, name: str) -> list[Any]:
    """Return part, name, rows, their forms, other rows, and their values; empty for none."""
    given, read = _column(page.outcomes, part, name), _column(plain.outcomes, part, name)
    if _all_same(given, read):
        return []
    formed: list[int] = []
    forms: list[Any] = []
    exact: list[int] = []
    for row, (value, got) in enumerate(zip(given, read, strict=True)):
        if same(value, got):
            continue
        form = _form(value, got)
        if form is None:
            exact.append(row)
        else:
            formed.append(row)
            forms.append(form)
    if not formed and not exact:
        return []
    values_there = tagged(name, [given[row] for row in exact])
    return [part, tagged("", name), formed, forms, exact, values_there]


def _column(outcomes: Sequence[Outcome], part: str, name: str) -> list[Any]:
    return [outcome[part].get(name) for outcome in outcomes]


def restore(plain: ResultSetContent, lost: Mapping[str, Any]) -> None:
    """Put back what the plain form of a result set has lost.

    Parameters
    ----------
    plain : ResultSetContent
        What was read; it is changed.
    lost : mapping
        What :func:`difference` returned.
    """
    for part, shown, formed, forms, exact, kept in lost.get("columns", ()):
        name = untagged(shown)
        for row, form in zip(formed, forms, strict=True):
            of = plain.outcomes[row][part]
            of[name] = _formed(of[name], form)
        for row, value in zip(exact, untagged(kept), strict=True):
            plain.outcomes[row][part][name] = value
    plain.attributes |= {untagged(k): untagged(v) for k, v in lost.get("attributes", ())}
    plain.pending |= {untagged(job): untagged(point) for job, point in lost.get("pending", ())}
    plain.keys = lost.get("keys", {})
    for part, names in lost.get("names", {}).items():
        plain.names[part] = sorted({*plain.names.get(part, ()), *untagged(names)})
    for description in untagged(lost.get("description", [])):
        plain.description = description


def tagged(name: str, value: Any) -> Any:
    """Return JSON from which :func:`untagged` makes an equal value.

    Raises
    ------
    UnstorableValueError
        When there is none; it names ``name``.

    Examples
    --------
    >>> tagged("z", 1j), untagged(tagged("z", 1j))
    ({'!complex': ['0.0', '1.0']}, 1j)
    """
    return json.loads(values.dumps(name, value, InlineArrays()))


def untagged(value: Any) -> Any:
    """Return the value of which :func:`tagged` made this."""
    return value if type(value) is str else values.loads(json.dumps(value), InlineArrays())


# ---------- forms: how an array or a list is made of what epyc can hold ----------

#: What arrays of these kinds are made of when they are read from something else.
_CARRIERS = {"b": "u1", "m": "i8", "M": "i8", "c": "f"}


def _form(value: Any, plain: Any) -> Any:
    """Return how to make a value of its plain form; None when that would not be equal."""
    import numpy as np

    if not isinstance(plain, list | np.ndarray):
        return None
    if isinstance(value, list):
        form: Any = "list"
    elif type(value) is np.ndarray and value.dtype.kind in "biufcmM":
        form = [value.dtype.str, list(value.shape)]
    else:
        return None
    try:
        made = _formed(plain, form)
    except (TypeError, ValueError, OverflowError):
        return None
    return form if same(value, made) else None


def _formed(plain: Any, form: Any) -> Any:
    import numpy as np

    if form == "list":
        return plain.tolist() if isinstance(plain, np.ndarray) else plain
    dtype, shape = np.dtype(form[0]), tuple(form[1])
    if isinstance(plain, np.ndarray) and plain.dtype == dtype:
        return plain.reshape(shape)
    carrier = _CARRIERS.get(dtype.kind, "")
    if carrier == "f":
        carrier = f"{dtype.str[0]}f{dtype.itemsize // 2}"
    elif carrier == "i8":
        carrier = f"{dtype.str[0]}i8"
    made = np.array(plain, dtype=carrier or dtype)
    return np.ascontiguousarray(made).reshape(-1).view(dtype).reshape(shape)
