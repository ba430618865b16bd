"""Profiles that are made from an inventory: how they are written, found, and removed."""

from __future__ import annotations

import difflib
import hashlib
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from labkit.cluster.commands import start_command
from labkit.cluster.configs import CONTROLLER, ENGINE, STARTER, configs
from labkit.cluster.folders import (
    checked_name,
    ipython_folder,
    remove_unfinished,
    replace_texts,
)
from labkit.cluster.shadow import Shadow, shadow_in
from labkit.errors import InventoryError, ProfileError, suggestion

if TYPE_CHECKING:
    from labkit.cluster.inventory import Inventory

__all__ = [
    "Change",
    "Plan",
    "Profile",
    "absence",
    "find",
    "plan",
    "profile_in",
    "profiles",
]

FILES = (STARTER, CONTROLLER, ENGINE)

_STOCK = "with ipyparallel's own launcher"
_HEAD = re.compile(
    r"# written by labkit(?P<stock> " + _STOCK + r")?, digest (?P<digest>[0-9a-f]{16})\n"
    r"# from (?P<inventory>[^\n]+)\n"
)

#: What ipyparallel and IPython put into a profile's folder by themselves.
_BY_THEMSELVES = ("db", "log", "pid", "security", "startup/README", "tasks.db")


def _headed(text: str, inventory: Path, stock: bool) -> str:
    """Put a text's origin before it, and a digest that tells whether anyone has changed it."""
    body = f"# from {inventory}\n{text}"
    how = f" {_STOCK}" if stock else ""
    return f"# written by labkit{how}, digest {_digest(body)}\n{body}"


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _is_untouched(text: str) -> bool:
    found = _HEAD.match(text)
    return found is not None and found["digest"] == _digest(text.partition("\n")[2])


# ---------- writing ----------


@dataclass(frozen=True, slots=True)
class Change:
    """What happens to one file of a profile."""

    target: Path
    """The file."""
    old: str | None
    """What it holds now; None when it is not there."""
    new: str
    """What it is to hold."""

    @property
    def is_needed(self) -> bool:
        """Whether anything changes."""
        return self.old != self.new

    @property
    def is_handmade(self) -> bool:
        """Whether it would overwrite what somebody has written or changed by hand."""
        return self.is_needed and self.old is not None and not _is_untouched(self.old)

    def diff(self) -> str:
        """Return the change as ``diff -u`` shows it; empty when there is none."""
        lines = difflib.unified_diff(
            (self.old or "").splitlines(keepends=True),
            self.new.splitlines(keepends=True),
            "/dev/null" if self.old is None else str(self.target),
            str(self.target),
        )
        return "".join(lines)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be written for a profile, checked, and not written yet."""

    folder: Path
    """The profile's folder."""
    changes: tuple[Change, ...]
    """One for each file."""

    @property
    def is_needed(self) -> bool:
        """Whether there is anything to write."""
        return any(change.is_needed for change in self.changes)

    @property
    def handmade(self) -> list[Path]:
        """The files with changes by hand that would be lost."""
        return [change.target for change in self.changes if change.is_handmade]

    def write(self) -> None:
        """Write the files; a new folder appears with all of them.

        Files that are there are replaced when all new ones are on the disk: a full one changes
        none of them. Whenever this process is killed, each file is whole, and writing again
        does the rest.

        Raises
        ------
        ProfileError
            When the place cannot be written.
        """
        try:
            if self.folder.exists():
                for change in self.changes:
                    remove_unfinished(change.target)
                replace_texts({c.target: c.new for c in self.changes if c.is_needed})
            else:
                self._make()
        except OSError as e:
            raise ProfileError(f"{self.folder} cannot be written: {e.strerror}") from e

    def _make(self) -> None:
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=".labkit-", dir=self.folder.parent))
        try:
            replace_texts({unfinished / c.target.name: c.new for c in self.changes})
            unfinished.rename(self.folder)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)


def plan(
    inventory: Inventory,
    *,
    name: str | None = None,
    stock: bool = False,
    folder: Path | None = None,
) -> Plan:
    """Decide what a profile's files are to hold, and make sure that ipyparallel understands them.

    Parameters
    ----------
    inventory : Inventory
        The machines.
    name : str, optional
        The profile's name; by default the inventory's.
    stock : bool, optional
        Use ipyparallel's own launcher, so that the controller's machine needs no labkit.
    folder : Path, optional
        IPython's folder, in which profiles are; by default the user's.

    Raises
    ------
    InventoryError
        When ipyparallel's own launcher cannot do what the inventory asks for.
    ProfileError
        When ipyparallel does not understand the files, of which nothing is written then.
    """
    from labkit.cluster.verification import complaints

    if name is not None:
        inventory = replace(inventory, profile=checked_name(name))
    place = (folder or ipython_folder()) / f"profile_{inventory.profile}"
    texts = configs(inventory, stock=stock)
    with tempfile.TemporaryDirectory(prefix="labkit-") as trial:
        for file, text in texts.items():
            Path(trial, file).write_text(text, encoding="utf-8")
        wrong = complaints(Path(trial))
    if wrong:
        raise ProfileError(
            "\n".join(
                ["ipyparallel does not understand this profile; nothing was written:", *wrong]
            )
        )
    origin = Path(inventory.file).resolve()
    return Plan(
        place,
        tuple(
            Change(place / file, _read(place / file), _headed(text, origin, stock))
            for file, text in texts.items()
        ),
    )


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None


