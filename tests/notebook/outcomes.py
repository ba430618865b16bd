"""Results dicts for tests of notebooks."""

from __future__ import annotations

from typing import Any


def outcome_of(
    results: dict[str, Any] | None = None, *, status: bool = True, **parameters: Any
) -> dict[str, Any]:
    """Return a flat results dict."""
    metadata = {"epyc.experiment.status": status}
    return {"parameters": parameters, "metadata": metadata, "results": results or {}}
