"""Profiles, as text or JSON."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from labkit.cli import shadowing
from labkit.cli.tables import WIDTH, indented, table
from labkit.cluster import clusterfiles, profiles
from labkit.cluster.commands import start_command
from labkit.cluster.folders import ipython_folder
from labkit.cluster.inventory import load
from labkit.cluster.profiles import Plan, Profile
from labkit.cluster.shadow import Shadow, shadows
from labkit.errors import ProfileError

__all__ = ["ask", "check", "differences", "listing", "named", "plan", "removed", "show", "written"]


def plan(path: Path, name: str | None, *, stock: bool) -> Plan:
    """Decide what is to be written for an inventory."""
    return profiles.plan(load(path), name=name, stock=stock)


def differences(change: Plan) -> str:
    """Return what would change, as a diff."""
    return "".join(each.diff() for each in change.changes) or _unchanged(change) + "\n"


def ask(change: Plan) -> None:
    """Ask whether changes by hand may be overwritten.

    Raises
    ------
    ProfileError
        When they may not, or nobody is there to be asked.
    """
    names = ", ".join(path.name for path in change.handmade)
    question = f"{names}: this was changed by hand. Overwrite it?"
    if sys.stdin.isatty() and click.confirm(question):
        return
    raise ProfileError(
        f"{change.folder} stays as it is: {names} was changed by hand. "
        "--force overwrites it; --dry-run shows the changes"
    )


def written(change: Plan, *, stock: bool) -> str:
    """Tell what was written, and what comes next."""
    if not change.is_needed:
        return _unchanged(change)
    name = change.folder.name.removeprefix("profile_")
    files = "\n".join(f"{each.target} is written" for each in change.changes if each.is_needed)
    return f"{files}\nStart the cluster by: {start_command(name, by_labkit=not stock)}"


def _unchanged(change: Plan) -> str:
    return f"{change.folder} is up to date"


def listing(*, as_json: bool) -> str:
    """Return all profiles with what has become of them."""
    found: list[Profile | Shadow] = [*profiles.profiles(), *shadows()]
    found.sort(key=lambda each: each.name)
    if as_json:
        return indented([_facts(each) for each in found])
    if not found:
        place = ipython_folder()
        return f"There is no profile in {place}. labkit profile generate makes one."
    return table(["profile", "made from", "state", "running"], map(_row, map(_facts, found)))


def named(name: str) -> Profile | Shadow:
    """Return the profile of this name, whether it is of this machine or of another.

    Raises
    ------
    ProfileError
        When there is none.
    """
    return shadowing.named(name) or profiles.find(name)


def _row(facts: dict[str, Any]) -> list[str | None]:
    origin = facts.get("shadow_of") or _end(facts["inventory"])
    return [facts["profile"], origin, facts["state"], facts.get("running")]


def _end(path: str | None) -> str | None:
    """Return as much of a path as a cell has room for, from its end."""
    return path if path is None or len(path) <= WIDTH else f"…{path[1 - WIDTH :]}"


def _facts(found: Profile | Shadow) -> dict[str, Any]:
    if isinstance(found, Shadow):
        return shadowing.facts(found)
    return {
        "profile": found.name,
        "folder": str(found.folder),
        "inventory": str(found.inventory) if found.inventory else None,
        "stock": found.stock,
        "state": found.state(),
        "running": _running(found),
    }


def _running(found: Profile) -> str:
    states = [clusterfiles.standing(file) for file in found.cluster_files()]
    return "yes" if "running" in states else next(iter(states), "no")


def show(name: str, *, as_json: bool) -> str:
    """Return where a profile is and what its files say."""
    found = named(name)
    if isinstance(found, Shadow):
        return indented(_facts(found)) if as_json else shadowing.text(found)
    texts = {
        file: path.read_text(encoding="utf-8", errors="replace")
        for file in profiles.FILES
        if (path := found.folder / file).exists()
    }
    if as_json:
        return indented({**_facts(found), "files": texts})
    lines = [f"{key}: {value}" for key, value in _facts(found).items() if value is not None]
    for file, text in texts.items():
        lines += ["", f"-- {file}", text.rstrip()]
    return "\n".join(lines)


def check(name: str) -> tuple[bool, str]:
    """Look at a profile; return whether it is sound, and what was found."""
    found = named(name)
    if isinstance(found, Shadow):
        return shadowing.check(found)
    wrong, state = found.complaints(), found.state()
    if not wrong and state in ("up to date", "not labkit's"):
        return True, f"{found.folder} is sound; {state}"
    remedy = f": labkit profile generate {found.inventory}" if found.inventory else ""
    return False, "\n".join([*wrong, f"{found.folder}: {state}{remedy}"])


def removed(found: Profile | Shadow) -> str:
    """Remove a profile; tell what is left."""
    left = found.remove()
    if not left:
        return f"{found.folder} is removed"
    return "\n".join(
        [f"{found.folder} is removed, but for what labkit does not know:", *map(str, left)]
    )