# ---------- finding ----------


@dataclass(frozen=True, slots=True)
class Profile:
    """A profile with which a cluster is started."""

    name: str
    """Its name."""
    folder: Path
    """Where it is."""
    inventory: Path | None
    """From which inventory labkit made it; None when somebody else did."""
    stock: bool
    """Whether it uses ipyparallel's own launcher."""

    def state(self) -> str:
        """Tell how it stands to its inventory, in a few words."""
        if self.inventory is None:
            return "not labkit's"
        # inventories are read with a library that takes its time, and clusters run without them
        from labkit.cluster.inventory import load

        try:
            inventory = replace(load(self.inventory), profile=self.name)
            current = configs(inventory, stock=self.stock)
        except InventoryError:
            return "inventory wrong" if self.inventory.exists() else "inventory gone"
        texts = {file: _read(self.folder / file) or "" for file in FILES}
        if not all(map(_is_untouched, texts.values())):
            return "changed by hand"
        newest = {f: _headed(t, self.inventory, self.stock) for f, t in current.items()}
        return "up to date" if texts == newest else "inventory changed"

    @property
    def start_command(self) -> str:
        """What starts its cluster."""
        by_labkit = self.inventory is not None and not self.stock
        return start_command(self.name, by_labkit=by_labkit)

    def complaints(self) -> list[str]:
        """Load the files with ipyparallel, and return what is wrong with them."""
        from labkit.cluster.verification import complaints

        return complaints(self.folder)

    def cluster_files(self) -> list[Path]:
        """Return the files of clusters that are running, or were when their machine went down."""
        return sorted(self.folder.glob("security/cluster-*.json"))

    def remove(self) -> list[Path]:
        """Remove what labkit and ipyparallel have written; return what else is there, and stays.

        Raises
        ------
        ProfileError
            When a cluster runs, or labkit has not made the profile.
        """
        if self.inventory is None:
            raise ProfileError(f"{self.folder} was not made by labkit; it stays")
        if running := self.cluster_files():
            raise ProfileError(
                f"a cluster of {self.name} runs: stop it by labkit cluster stop --profile "
                f"{self.name}; if it is long gone, delete {running[0]}"
            )
        for own in (*FILES, *_BY_THEMSELVES):
            path = self.folder / own
            if path.is_dir():
                shutil.rmtree(path)
            else:
                remove_unfinished(path)
                path.unlink(missing_ok=True)
        folders = [p for p in self.folder.rglob("*") if p.is_dir() and not p.is_symlink()]
        for path in sorted([self.folder, *folders], reverse=True):
            if not any(path.iterdir()):
                path.rmdir()
        return sorted(p for p in self.folder.rglob("*") if not p.is_dir())


def profiles(folder: Path | None = None) -> Iterator[Profile]:
    """Yield the profiles with which clusters can be started, by name.

    Parameters
    ----------
    folder : Path, optional
        IPython's folder; by default the user's.
    """
    for path in sorted((folder or ipython_folder()).glob("profile_*")):
        found = profile_in(path)
        if found is not None:
            yield found


def profile_in(path: Path) -> Profile | None:
    """Return the profile in a folder; None when no cluster can be started with it."""
    text = _read(path / STARTER)
    if text is None:
        return None
    found = _HEAD.match(text)
    return Profile(
        name=path.name.removeprefix("profile_"),
        folder=path,
        inventory=Path(found["inventory"]) if found else None,
        stock=bool(found and found["stock"]),
    )


def find(name: str, folder: Path | None = None) -> Profile:
    """Return the profile of this name.

    Raises
    ------
    ProfileError
        When there is none, or it is the shadow of a cluster elsewhere.
    """
    known: Mapping[str, Profile] = {profile.name: profile for profile in profiles(folder)}
    if name not in known:
        place = folder or ipython_folder()
        cast = shadow_in(place / f"profile_{checked_name(name)}")
        if cast is not None:
            raise ProfileError(_elsewhere(cast))
        raise ProfileError(
            f"there is no profile {name} in {place}{suggestion(name, known)}; "
            "labkit profile generate makes one"
        )
    return known[name]


def absence(name: str, place: Path) -> ProfileError:
    """Return the error that a folder has no profile of this name, whoever makes it."""
    known = [p.name.removeprefix("profile_") for p in place.glob("profile_*") if p.is_dir()]
    return ProfileError(
        f"there is no profile {name} in {place}{suggestion(name, known)}; labkit profile generate "
        "makes one of an inventory, and labkit profile shadow one of a cluster elsewhere"
    )


def _elsewhere(cast: Shadow) -> str:
    return (
        f"{cast.name} is the shadow of a cluster elsewhere, of {cast.origin}: that is started, "
        f"looked after and examined on its controller's machine. Log in by ssh "
        f"{cast.destination}, and there: labkit cluster status --profile {cast.profile}, or "
        f"labkit cluster start, labkit doctor and so on"
    )
