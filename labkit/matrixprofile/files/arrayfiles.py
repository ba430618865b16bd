"""Series from files of arrays: NumPy's, HDF5, Parquet."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from labkit.errors import SeriesError
from labkit.matrixprofile.files.choosing import Part, choose, known

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["read_hdf5", "read_npy", "read_npz", "read_parquet"]


def read_npy(path: Path) -> NDArray[Any]:
    """Map the array of a ``.npy`` file into memory."""
    values: NDArray[Any] = _loaded(path)
    return values


def read_npz(path: Path, dataset: str | None) -> NDArray[Any]:
    """Read one array of a ``.npz`` file."""
    with _loaded(path) as members:
        names = members.files
        values: NDArray[Any] = members[names[choose(path, "dataset", dataset, names)]]
    return values


def _loaded(path: Path) -> Any:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except ValueError as e:
        raise SeriesError(f"{path} cannot be read: {e}") from e


def read_hdf5(path: Path, dataset: str | None) -> NDArray[Any]:
    """Map a dataset of an HDF5 file into memory, or read it where that cannot be."""
    import h5py

    with h5py.File(path) as file:
        if dataset is None:
            names = _series_in(file)
            dataset = names[choose(path, "dataset", None, names)]
        found = file.get(dataset)
        if not isinstance(found, h5py.Dataset):
            raise SeriesError(f"{path} has no dataset {dataset}{known(dataset, _series_in(file))}")
        return _mapped(path, found) if _is_mappable(found) else np.asarray(found)


def _series_in(file: Any) -> list[str]:
    """Return the paths of the datasets that are series of numbers."""
    found: list[str] = []

    def visit(name: str, node: Any) -> None:
        if len(getattr(node, "shape", None) or ()) == 1 and node.dtype.kind in "buif":
            found.append(f"/{name}")

    file.visititems(visit)
    return found


def _is_mappable(dataset: Any) -> bool:
    in_one_piece = dataset.chunks is None and dataset.external is None and not dataset.is_virtual
    # one that was never written has no place in the file yet; a small one may lie in its header
    has_place = dataset.id.get_storage_size() > 0 and dataset.id.get_offset() is not None
    return bool(in_one_piece and has_place and dataset.dtype == "<f8")


def _mapped(path: Path, dataset: Any) -> NDArray[Any]:
    return np.memmap(path, "<f8", "r", dataset.id.get_offset(), dataset.shape)


def read_parquet(path: Path, column: Part) -> NDArray[Any]:
    """Read one column of a Parquet file; what is missing becomes NaN."""
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            schema = file.schema_arrow
            names = schema.names if column is not None else _numeric(schema)
            name = names[choose(path, "column", column, names)]
            values = file.read([name])[name]
    except pa.ArrowInvalid as e:
        raise SeriesError(f"{path} cannot be read: {e}") from e
    if name not in _numeric(schema):
        others = known(name, _numeric(schema)) or "; it has no column of numbers"
        raise SeriesError(f"{path}, column {name} holds {values.type}, not numbers{others}")
    samples: NDArray[Any] = values.cast(pa.float64(), safe=False).to_numpy()
    return samples


def _numeric(schema: pa.Schema) -> list[str]:
    from pyarrow import types

    tests = (types.is_floating, types.is_integer, types.is_boolean, types.is_decimal)
    return [field.name for field in schema if any(test(field.type) for test in tests)]
