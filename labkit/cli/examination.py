"""What the doctor has found, as text or JSON."""

from __future__ import annotations

import dataclasses

from labkit.cli.tables import indented
from labkit.cluster import doctor

__all__ = ["examine"]


def examine(name: str, *, only_problems: bool, as_json: bool) -> tuple[bool, str]:
    """Look at the machines of a profile; return whether all is well, and what was found."""
    found = doctor.examine(name)
    is_well = all(each.is_ok for each in found)
    shown = [each for each in found if not (only_problems and each.is_ok)]
    if as_json:
        return is_well, indented([dataclasses.asdict(each) for each in shown])
    if not shown:
        return is_well, f"all is well: {len(found)} checks"
    widths = [max(len(each.host) for each in shown), max(len(each.check) for each in shown)]
    return is_well, "\n".join(
        f"{each.host:{widths[0]}}  {each.check:{widths[1]}}  {'ok' if each.is_ok else '--'}  "
        f"{each.told}"
        for each in shown
    )
