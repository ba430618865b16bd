"""Whether engines can load an experiment, found out before any work is sent."""

from __future__ import annotations

from collections.abc import Callable

from labkit.bundle import MOST_BYTES
from labkit.engine.hand import ask
from labkit.errors import ClusterError, ExperimentError
from labkit.labs.connection import Connection
from labkit.labs.sweep import Group
from labkit.source import code_digest

__all__ = ["Rehearsal"]

#: How long idle engines may take to load an experiment, before it is sent to work unchecked.
_LOAD_S = 30.0


class Rehearsal:
    """Has engines load experiments, and remembers which they have loaded."""

    def __init__(self) -> None:
        self._passed: set[tuple[bytes, str, tuple[str, ...]]] = set()

    def hold(self, group: Group, connection: Connection, is_stopped: Callable[[], bool]) -> None:
        """Have the engines load an experiment, if all of them are idle, with the code they lack.

        Parameters
        ----------
        group : Group
            Its points.
        connection : Connection
            To the engines; open.
        is_stopped : callable
            Tells to give up waiting.

        Raises
        ------
        ClusterError
            When there are no engines.
        ExperimentError
            When some cannot load it.
        """
        digests = tuple(bundle.archive.digest for bundle in group.bundles())
        piece = group.message(), code_digest(group.experiment), digests
        if not connection.client.ids:
            raise ClusterError(
                "the cluster has no engines; when some run, lab.numberOfEngines() shows them"
            )
        if piece in self._passed:
            return
        idle = connection.hub.idle()
        connection.courier.supply_code(group.pickled_bundles(), idle, is_stopped)
        problems = _problems(group, connection) if idle == connection.client.ids else None
        if problems:
            raise ExperimentError(
                f"{type(group.experiment).__qualname__} cannot be loaded on {len(problems)} of "
                f"{len(connection.client.ids)} engines: {problems[0]}. Install what is missing "
                "there: packages beside the notebook travel by themselves, up to "
                f"{MOST_BYTES / 2**20:.0f} MB"
            )
        if problems is not None:
            self._passed.add(piece)

    def forget(self) -> None:
        """Forget it all: there are other engines."""
        self._passed.clear()


def _problems(group: Group, connection: Connection) -> list[str] | None:
    """Return why engines cannot load an experiment; None when they do not say so in time."""
    import ipyparallel

    question = "why_not_loadable", group.message(), code_digest(group.experiment)
    result = connection.client[:].apply_async(ask, *question, group.pickled_bundles())
    try:
        return [problem.decode() for problem in result.get(timeout=_LOAD_S) if problem]
    except ipyparallel.error.TimeoutError:
        return None
    except ipyparallel.error.RemoteError as remote:
        return [str(remote).strip().splitlines()[-1]]
