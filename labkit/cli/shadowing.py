"""Shadow profiles, as text."""

from __future__ import annotations

from typing import Any

from labkit.cluster import shadow
from labkit.cluster.folders import checked_name, ipython_folder
from labkit.cluster.shadow import Shadow
from labkit.errors import ClusterError, ProfileError, suggestion

__all__ = ["check", "facts", "made", "named", "refreshed", "text"]


def made(destination: str, profile: str, name: str) -> str:
    """Make a shadow; tell what was written, and what comes next."""
    return _told(shadow.cast(destination, profile, name=name))


def refreshed(name: str) -> str:
    """Fetch a shadow again; tell whether anything is new.

    Raises
    ------
    ProfileError
        When there is no such shadow.
    """
    old = named(name)
    if old is None:
        names = [each.name for each in shadow.shadows()]
        raise ProfileError(
            f"there is no shadow {name}{suggestion(name, names)}; "
            "labkit profile shadow alice@cl-0 makes one"
        )
    before = old.connection_file.read_bytes() if old.connection_file.exists() else b""
    new = old.refresh()
    if new.connection_file.read_bytes() == before:
        return f"{new.folder} is up to date: {new.origin} is the same cluster as before"
    return _told(new)


def _told(new: Shadow) -> str:
    return (
        f"{new.connection_file} is written\n"
        f'Connect with the cluster by: labkit.ClusterLab(profile="{new.name}")'
    )


def named(name: str) -> Shadow | None:
    """Return the shadow of this name, if there is one."""
    return shadow.shadow_in(ipython_folder() / f"profile_{checked_name(name)}")


def facts(found: Shadow) -> dict[str, Any]:
    """Return what is known without asking the other machine."""
    return {
        "profile": found.name,
        "folder": str(found.folder),
        "shadow_of": found.origin,
        "machine": found.machine,
        "state": f"fetched {found.fetched}",
    }


def text(found: Shadow) -> str:
    """Return where a shadow is and where it came from, without the key."""
    said = found.connection()
    lines = [f"{key}: {value}" for key, value in facts(found).items()]
    encrypted = "yes" if said.get("curve_serverkey") else "no"
    ports = ", ".join(f"{name} {said[name]}" for name in shadow.CHANNELS)
    return "\n".join(
        [*lines, f"address: {found.address()}", f"ports: {ports}", f"encryption: {encrypted}"]
    )


def check(found: Shadow) -> tuple[bool, str]:
    """Ask the other machine; return whether the shadow is sound, and what was found."""
    try:
        if found.is_current():
            return True, f"{found.folder} is sound; {found.origin} runs"
    except (ClusterError, ProfileError) as e:
        return False, f"{found.folder}: {e}"
    return False, (
        f"{found.folder}: {found.origin} was stopped, and started anew, since {found.fetched}: "
        f"labkit profile refresh {found.name}"
    )
