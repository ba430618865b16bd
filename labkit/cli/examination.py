"""What the doctor has found, as text or JSON."""

from __future__ import annotations

import dataclasses
import json

from labkit.cluster import doctor

__all__ = ["examine"]


def examine(name: str, *, as_json: bool) -> tuple[bool, str]:
    """Look at the machines of a profile; return whether all is well, and what was found."""
    found = doctor.examine(name)
    is_well = all(each.is_ok for each in found)
    if as_json:
        return is_well, json.dumps([dataclasses.asdict(each) for each in found], indent=2)
    widths = [max(len(each.host) for each in found), max(len(each.check) for each in found)]
    return is_well, "\n".join(
        f"{each.host:{widths[0]}}  {each.check:{widths[1]}}  {'ok' if each.is_ok else '--'}  "
        f"{each.told}"
        for each in found
    )
