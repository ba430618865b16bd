"""What a program saw, as plain values by which two runs of it can be compared.

Outcomes carry what differs between any two runs (times, tracebacks' line numbers) and what
labkit adds (keys that begin with ``labkit.``) or deliberately stores differently (what is
missing). All that is masked here; everything else is compared, types included.
"""

import datetime
import pprint
import re
import traceback
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import epyc
import numpy
import pandas

PREFIX = "labkit."
NOTHING_RAISED = "nothing raised"
PHASE_TIMES = {
    epyc.Experiment.ELAPSED_TIME,
    epyc.Experiment.SETUP_TIME,
    epyc.Experiment.EXPERIMENT_TIME,
    epyc.Experiment.TEARDOWN_TIME,
}
DATES = {epyc.Experiment.START_TIME, epyc.Experiment.END_TIME}
FAILURE = {epyc.Experiment.EXCEPTION, epyc.Experiment.TRACEBACK}


@dataclass(frozen=True)
class Raised:
    """An exception by the names of its classes, labkit's own left out."""

    names: tuple[str, ...]
    is_labkits: bool = False

    def stands_for(self, expected: "Raised") -> bool:
        """Tell whether a program that catches `expected` would have caught this.

        Where epyc raises a bare ``Exception``, only a bare one or one of labkit's own will do:
        an ``AttributeError`` from somewhere inside is not an answer.
        """
        if expected.names[0] == "Exception":
            return self.is_labkits or self.names[0] == "Exception"
        return expected.names[0] in self.names


def raised(call: Callable[[], object]) -> Raised | str:
    """Call, and say what it raised."""
    try:
        call()
    except BaseException as error:
        classes = type(error).__mro__[:-1]
        own = [c for c in classes if c.__module__.partition(".")[0] == "labkit"]
        names = tuple(c.__name__ for c in classes if c not in own)
        return Raised(names[: -1 if len(names) > 1 else None], bool(own))
    return NOTHING_RAISED


def plain(value: Any) -> Any:
    """Turn a value into plain Python ones: numpy scalars, arrays, sets, frames."""
    if value is pandas.NA or value is pandas.NaT:
        return None
    match value:
        case None | bool() | int() | float() | complex() | str() | bytes() | Raised():
            return value.item() if isinstance(value, numpy.generic) else value
        case numpy.longdouble():
            return float(value)
        case numpy.generic():
            return plain(value.item())
        case numpy.ndarray():
            return plain(value.tolist())
        case numpy.dtype():
            return _plain_dtype(value)
        case datetime.datetime():
            return "<datetime>"
        case BaseException():
            return str(value)
        case type():
            return value.__name__
        case pandas.DataFrame():
            return frame(value)
        case pandas.Series():
            return plain(value.tolist())
        case Mapping():
            return {plain(k): plain(v) for k, v in value.items() if not _is_labkits(k)}
        case Set():
            return sorted((plain(v) for v in value if not _is_labkits(v)), key=repr)
        case list() | tuple() | range():
            return [plain(v) for v in value if not _is_labkits(v)]
    raise TypeError(f"a program may not observe {value!r} of type {type(value).__name__}")


def _plain_dtype(dtype: numpy.dtype) -> Any:
    if dtype.names is None:
        return str(dtype)
    return {k: str(dtype[k]) for k in dtype.names if not _is_labkits(k)}


def _is_labkits(key: object) -> bool:
    return isinstance(key, str) and key.startswith(PREFIX)


def is_missing(value: Any) -> bool:
    """Tell whether a value stands for nothing: epyc's zeros, labkit's NULLs."""
    if value is None or value is pandas.NA or value is pandas.NaT:
        return True
    if isinstance(value, float | complex) and value != value:
        return True
    return isinstance(value, str | int | float | complex) and not value


