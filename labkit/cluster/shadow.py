"""Shadow profiles: what a laptop has of a cluster elsewhere, which is its connection file.

A shadow is a profile's folder with two files: the client's connection file, which only its
owner may read, and ``shadow.json``, which says where that came from, and when. The laptop
needs nothing but ssh to the controller's machine.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from labkit.cluster import login
from labkit.cluster.commands import start_command
from labkit.cluster.folders import checked_name, ipython_folder, replace_text
from labkit.errors import ClusterError, ClusterStartError, ProfileError

__all__ = ["CHANNELS", "Shadow", "cast", "shadow_in", "shadows"]

#: How a shadow's connection file names the ports of a client.
CHANNELS = ("control", "mux", "task", "iopub", "notification", "broadcast", "registration")

_RECORD = "shadow.json"
_CONNECTION = "security/ipcontroller-client.json"

#: How long ssh may take for all of it, in seconds.
_FETCH_S = 9.0

#: Begins the line of what the other machine says; its shell may have said something before.
_MARK = "labkit-shadow"

#: For sh, in one line and without a single quote, for whatever shell is between.
_LOOK = (
    'd="${IPYTHONDIR:-$HOME/.ipython}/profile_$1"; '
    f'f="$d/{_CONNECTION}"; by=others; '
    'grep -q "^# written by labkit, " "$d/ipcluster_config.py" 2>/dev/null && by=labkit; '
    f'if test -f "$f"; then echo "{_MARK} file $by $(uname -n)"; cat "$f"; '
    f'elif test -d "$d"; then echo "{_MARK} idle $by $d"; '
    f'else echo "{_MARK} nothing $by $d"; fi'
)


class _Fetched(NamedTuple):
    """What another machine has said."""

    text: str
    """Its connection file."""
    machine: str
    """What it calls itself."""
    by_labkit: bool
    """Whether labkit has generated the profile there, for its own launcher."""


@dataclass(frozen=True, slots=True)
class Shadow:
    """A profile that was fetched from another machine."""

    name: str
    """Its name here."""
    folder: Path
    """Where it is here."""
    destination: str
    """The machine that it was fetched from, as ssh knows it."""
    profile: str
    """Its name there."""
    machine: str
    """What that machine calls itself."""
    fetched: str
    """When, in ISO 8601."""

    @property
    def connection_file(self) -> Path:
        """The client's connection file."""
        return self.folder / _CONNECTION

    @property
    def origin(self) -> str:
        """Where it came from, in words."""
        return f"{self.profile} on {self.destination}"

    def connection(self) -> dict[str, Any]:
        """Return what the connection file says.

        Raises
        ------
        ProfileError
            When it is none.
        """
        try:
            return _parsed(self.connection_file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as e:
            why = e.strerror if isinstance(e, OSError) else e
            raise ProfileError(
                f"{self.connection_file} is no connection file: {why}. Fetch it again: "
                f"labkit profile refresh {self.name}"
            ) from e

    def address(self) -> str:
        """Return where the controller listens, as the other machine finds it."""
        said = self.connection()
        address: str = said["interface"].partition("://")[2]
        if address in ("*", "0.0.0.0"):
            location: str = said.get("location") or self.machine
            return "127.0.0.1" if location == self.machine else location
        return address

    def is_current(self) -> bool:
        """Ask the other machine whether its connection file is still this one.

        Raises
        ------
        HostUnreachableError
            When it cannot be asked.
        ClusterStartError
            When no cluster runs there.
        """
        return self._is_of(_fetch(self.destination, self.profile))

    def _is_of(self, fetched: _Fetched) -> bool:
        return _parsed(fetched.text) == self.connection()

    def why_silent(self, limit_s: float) -> ClusterError:
        """Find out why a controller does not answer to what the connection file says.

        Parameters
        ----------
        limit_s : float
            How long its machine may take to tell, in seconds.
        """
        try:
            fetched = _fetch(self.destination, self.profile, limit_s)
            if self._is_of(fetched):
                return ClusterStartError(
                    f"the controller of {self.origin} does not answer, though its connection "
                    f"file is there; on {self.machine}: {self._remedy(fetched.by_labkit)}",
                    may_pass=True,
                )
        except (ClusterError, ProfileError) as e:
            return e if isinstance(e, ClusterError) else ClusterStartError(str(e))
        return ClusterStartError(
            f"the connection file of profile {self.name}, fetched {self.fetched}, is not that of "
            f"the cluster which runs on {self.destination} now; fetch that: "
            f"labkit profile refresh {self.name}"
        )

    def _remedy(self, by_labkit: bool) -> str:
        if by_labkit:
            return f"labkit cluster restart --profile {self.profile}, which keeps this shadow valid"
        return (
            f"ipcluster stop --profile={self.profile}, "
            f"{start_command(self.profile, by_labkit=False)}; "
            f"and here: labkit profile refresh {self.name}"
        )

    def refresh(self) -> Shadow:
        """Fetch the connection file again, after the cluster was restarted.

        Raises
        ------
        HostUnreachableError
            When ssh is not let in, or does not get there.
        ClusterStartError
            When no cluster runs there.
        ProfileError
            When there is no such profile, or here is no place for it.
        """
        return cast(self.destination, self.profile, name=self.name, folder=self.folder.parent)

    def remove(self) -> list[Path]:
        """Remove it; return what else is in its folder, and stays."""
        for own in (self.connection_file, self.folder / _RECORD):
            own.unlink(missing_ok=True)
        # a client of ipyparallel makes these
        for made in ("db", "log", "pid", "startup"):
            shutil.rmtree(self.folder / made, ignore_errors=True)
        for folder in (self.connection_file.parent, self.folder):
            with contextlib.suppress(OSError):
                folder.rmdir()
        return sorted(p for p in self.folder.rglob("*") if not p.is_dir())


def cast(
    destination: str, profile: str, *, name: str = "shadow", folder: Path | None = None
) -> Shadow:
    """Fetch the connection file of a cluster elsewhere, and make a profile of it here.

    Parameters
    ----------
    destination : str
        The controller's machine, as ssh knows it: ``alice@cl-0``, or a name in
        ``~/.ssh/config``.
    profile : str
        The profile there.
    name : str, optional
        What it is to be called here.
    folder : Path, optional
        IPython's folder here, in which profiles are; by default the user's.

    Raises
    ------
    HostUnreachableError
        When ssh is not let in, or does not get there.
    ClusterStartError
        When no cluster runs there.
    ProfileError
        When there is no such profile, or here is one of that name already.
    """
    login.checked(destination)
    checked_name(profile)
    place = (folder or ipython_folder()) / f"profile_{checked_name(name)}"
    _assert_free(place, name, destination, profile)
    fetched = _fetch(destination, profile)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    made = Shadow(name, place, destination, profile, fetched.machine, now)
    record = {
        "what": "a shadow profile, made by labkit",
        "from": destination,
        "profile": profile,
        "machine": made.machine,
        "fetched": now,
    }
    try:
        for each in (place, made.connection_file.parent):
            each.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace_text(made.connection_file, fetched.text, mode=0o600)
        replace_text(place / _RECORD, json.dumps(record, ensure_ascii=False, indent=2) + "\n")
    except OSError as e:
        raise ProfileError(f"{place} cannot be written: {e.strerror}") from e
    return made


def _assert_free(place: Path, name: str, destination: str, profile: str) -> None:
    from labkit.cluster.configs import STARTER

    there = shadow_in(place)
    if there is None and not (place / STARTER).exists() and not (place / _CONNECTION).exists():
        return
    if there is not None and (there.destination, there.profile) == (destination, profile):
        return
    what = f"the shadow of {there.origin}" if there else "a profile of this machine"
    raise ProfileError(
        f"{name} is {what} already: give the new one another name by --as, "
        f"or remove that: labkit profile remove {name}"
    )


def _fetch(destination: str, profile: str, limit_s: float = _FETCH_S) -> _Fetched:
    """Return the connection file of a profile elsewhere."""
    command = f"exec sh -c {shlex.quote(_LOOK)} labkit {shlex.quote(profile)}"
    try:
        done = subprocess.run(
            [*login.ssh(*login.NO_FORWARDS), "--", destination, command],
            stdin=subprocess.DEVNULL,
            env={**os.environ, **login.UNASKED},
            capture_output=True,
            text=True,
            errors="replace",
            timeout=limit_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise login.refusal(destination, f"no answer in {limit_s:.0f} s") from None
    except FileNotFoundError:
        raise login.refusal(destination, "ssh is not installed on this machine") from None
    found = re.search(
        rf"^{_MARK} (file|idle|nothing) (labkit|others) ([^\n]*)\n(.*)",
        done.stdout,
        re.DOTALL | re.MULTILINE,
    )
    if found is None:
        raise login.refusal(destination, done.stderr)
    state, by, detail, text = found.groups()
    if state == "nothing":
        raise ProfileError(
            f"{destination} has no {detail}: name another profile by --profile, or make this one "
            "there: labkit profile generate"
        )
    if state == "idle":
        raise ClusterStartError(
            f"the cluster of profile {profile} does not run on {destination}; start it there: "
            f"{start_command(profile, by_labkit=by == 'labkit')}",
            may_pass=True,
        )
    try:
        _parsed(text)
    except ValueError as e:
        raise ProfileError(f"{destination}: {profile} has no connection file: {e}") from e
    return _Fetched(text, detail, by == "labkit")


def _parsed(text: str) -> dict[str, Any]:
    """Return what a connection file says, if it is one."""
    said = json.loads(text)
    if not isinstance(said, dict):
        raise ValueError("it should be a mapping")
    needed = ("key", "interface", *CHANNELS)
    if missing := [key for key in needed if key not in said]:
        raise ValueError(f"it does not say {', '.join(missing)}")
    return said


# ---------- finding ----------


def shadow_in(folder: Path) -> Shadow | None:
    """Return the shadow in a profile's folder; None when there is none.

    Raises
    ------
    ProfileError
        When its record cannot be read.
    """
    path = folder / _RECORD
    try:
        said: Mapping[str, str] = json.loads(path.read_text(encoding="utf-8"))
        return Shadow(
            name=folder.name.removeprefix("profile_"),
            folder=folder,
            destination=login.checked(said["from"]),
            profile=checked_name(said["profile"]),
            machine=said["machine"],
            fetched=said["fetched"],
        )
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, TypeError, KeyError, ProfileError) as e:
        raise ProfileError(
            f"{path} does not say where the profile was fetched from; delete it, "
            "and make the profile again: labkit profile shadow"
        ) from e


def shadows(folder: Path | None = None) -> Iterator[Shadow]:
    """Yield the shadow profiles, by name.

    Parameters
    ----------
    folder : Path, optional
        IPython's folder; by default the user's.
    """
    for path in sorted((folder or ipython_folder()).glob("profile_*")):
        found = shadow_in(path)
        if found is not None:
            yield found
