"""Where a hand gets the code of experiments from: its own module path, or the store of its host."""

from __future__ import annotations

import functools
import importlib
import pickle
import sys

from labkit.bundle import Bundle, is_importable
from labkit.engine.messages import OutdatedHandError
from labkit.engine.store import Store, require

__all__ = ["at_start", "lacking", "provide"]

#: What experiments have been given: digests of archives by the names of packages.
_provided: dict[str, str] = {}


@functools.cache
def at_start() -> frozenset[str]:
    """Return what this process had imported when it first asked: what labkit itself needs."""
    return frozenset(sys.modules)


def provide(pickled: bytes, engine: int | None = None) -> bytes:
    """Have this process import these packages, and these versions of them.

    Those that it would not find by itself, or find in another version, come from the store.
    What labkit itself needs stays as it is here.

    Parameters
    ----------
    pickled : bytes
        Bundles, or nothing.
    engine : int, optional
        The number of this engine in its cluster.

    Returns
    -------
    bytes
        Empty.

    Raises
    ------
    MissingAttachmentError
        When the store lacks one.
    OutdatedHandError
        When this process has imported another version before.
    """
    fresh = _not_provided(pickled)
    for bundle in fresh:
        if bundle.name in sys.modules or bundle.name in _provided:
            raise OutdatedHandError(f"another version of {bundle.name} was imported before")
    away = [bundle for bundle in fresh if not is_importable(bundle)]
    require([bundle.archive for bundle in away], engine)
    for bundle in away:
        sys.path.insert(0, str(Store().unpacked(bundle.archive)))
    importlib.invalidate_caches()
    _provided.update((bundle.name, bundle.archive.digest) for bundle in fresh)
    return b""


def lacking(pickled: bytes) -> bytes:
    """Return the digests of those bundles that this process would not import by itself, pickled."""
    return pickle.dumps([b.archive.digest for b in _not_provided(pickled) if not is_importable(b)])


def _not_provided(pickled: bytes) -> list[Bundle]:
    bundles: tuple[Bundle, ...] = pickle.loads(pickled) if pickled else ()
    return [
        bundle
        for bundle in bundles
        if bundle.name not in at_start() and _provided.get(bundle.name) != bundle.archive.digest
    ]
