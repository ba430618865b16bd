"""Whether what a host has installed goes together with what is installed here."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Iterator, Mapping

from labkit.cluster.hostprobe import PACKAGES

__all__ = ["alike", "differences", "refusal"]


def alike(package: str, one: str, other: str) -> bool:
    """Test whether two versions of a package do the same, for all that engines and labs share.

    Examples
    --------
    >>> alike("numpy", "2.1.0", "2.1.3"), alike("labkit", "0.1.0", "0.1.1")
    (True, False)
    """
    # labkit's own messages may change with any version
    return one == other if package == "labkit" else _beginning(one, 2) == _beginning(other, 2)


def refusal(there: Mapping[str, str | None]) -> str | None:
    """Return why no engine can work with these versions, if none can.

    Parameters
    ----------
    there : mapping of str to str or None
        The host's versions, by package; None is what it lacks.
    """
    for package, parts in {"labkit": None, "ipyparallel": 1}.items():
        own, other = importlib.metadata.version(package), there.get(package)
        if other is not None and _beginning(own, parts) != _beginning(other, parts):
            return (
                f"{package} {other} is there, and {own} here, which do not understand each "
                f"other; install {package}=={own} there"
            )
    return None


def differences(there: Mapping[str, str | None]) -> Iterator[str]:
    """Yield what is different on a host, and may matter to what runs there."""
    own = {package: importlib.metadata.version(package) for package in PACKAGES}
    for package, version in {"python": platform.python_version(), **own}.items():
        other = there.get(package)
        if other is None:
            yield f"{package} is missing there; {version} is here"
        elif not alike(package, version, other):
            yield f"{package} {other} is there, and {version} here"


def _beginning(version: str, parts: int | None) -> list[str]:
    return version.split(".")[:parts]