def fields(flat: Mapping[str, Any], succeeded: bool) -> dict[str, Any]:
    """Mask what differs between two runs in the fields of one outcome."""
    seen = {}
    for key, value in plain(flat).items():
        if key in PHASE_TIMES:
            if succeeded:
                seen[key] = "<seconds>" if isinstance(value, int | float) else value
        elif key in FAILURE:
            if not succeeded:
                seen[key] = _last_line(value)
            elif not is_missing(value):
                seen[key] = value
        elif succeeded or not is_missing(value):
            seen[key] = value
    if epyc.Experiment.EXPERIMENT in seen:
        name = seen[epyc.Experiment.EXPERIMENT]
        seen[epyc.Experiment.EXPERIMENT] = re.sub(r"^(epyc|labkit)\..*\.", "", str(name))
    return seen


def _last_line(text: Any) -> Any:
    if not isinstance(text, str):
        return text
    last = (text.rstrip().splitlines() or [""])[-1]
    return re.sub(r"^(\w+\.)+(?=\w+:)", "", last)


def outcome(rc: Mapping[str, Any]) -> dict[str, Any]:
    """Observe a results dict, with those nested in it."""
    metadata, results = rc[epyc.Experiment.METADATA], rc[epyc.Experiment.RESULTS]
    succeeded = bool(metadata.get(epyc.Experiment.STATUS))
    if isinstance(results, list):
        results = [outcome(nested) for nested in results]
    return {
        epyc.Experiment.PARAMETERS: plain(rc[epyc.Experiment.PARAMETERS]),
        epyc.Experiment.METADATA: fields(metadata, succeeded),
        epyc.Experiment.RESULTS: plain(results),
    }


def outcomes(rcs: list[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Observe results dicts whose order means nothing."""
    return in_any_order([outcome(rc) for rc in rcs])


def frame(df: pandas.DataFrame) -> dict[str, Any]:
    """Observe a dataframe: its columns, its index and its rows in their order.

    Integers in a column where some are missing are floats beside NaN: those count as integers.
    """
    columns = {c: _integers_again(df[c].tolist()) for c in df.columns}
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return {
        "columns": sorted(c for c in df.columns if not _is_labkits(c)),
        "index": plain(list(df.index)),
        "rows": [fields(row, bool(row.get(epyc.Experiment.STATUS, True))) for row in rows],
    }


def _integers_again(values: list[Any]) -> list[Any]:
    some = [v for v in values if not (isinstance(v, float) and v != v)]
    if len(some) < len(values) and all(isinstance(v, float) and v.is_integer() for v in some):
        return [int(v) if v == v else None for v in values]
    return values


def frame_in_any_order(df: pandas.DataFrame) -> dict[str, Any]:
    """Observe a dataframe whose rows came in an order that means nothing."""
    seen = frame(df)
    return {"columns": seen["columns"], "rows": in_any_order(seen["rows"])}


def in_any_order(values: list[Any]) -> list[Any]:
    """Sort what has no order of its own."""
    return sorted(values, key=lambda value: pprint.pformat(value, sort_dicts=True))


def made(
    module: ModuleType,
    parameters: Mapping[str, Any],
    results: Mapping[str, Any] | None = None,
    failure: Exception | None = None,
    **metadata: Any,
) -> dict[str, Any]:
    """Make a results dict by hand, as an experiment would have returned it."""
    experiment = module.Experiment
    start = datetime.datetime(2026, 11, 20, 8, 30, 0, 250_000)
    rc = experiment.resultsdict()
    rc[experiment.PARAMETERS].update(parameters)
    rc[experiment.METADATA].update(
        {
            experiment.EXPERIMENT: "a.module.Made",
            experiment.START_TIME: start,
            experiment.END_TIME: start + datetime.timedelta(seconds=4),
            experiment.SETUP_TIME: 1.0,
            experiment.EXPERIMENT_TIME: 2.0,
            experiment.TEARDOWN_TIME: 1.0,
            experiment.ELAPSED_TIME: 4.0,
            experiment.STATUS: failure is None,
            **metadata,
        }
    )
    if failure is None:
        rc[experiment.RESULTS].update(results or {})
    else:
        rc[experiment.METADATA][experiment.EXCEPTION] = failure
        rc[experiment.METADATA][experiment.TRACEBACK] = "".join(
            traceback.format_exception_only(failure)
        )
    return rc
