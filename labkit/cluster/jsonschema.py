"""The form of ``hosts.yaml``, for editors that complete and check while one types."""

from __future__ import annotations

from typing import Any

from labkit.cluster.settings import InventorySettings

__all__ = ["schema"]


def schema() -> dict[str, Any]:
    """Return the JSON schema of an inventory.

    Examples
    --------
    >>> sorted(schema()["properties"])[:3]
    ['controller', 'defaults', 'encryption']
    """
    made = InventorySettings.model_json_schema()
    made["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    made["title"] = "labkit inventory"
    for part in (made, *made["$defs"].values()):
        for settings in part["properties"].values():
            _tidy(settings)
    # cl-1: with nothing behind it
    empty = {"anyOf": [made["properties"]["hosts"]["additionalProperties"], {"type": "null"}]}
    made["properties"]["hosts"]["additionalProperties"] = empty
    return made


def _tidy(settings: dict[str, Any]) -> None:
    """Remove the null that only the lack of a value means, and titles that repeat the key."""
    settings.pop("title", None)
    if settings.get("default", ...) is None:
        del settings["default"]
    choices = [each for each in settings.get("anyOf", []) if each != {"type": "null"}]
    if len(choices) == 1:
        del settings["anyOf"]
        settings.update(choices[0])
    elif choices:
        settings["anyOf"] = choices
