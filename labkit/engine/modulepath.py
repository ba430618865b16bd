"""Where modules are found: what starts processes shall not import what those compute with."""

from __future__ import annotations

import os
import sys
from pathlib import Path

__all__ = ["module_path"]


def module_path() -> str:
    """Return this process's module path, for one that shall import what it imports."""
    return os.pathsep.join(p or str(Path.cwd()) for p in sys.path)
