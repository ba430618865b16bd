"""A lab on this machine's cores, without a cluster."""

from __future__ import annotations

import os
import signal
import tempfile
from collections import Counter
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import TYPE_CHECKING, Any

import epyc

from labkit.attachment import Attachment
from labkit.cache import CACHE
from labkit.engine.hand import run_chunk
from labkit.engine.messages import Chunk, new_name
from labkit.engine.store import Store
from labkit.errors import AttachmentStoreError, MissingAttachmentError, ParameterError
from labkit.labs.chunkedlab import ChunkedLab
from labkit.labs.delivery import arrived
from labkit.labs.enrolment import Enrolment
from labkit.labs.leftovers import ALIVE, OWN
from labkit.labs.sweep import Sweep
from labkit.notebook.labnotebook import SentChunk

if TYPE_CHECKING:
    from labkit.designs import Design
    from labkit.notebook import LabNotebook

__all__ = ["ParallelLab"]


class ParallelLab(ChunkedLab, epyc.ParallelLab):
    """Runs experiments in processes on this machine; ``runExperiment`` returns when all are done.

    Parameters
    ----------
    notebook : LabNotebook, optional
        Where outcomes go; by default into memory.
    cores : int
        How many processes: 0 for one a core, ``n`` for that many, at most one a core, and
        ``-n`` for all cores but so many.
    design : Design, optional
        What turns ranges into points; by default all combinations.
    retries : int
        How often a point that ended its process is tried again.

    Raises
    ------
    ParameterError
        When ``cores`` is not a whole number.

    Examples
    --------
    >>> ParallelLab(cores=1).numberOfCores()
    1
    """

    def __init__(
        self,
        notebook: LabNotebook | None = None,
        cores: int = 0,
        design: Design | None = None,
        *,
        retries: int = 2,
    ) -> None:
        if isinstance(cores, bool) or not isinstance(cores, int):
            raise ParameterError(f"cores={cores!r} is not a whole number")
        ChunkedLab.__init__(self, notebook, design)
        self._begin(retries)
        self._share_files()
        self._brought: Counter[str] = Counter()
        here = os.cpu_count() or 1
        self._cores = min(cores, here) if cores > 0 else max(here + cores, 1)

    def _width(self) -> int:
        return self._cores

    def _submit(self, chunk: Chunk, message: bytes) -> Future[bytes]:
        from loky import get_reusable_executor

        executor = get_reusable_executor(
            max_workers=self._cores,
            initializer=_begin_worker,
            # processes that another lab has started may know another one
            initargs=(os.environ.get(CACHE),),
        )
        future: Future[bytes] = executor.submit(run_chunk, chunk.order, message)
        return future

    def _withdraw(self, futures: list[Future[bytes]]) -> None:
        for future in futures:
            future.cancel()

    def _is_engine_loss(self, e: BaseException) -> bool:
        return isinstance(e, BrokenProcessPool)

    def _spool_folder(self) -> Path:
        return super()._spool_folder() or Path(tempfile.mkdtemp(prefix="labkit-"))

    def _bring(self, missing: MissingAttachmentError, attachment: Attachment) -> Future[bytes]:
        self._brought[missing.digest] += 1
        if self._brought[missing.digest] > self.retries + self._cores:
            raise AttachmentStoreError(
                f"attachment {missing.digest} is in {Store().folder}, and processes of this lab "
                f"do not find it there: look whether something empties the folder, or set {CACHE}"
            )
        Store().put(attachment)
        return arrived()

    def _run(self, sweep: Sweep) -> None:
        notebook = self.notebook()
        self._brought.clear()
        self._cut_short.clear()
        for attachment in self._attach(sweep):
            Store().put(attachment)
        mine = f"{OWN}{sweep.name}"
        enrolment = Enrolment(notebook.current(), sweep)
        # another lab at this notebook shall take none of them for forgotten
        enrolment.complete()
        notebook.recordChunks([SentChunk(new_name(), sweep.name, 0, len(sweep), mine, "")])
        ALIVE.add(mine)
        try:
            self._launch(sweep, enrolment)
            self._work_off(lambda: not self._traffic, len(sweep))
        finally:
            self._withdraw(self._traffic.futures())
            self.abandon()
            notebook.dropPendingResults(notebook.stillPending(sweep.jobs()))
            ALIVE.discard(mine)
            self._close_spool()
            notebook.commit()

    def recreate(self) -> tuple[str, dict[str, Any]]:
        """Return the class and arguments that make such a lab again."""
        name, arguments = super().recreate()
        return name, {**arguments, "cores": self._cores}


def _begin_worker(cache: str | None) -> None:
    """Use the lab's store, and leave it to the lab what a Ctrl-C in its terminal means."""
    if cache is not None:
        os.environ[CACHE] = cache
    else:
        os.environ.pop(CACHE, None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
