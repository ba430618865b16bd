"""What a picture of a result set shows: its columns, checked, and their statistics."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from labkit.errors import NotebookError, ParameterError, UnknownParameterError, suggestion
from labkit.experiment import Experiment
from labkit.notebook.labnotebook import LabNotebook
from labkit.notebook.resultset import ResultSet

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    Array = np.ndarray[Any, Any]

__all__ = ["Axis", "Selection", "Summary", "is_wide", "select", "summary"]

#: An axis is logarithmic when its values span more than this.
_WIDE_DECADES = 2.0
_TAIL = 0.05

#: From this many values on, an interval of their mean says more than their extremes.
_ENOUGH_FOR_INTERVAL = 5


_NAME, _VERSION = "labkit.experiment", "labkit.experiment_version"


@dataclass(frozen=True, slots=True)
class Axis:
    """One of the columns that are shown."""

    name: str
    """The parameter, result or metadata element."""
    label: str
    """What stands at the axis: name and unit."""
    kind: str
    """number, date or category."""
    doc: str = ""
    """What it means."""


@dataclass(frozen=True, slots=True)
class Selection:
    """The outcomes that a picture shows."""

    frame: pd.DataFrame
    """Columns x and y, and hue where there is one; a row an outcome."""
    x: Axis
    y: Axis
    hue: Axis | None
    varying: list[str] = field(default_factory=list)
    """Other parameters that have several values, and so stand behind repeated points."""
    failed: int = 0
    """Outcomes that are not shown, for they failed."""
    older: int = 0
    """Outcomes that are not shown, for the experiment has a newer version."""
    dropped: int = 0
    """Outcomes that are not shown, for a value is missing or infinite."""
    experiments: list[str] = field(default_factory=list)
    """The names of the classes that ran."""


def select(notebook: LabNotebook, x: str, y: str, hue: str | None, tag: str | None) -> Selection:
    """Return what is to be shown of a result set.

    Raises
    ------
    UnknownParameterError
        When the result set has no column of one of these names.
    ParameterError
        When a column holds what cannot be shown, such as arrays.
    NotebookError
        When there is no outcome to show.
    """
    rs = notebook._chosen(tag)
    tag = notebook.resultSetTag(rs)
    names = [name for name in (x, y, hue) if name is not None]
    _assert_known(rs, tag, names)
    frame = rs.dataframe(only_successful=True)
    if frame.empty:
        raise NotebookError(f"result set {tag} has no successful outcome to show")
    successes = len(frame)
    frame = _newest(frame)
    shown = {"x": x, "y": y} | ({} if hue is None else {"hue": hue})
    frame[y] = _numbers_of_booleans(frame[y])
    axes = {role: _axis(rs, frame[name], name) for role, name in shown.items()}
    if axes["y"].kind != "number":
        raise ParameterError(f"{y} holds no numbers: the vertical axis needs a number an outcome")
    columns = {role: _values(frame[name], axes[role].kind) for role, name in shown.items()}
    values = _frame(columns)
    there = values[_is_shown(values, axes)]
    if there.empty:
        raise NotebookError(f"no outcome in result set {tag} has both {x} and {y}")
    others = [n for n in rs.parameterNames() if n not in names and _varies(frame[n])]
    return Selection(
        there.reset_index(drop=True),
        axes["x"],
        axes["y"],
        axes.get("hue"),
        others,
        failed=rs.numberOfResults() - successes,
        older=successes - len(frame),
        dropped=len(values) - len(there),
        experiments=_experiments(frame),
    )


def _newest(frame: pd.DataFrame) -> pd.DataFrame:
    """Leave out what an experiment gave before its newest version: the same points mean others."""
    if _VERSION not in frame or _NAME not in frame:
        return frame
    versions = frame[_VERSION].astype(object)
    newest = versions.groupby(frame[_NAME].astype(object), dropna=False).transform("last")
    return frame[(versions == newest) | versions.isna()]


def _experiments(frame: pd.DataFrame) -> list[str]:
    names = frame[Experiment.EXPERIMENT].dropna().unique()
    return sorted({str(name).rpartition(".")[2] for name in names})


def _numbers_of_booleans(column: pd.Series[Any]) -> pd.Series[Any]:
    """Return 1 and 0 for what is true or not: their mean is a fraction."""
    there = column.dropna()
    is_boolean = len(there) > 0 and all(isinstance(value, bool) for value in there.tolist())
    return column.astype(object).map(float, na_action="ignore") if is_boolean else column


def _assert_known(rs: ResultSet, tag: str, names: Iterable[str]) -> None:
    known = {*rs.parameterNames(), *rs.resultNames(), *rs.metadataNames()}
    for name in names:
        if name not in known:
            raise UnknownParameterError(
                f"result set {tag} has no parameter, result or metadata {name}"
                f"{suggestion(name, known)}"
            )


def _axis(rs: ResultSet, column: pd.Series[Any], name: str) -> Axis:
    units, docs = _noted(rs, "labkit.units"), _noted(rs, "labkit.docs")
    unit = units.get(name) or _UNITS.get(name, "")
    plain = name.rpartition(".")[2].replace("_", " ") if name in rs.metadataNames() else name
    label = f"{plain} [{unit}]" if unit else plain
    return Axis(name, label, _kind(column, name), docs.get(name, ""))


def _noted(rs: ResultSet, attribute: str) -> dict[str, str]:
    noted = rs[attribute] if attribute in rs.keys() else None  # noqa: SIM118
    return noted if isinstance(noted, dict) else {}


_UNITS = dict.fromkeys(
    (name for name, kind in Experiment.StandardMetadataTypes.items() if kind is float), "s"
) | {"labkit.cpu_time": "s", "labkit.peak_memory": "bytes"}


def _kind(column: pd.Series[Any], name: str) -> str:
    import numpy as np
    import pandas as pd

    if isinstance(column.dtype, np.dtype):
        kind = column.dtype.kind
        if kind in "iuf":
            return "number"
        if kind == "M":
            return "date"
        if kind == "c":
            raise ParameterError(
                f"{name} holds complex numbers: return a real one, such as its size"
            )
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        return "date"
    there = [value for value in column if value is not None]
    return _kind_of_objects(there, name)


def _kind_of_objects(values: list[Any], name: str) -> str:
    import numpy as np

    for value in values:
        if isinstance(value, np.ndarray | list | tuple | dict | set):
            raise ParameterError(
                f"{name} holds a {type(value).__name__} at each point: return one number of it "
                "as a result of its own, such as its mean or maximum, and show that"
            )
        if isinstance(value, complex):
            raise ParameterError(
                f"{name} holds complex numbers: return a real one, such as its size"
            )
    are_numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
    return "number" if values and are_numbers else "category"


def _values(column: pd.Series[Any], kind: str) -> Any:
    import numpy as np
    import pandas as pd

    if kind == "number":
        return column.to_numpy(dtype=np.float64, na_value=np.nan)
    if kind == "date":
        return pd.to_datetime(column, utc=True).dt.tz_localize(None).to_numpy()
    missing = column.isna().to_numpy()
    return [None if gone else str(value) for value, gone in zip(column, missing, strict=True)]


def _frame(columns: dict[str, Any]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame({role: pd.Series(values) for role, values in columns.items()})


def _is_shown(values: pd.DataFrame, axes: dict[str, Axis]) -> pd.Series[bool]:
    import numpy as np

    shown = values.notna().all(axis=1)
    for role, axis in axes.items():
        if axis.kind == "number":
            shown &= np.isfinite(values[role])
    return shown


def _varies(column: pd.Series[Any]) -> bool:
    return len({repr(value) for value in column}) > 1


def is_wide(values: Any) -> bool:
    """Test whether numbers are positive and span more than two decades.

    The lowest and the highest twentieth do not count in full: some values that happen to
    be close to zero are no reason to stretch what is there.

    Examples
    --------
    >>> is_wide([1, 1000]), is_wide([1, 50]), is_wide([-1, 1000])
    (True, False, False)
    """
    import numpy as np

    numbers = np.asarray(values, dtype=np.float64)
    if numbers.min() <= 0:
        return False
    low, high = np.quantile(np.log10(numbers), [_TAIL, 1 - _TAIL])
    return bool(high - low > _WIDE_DECADES * (1 - 2 * _TAIL))


@dataclass(frozen=True, slots=True)
class Summary:
    """The middle and the spread of the outcomes at each x."""

    x: Array
    """The places, sorted."""
    middle: Array
    """The mean there."""
    low: Array
    """The lower end of the spread."""
    high: Array
    """Its upper end."""
    count: Array
    """How many outcomes there are."""


def summary(x: Any, y: Any, is_log: bool, has_interval: bool) -> Summary:
    """Return mean and spread of y at each x.

    Parameters
    ----------
    x, y : sequences
        The outcomes.
    is_log : bool
        Take the mean of the logarithms: the geometric mean.
    has_interval : bool
        The spread is the 95 % confidence interval of the mean, by Student's t; else it
        is from the smallest to the largest value.

    Examples
    --------
    >>> found = summary([1, 1, 2], [3.0, 5.0, 7.0], False, False)
    >>> found.middle.tolist(), found.low.tolist(), found.count.tolist()
    ([4.0, 7.0], [3.0, 7.0], [2, 1])
    """
    import numpy as np
    import pandas as pd

    values = np.log(y) if is_log else np.asarray(y, dtype=np.float64)
    groups = pd.Series(values).groupby(np.asarray(x))
    mean, count = groups.mean(), groups.count()
    if has_interval:
        half = _half_interval(groups.std().to_numpy(), count.to_numpy())
        ends = [mean - half, mean + half]
    else:
        ends = [groups.min(), groups.max()]
    back = np.exp if is_log else np.asarray
    middle, low, high = (back(part.to_numpy()) for part in (mean, *ends))
    return Summary(mean.index.to_numpy(), middle, low, high, count.to_numpy())


def _half_interval(deviation: Array, count: Array) -> Array:
    import numpy as np
    from scipy import stats

    several = count > 1
    freedom = np.where(several, count - 1, 1)
    half = stats.t.ppf(0.975, freedom) * deviation / np.sqrt(count)
    return np.where(several, half, 0.0)


def has_interval(counts: Iterable[int]) -> bool:
    """Test whether there are enough outcomes wherever there are several, for an interval."""
    several = [n for n in counts if n > 1]
    return bool(several) and min(several) >= _ENOUGH_FOR_INTERVAL
