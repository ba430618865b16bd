"""pandas values in a notebook: as Arrow, in the array store.

Arrow keeps dtypes, index, column names and missing values. What it would change
(a column of mixed objects, say) is refused: each value is read back and compared
before it is accepted.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from labkit.errors import UnstorableValueError
from labkit.notebook import tagging

if TYPE_CHECKING:
    import pandas as pd

    from labkit.notebook.tagging import Sink, Source

__all__ = ["tag", "untag"]

_SERIES_COLUMN = "0"


def tag(name: str, value: Any, sink: Sink) -> dict[str, Any]:
    """Turn a pandas value into tagged JSON.

    Raises
    ------
    UnstorableValueError
        When it would not come back equal.
    """
    import numpy as np
    import pandas as pd

    if value is pd.NaT or value is pd.NA:
        return {"!pandas": str(value)}
    if isinstance(value, pd.Timestamp | pd.Timedelta):
        return _tag_moment(name, value)
    if isinstance(value, pd.Series | pd.DataFrame):
        frame = value.to_frame(_SERIES_COLUMN) if isinstance(value, pd.Series) else value
        data = _to_arrow(name, type(value).__name__, frame)
        reference = sink.put(name, np.frombuffer(data, dtype=np.uint8))
        if isinstance(value, pd.Series):
            return {"!series": [reference, tagging.tag(name, value.name, sink)]}
        return {"!frame": reference}
    raise UnstorableValueError(name, f"pandas {type(value).__name__}")


def untag(kind: str, inside: Any, source: Source) -> Any:
    """Return the pandas value that :func:`tag` was given."""
    import pandas as pd

    if kind == "!pandas":
        return pd.NaT if inside == "NaT" else pd.NA
    if kind in ("!timestamp", "!pdtimedelta"):
        return _untag_moment(kind, inside)
    if kind == "!series":
        frame = _from_arrow(source.get(inside[0]).tobytes())
        return frame[_SERIES_COLUMN].rename(inside[1])
    if kind == "!frame":
        return _from_arrow(source.get(inside).tobytes())
    raise ValueError(f"unknown tag {kind}")


def _tag_moment(name: str, value: pd.Timestamp | pd.Timedelta) -> dict[str, Any]:
    import pandas as pd

    zone = getattr(value, "tz", None)
    kind = "!timestamp" if isinstance(value, pd.Timestamp) else "!pdtimedelta"
    inside = [int(value.asm8.view("i8")), value.unit, None if zone is None else str(zone)]
    try:
        if _untag_moment(kind, inside) == value:
            return {kind: inside}
    except (KeyError, ValueError):  # how pandas says that it does not know the zone
        pass
    raise UnstorableValueError(name, type(value).__name__, f"its time zone is {zone!r}")


def _untag_moment(kind: str, inside: Any) -> Any:
    import numpy as np
    import pandas as pd

    number, unit, zone = inside
    if kind == "!pdtimedelta":
        return pd.Timedelta(np.timedelta64(number, unit))
    moment = pd.Timestamp(np.datetime64(number, unit))
    return moment if zone is None else moment.tz_localize("UTC").tz_convert(zone)


def _to_arrow(name: str, what: str, frame: pd.DataFrame) -> bytes:
    import pandas as pd
    import pyarrow as pa

    try:
        with warnings.catch_warnings():
            # what Arrow warns of, the comparison finds
            warnings.simplefilter("ignore")
            table = pa.Table.from_pandas(frame, preserve_index=True)
        buffer = pa.BufferOutputStream()
        with pa.ipc.new_stream(buffer, table.schema) as stream:
            stream.write_table(table)
        data: bytes = buffer.getvalue().to_pybytes()
        found = _from_arrow(data)
        pd.testing.assert_frame_equal(found, frame, check_exact=True, check_freq=False)
        if _types(found) != _types(frame):
            raise ValueError("its missing values are of several types")
    except Exception as e:  # neither Arrow nor pandas says which there can be
        first = str(e).strip().splitlines()[0] if str(e).strip() else type(e).__name__
        raise UnstorableValueError(name, what, f"Arrow would change it: {first}") from e
    return data


def _types(frame: pd.DataFrame) -> list[list[type]]:
    """Return the types of all Python objects: pandas calls None and NaN equal."""
    columns: list[Any] = [frame.iloc[:, i] for i in range(frame.shape[1])]
    levels: list[Any] = [frame.index.get_level_values(i) for i in range(frame.index.nlevels)]
    return [list(map(type, values)) for values in (*columns, *levels) if values.dtype == object]


def _from_arrow(data: bytes) -> pd.DataFrame:
    import pyarrow as pa

    with pa.ipc.open_stream(data) as stream:
        frame: pd.DataFrame = stream.read_all().to_pandas()
    return frame
