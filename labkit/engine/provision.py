"""Where a hand gets the code of experiments from: its own module path, or the store of its host."""

from __future__ import annotations

import importlib
import pickle
import sys
from collections.abc import Sequence

from labkit.bundle import Bundle, is_importable
from labkit.engine.messages import OutdatedHandError
from labkit.engine.store import Store, require

__all__ = ["lacking", "provide"]

#: What labkit itself needs stays as it is here.
_AT_START = frozenset(sys.modules)

#: What experiments have been given: digests of archives by the names of packages.
_provided: dict[str, str] = {}


def provide(bundles: Sequence[Bundle], engine: int | None = None) -> None:
    """Have this process import these packages, and these versions of them.

    Those that it would not find by itself, or find in another version, come from the store.

    Parameters
    ----------
    bundles : sequence of Bundle
        What an experiment needs.
    engine : int, optional
        The number of this engine in its cluster.

    Raises
    ------
    MissingAttachmentError
        When the store lacks one.
    OutdatedHandError
        When this process has imported another version before.
    """
    fresh = _not_provided(bundles)
    for bundle in fresh:
        if bundle.name in sys.modules or bundle.name in _provided:
            raise OutdatedHandError(f"another version of {bundle.name} was imported before")
    away = [bundle for bundle in fresh if not is_importable(bundle)]
    require([bundle.archive for bundle in away], engine)
    for bundle in away:
        sys.path.insert(0, str(Store().unpacked(bundle.archive)))
    importlib.invalidate_caches()
    _provided.update((bundle.name, bundle.archive.digest) for bundle in fresh)


def lacking(bundles: Sequence[Bundle]) -> bytes:
    """Return the digests of what this process would not import by itself, pickled."""
    away = [b.archive.digest for b in _not_provided(bundles) if not is_importable(b)]
    return pickle.dumps(away)


def _not_provided(bundles: Sequence[Bundle]) -> list[Bundle]:
    return [
        bundle
        for bundle in bundles
        if bundle.name not in _AT_START and _provided.get(bundle.name) != bundle.archive.digest
    ]
