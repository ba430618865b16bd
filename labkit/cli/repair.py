"""What of a notebook is sound, as text or JSON."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Iterator
from pathlib import Path

from labkit import notebook as notebooks
from labkit.cli.tables import indented
from labkit.notebook import NotebookCondition

__all__ = ["check", "recover"]


def check(path: Path, *, as_json: bool) -> tuple[bool, str]:
    """Look at a notebook; return whether it is sound, and what was found."""
    found = notebooks.check(path)
    return found.is_sound, _json(found) if as_json else "\n".join(_checked(found))


def _checked(found: NotebookCondition) -> Iterator[str]:
    yield from found.lines()
    if found.is_sound:
        yield f"{found.notebook} is sound."
        return
    yield f"{found.notebook} is damaged. What is sound is saved by:"
    yield f"  labkit notebook recover {shlex.quote(str(found.notebook))} -o NEW.db"


def recover(path: Path, out: Path, *, as_json: bool) -> str:
    """Save what can be read of a notebook into a new one; return what was done and is lost."""
    found = notebooks.recover(path, out)
    return _json(found) if as_json else "\n".join(_recovered(found))


def _recovered(found: NotebookCondition) -> Iterator[str]:
    yield from found.lines()
    rows = sum(rs.rows for rs in found.result_sets)
    sets = len(found.result_sets)
    lost = "nothing is lost" if found.is_sound else "what is lost is said above"
    yield (
        f"{found.saved_to} holds {rows:,} outcomes in {sets} result set{'s' * (sets != 1)}; {lost}."
    )


def _json(found: NotebookCondition) -> str:
    facts = {
        "is_sound": found.is_sound,
        "lost_keys": found.lost_keys,
        **dataclasses.asdict(found),
    }
    return indented(facts)
