"""pandas values in a notebook: as Arrow, in the array store.

Arrow keeps dtypes, index, column names and missing values. What it would change
(a column of mixed objects, say) is refused: each value is read back and compared
before it is accepted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from labkit.errors import UnstorableValueError

if TYPE_CHECKING:
    import pandas as pd

    from labkit.notebook.values import Sink, Source

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
    if isinstance(value, pd.Timestamp):
        return {"!timestamp": [value.isoformat(), str(value.tz) if value.tz else None, value.unit]}
    if isinstance(value, pd.Timedelta):
        return {"!pdtimedelta": [value.value, value.unit]}
    if isinstance(value, pd.Series | pd.DataFrame):
        kind = "!series" if isinstance(value, pd.Series) else "!frame"
        frame = value.to_frame(_SERIES_COLUMN) if isinstance(value, pd.Series) else value
        data = _to_arrow(name, value, frame)
        label = [value.name] if isinstance(value, pd.Series) else []
        reference = sink.put(name, np.frombuffer(data, dtype=np.uint8))
        return {kind: [reference, *(_plain_label(name, v) for v in label)]}
    raise UnstorableValueError(name, f"pandas {type(value).__name__}")


def untag(kind: str, inside: Any, source: Source) -> Any:
    """Return the pandas value that :func:`tag` was given."""
    import pandas as pd

    if kind == "!pandas":
        return pd.NaT if inside == "NaT" else pd.NA
    if kind == "!timestamp":
        text, zone, unit = inside
        moment = pd.Timestamp(text)
        return (moment.tz_convert(zone) if zone else moment).as_unit(unit)
    if kind == "!pdtimedelta":
        return pd.Timedelta(inside[0], unit="ns").as_unit(inside[1])
    if kind == "!series":
        return _series(_from_arrow(source.get(inside[0]).tobytes()), inside[1])
    if kind == "!frame":
        return _from_arrow(source.get(inside[0]).tobytes())
    raise ValueError(f"unknown tag {kind}")


def _plain_label(name: str, label: Any) -> Any:
    if label is None or isinstance(label, str | int | float):
        return label
    raise UnstorableValueError(name, "Series", f"its name is a {type(label).__name__}")


def _series(frame: pd.DataFrame, label: Any) -> pd.Series[Any]:
    return frame[_SERIES_COLUMN].rename(label)


def _to_arrow(name: str, value: pd.Series[Any] | pd.DataFrame, frame: pd.DataFrame) -> bytes:
    import pandas as pd
    import pyarrow as pa

    what = type(value).__name__
    try:
        table = pa.Table.from_pandas(frame, preserve_index=True)
        buffer = pa.BufferOutputStream()
        with pa.ipc.new_stream(buffer, table.schema) as stream:
            stream.write_table(table)
        data = buffer.getvalue().to_pybytes()
        pd.testing.assert_frame_equal(_from_arrow(data), frame, check_exact=True, check_freq=False)
    except (pa.ArrowException, AssertionError, TypeError, ValueError, NotImplementedError) as e:
        first = str(e).strip().splitlines()[0] if str(e).strip() else type(e).__name__
        raise UnstorableValueError(name, what, f"Arrow would change it: {first}") from e
    return data


def _from_arrow(data: bytes) -> pd.DataFrame:
    import pyarrow as pa

    with pa.ipc.open_stream(data) as stream:
        return stream.read_all().to_pandas()
