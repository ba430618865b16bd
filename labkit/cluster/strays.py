"""Agents that could not be ended when they were to be, since their hosts were out of reach.

A controller that takes the place of another has its ports and keys. What the old one's agents
look after would find it, and never end by itself: so somebody has to remember them.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from labkit.cluster.folders import replace_text

__all__ = ["Stray", "Strays"]


@dataclass(frozen=True, slots=True)
class Stray:
    """An agent that may still run."""

    host: str
    """Where it was started."""
    token: str
    """What it is found by."""
    pid: int
    """Its process on the host; 0 where that is not known."""


class Strays:
    """What is written down of them, a file for each; any thread or process may use it.

    Parameters
    ----------
    profile_dir : str
        The profile of their cluster.
    """

    def __init__(self, profile_dir: str) -> None:
        self._folder = Path(profile_dir, "pid")

    def __iter__(self) -> Iterator[Stray]:
        for file in sorted(self._folder.glob("stray-*.json")):
            # another process may have ended it meanwhile
            with contextlib.suppress(OSError, ValueError, TypeError):
                yield Stray(**json.loads(file.read_text(encoding="utf-8")))

    def of(self, host: str) -> list[Stray]:
        """Return those of one host."""
        return [stray for stray in self if stray.host == host]

    def add(self, stray: Stray) -> None:
        """Remember one."""
        self._folder.mkdir(parents=True, exist_ok=True)
        # whoever knows a token may end what it stands for
        replace_text(self._file(stray), json.dumps(asdict(stray)), mode=0o600)

    def remove(self, stray: Stray) -> None:
        """Forget one: it has ended."""
        self._file(stray).unlink(missing_ok=True)

    def _file(self, stray: Stray) -> Path:
        return self._folder / f"stray-{stray.token}.json"
