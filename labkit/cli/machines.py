"""The machines of an inventory, as text or JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from labkit.cli.tables import indented, table
from labkit.cluster import jsonschema, sshconfig
from labkit.cluster.inventory import Host, Inventory, load
from labkit.errors import InventoryError

__all__ = ["check", "expand", "schema", "show"]


def check(path: Path, *, as_json: bool) -> tuple[bool, str]:
    """Look at an inventory; return whether it is sound, and what was found."""
    try:
        found = load(path)
    except InventoryError as e:
        told = {"is_sound": False, "mistakes": list(e.mistakes)}
        return False, indented(told) if as_json else "\n".join(e.mistakes)
    text = f"{path} is sound: {_summary(found)}"
    return True, indented({"is_sound": True, "mistakes": []}) if as_json else text


def _summary(found: Inventory) -> str:
    hosts = f"{len(found.hosts)} host{'s' * (len(found.hosts) != 1)}"
    if found.engines is None:
        return f"{hosts}, whose engines are counted by their cores"
    return f"{hosts}, {found.engines:,} engine{'s' * (found.engines != 1)}"


def show(path: Path, *, as_json: bool) -> str:
    """Return all that holds for each host."""
    found = load(path)
    rows = list(_rows(found))
    if as_json:
        whole = {k: v for k, v in dataclasses.asdict(found).items() if k != "hosts"}
        return indented({**whole, "hosts": rows})
    head = ["host", "address", "user", "port", "python", "engines", "threads", "tags"]
    cells = [
        [row["name"], *(row[name] for name in head[1:6]), row["threads_per_engine"], _tags(row)]
        for row in rows
    ]
    return "\n".join(
        [
            f"profile {found.profile}, controller {found.controller} at {found.interface}; "
            f"{_summary(found)}",
            "",
            table(head, cells),
        ]
    )


def _rows(found: Inventory) -> Iterator[dict[str, Any]]:
    far = [host for host in found.hosts if not host.local]
    told = zip(far, sshconfig.effective_for_all(far), strict=True)
    effective = {host.name: settings for host, settings in told}
    for host in found.hosts:
        yield _row(host, effective.get(host.name, {}))


def _row(host: Host, ssh: Mapping[str, str]) -> dict[str, Any]:
    row = dataclasses.asdict(host)
    if host.local:
        return {**row, "address": None}
    return {
        **row,
        "address": ssh.get("hostname", host.address),
        "user": ssh.get("user", host.user),
        "port": int(ssh.get("port", host.port or 22)),
    }


def _tags(row: dict[str, Any]) -> str | None:
    return ", ".join(row["tags"]) or None


def expand(path: Path, *, as_json: bool) -> str:
    """Return the hosts' names."""
    names = [host.name for host in load(path).hosts]
    return indented(names) if as_json else "\n".join(names)


def schema() -> str:
    """Return the JSON schema of inventories."""
    return indented(jsonschema.schema())
