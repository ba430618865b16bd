"""What an earlier lab on the same notebook has left: pending results, spools."""

from __future__ import annotations

import logging
import pickle
import shutil
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import TYPE_CHECKING

from labkit.engine import spool
from labkit.engine.messages import Answer, batches_in
from labkit.labs.recording import count, record
from labkit.notebook import LabNotebook
from labkit.notebook.labnotebook import SentChunk

if TYPE_CHECKING:
    from labkit.labs.hub import Hub

__all__ = ["ALIVE", "AT", "OWN", "Leftovers"]

logger = logging.getLogger(__name__)

#: Begins the name of a cluster that a lab had for itself: it ended with that lab.
OWN = "own:"

#: Stands in the name of another cluster before the place where it is found: there is one at a time.
AT = " at "

#: The clusters and process pools that labs of this process have for themselves, and that run.
ALIVE: set[str] = set()


class Leftovers:
    """The chunks that an earlier lab on this notebook has sent to this cluster.

    Their outcomes come from the hub, which has kept them, or from spools. What cannot be
    had any more is forgotten, and so missing again.

    Parameters
    ----------
    notebook : LabNotebook
        The notebook.
    cluster : str
        The name of this lab's cluster.
    mine : set of str
        Names of the chunks that this lab has sent itself.
    """

    def __init__(self, notebook: LabNotebook, cluster: str, mine: set[str]) -> None:
        self._notebook = notebook
        self._mine = mine
        self._chunks: dict[str, SentChunk] = {}
        self._is_checked = False
        if notebook.anyPending():
            self._take_over(cluster)

    def __bool__(self) -> bool:
        return bool(self._chunks)

    def _take_over(self, cluster: str) -> None:
        self._collect_spools()
        self._drop(self._notebook.unsentResults(), "was never sent")
        elsewhere = 0
        dead: list[str] = []
        replaced: list[str] = []
        for chunk in self._notebook.outstandingChunks():
            if chunk.name in self._mine:
                continue
            if chunk.cluster == cluster:
                self._chunks[chunk.message] = chunk
            elif chunk.cluster.startswith(OWN) and chunk.cluster not in ALIVE:
                dead += chunk.jobs()
            elif _place(chunk.cluster) == _place(cluster) != "":
                replaced += chunk.jobs()
            else:
                elsewhere += chunk.stop - chunk.first
        self._drop(dead, "has ended with its lab")
        self._drop(replaced, "was a controller in whose place there is another")
        if elsewhere:
            logger.warning("%d points are pending on another cluster", elsewhere)

    def carrying_only(self, jobs: AbstractSet[str]) -> list[str]:
        """Return the messages that carry no other jobs than these."""
        return [m for m, chunk in self._chunks.items() if jobs >= set(chunk.jobs())]

    def tidy(self) -> None:
        """Remove the spools, if nothing is pending that may still come into them."""
        folder = self._notebook.spoolFolder()
        if folder is not None and not self._notebook.anyPending():
            shutil.rmtree(folder, ignore_errors=True)

    def _collect_spools(self) -> None:
        folder = self._notebook.spoolFolder()
        found = spool.leftovers(folder) if folder is not None and folder.is_dir() else []
        for path in (p for p in found if spool.chunk_of(p) not in self._mine):
            self._record(spool.read(path))

    def _record(self, records: Iterable[bytes]) -> int:
        batches = list(batches_in(records))
        record(self._notebook, batches)
        return count(batches)

    def _drop(self, jobs: list[str], why: str) -> None:
        lost = self._notebook.stillPending(jobs)
        if lost:
            logger.warning(
                "missing again, no longer pending: %d; what would have run them %s",
                len(lost),
                why,
            )
            self._notebook.dropPendingResults(lost)

    def collect(self, hub: Hub) -> int:
        """Record what the hub has by now, without waiting; return how many results that were."""
        if not self._chunks:
            return 0
        self._check(hub)
        known = hub.completed(list(self._chunks))
        found = 0
        for message, chunk in list(self._chunks.items()):
            if message not in known:
                self._drop(chunk.jobs(), "is not known to the cluster")
            elif known[message]:
                found += self._fetch(hub, chunk)
            else:
                continue
            del self._chunks[message]
        return found

    def _check(self, hub: Hub) -> None:
        """Forget, once, what a controller knows only from the one before it.

        Its database outlives a controller, but not what was waiting, or running.
        """
        if self._is_checked:
            return
        kept = hub.keeps(list(self._chunks))
        lost = [self._chunks.pop(message) for message in self._chunks.keys() - kept]
        jobs = [job for chunk in lost for job in chunk.jobs()]
        self._drop(jobs, "is not known to the cluster any more")
        self._is_checked = True

    def _fetch(self, hub: Hub, chunk: SentChunk) -> int:
        import ipyparallel

        try:
            answer: Answer = pickle.loads(hub.result(chunk.message))
        except (ipyparallel.error.IPythonError, KeyError) as e:
            # for a task that was aborted, ipyparallel itself raises KeyError('ename')
            self._collect_spools()
            self._drop(chunk.jobs(), f"failed: {e}")
            return 0
        found = self._record(answer.records or self._spooled(chunk))
        if answer.stop is not None:
            self._drop(chunk.jobs(), f"was stopped: {answer.stop.how}")
        hub.purge([chunk.message])
        return found

    def _spooled(self, chunk: SentChunk) -> list[bytes]:
        folder = self._notebook.spoolFolder()
        path = spool.find(Path(folder), chunk.name) if folder is not None else None
        return list(spool.read(path)) if path is not None else []


def _place(cluster: str) -> str:
    """Return where a cluster is found, by its name; empty for one that is a lab's own."""
    return "" if cluster.startswith(OWN) else cluster.partition(AT)[2]
