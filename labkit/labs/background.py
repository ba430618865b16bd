"""What goes on while nobody waits: outcomes that arrive are recorded."""

from __future__ import annotations

import logging
import threading
import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from labkit.labs.chunkedlab import ChunkedLab

__all__ = ["Background"]

logger = logging.getLogger(__name__)

#: How often is looked for something that has arrived.
_LOOK_S = 0.2

#: How long the end waits for a transaction that is being written.
_END_S = 10.0


class Background:
    """A thread that has a lab record what arrives; it does not keep the lab alive.

    Parameters
    ----------
    lab : ChunkedLab
        The lab. Its notebook is written by several threads.
    """

    def __init__(self, lab: ChunkedLab) -> None:
        self._ended = threading.Event()
        self._thread = threading.Thread(
            target=_run, args=(weakref.ref(lab), self._ended), name="labkit", daemon=True
        )
        self._thread.start()

    def end(self) -> None:
        """Stop it, and wait until it has."""
        self._ended.set()
        if self._thread is not threading.current_thread():
            self._thread.join(_END_S)


def _run(reference: weakref.ref[ChunkedLab], ended: threading.Event) -> None:
    said, pause_s = "", _LOOK_S
    while not ended.wait(pause_s):
        lab = reference()
        if lab is None:
            return
        try:
            lab.ingest()
            said = ""
        except Exception as e:
            # nothing is lost: whoever waits next gets the error
            if str(e) != said:
                logger.warning("outcomes that have arrived are not recorded yet: %s", e)
            said = str(e)
        # no later than it is time; where that has passed, somebody else may be taking it
        pause_s = min(lab.rest_s() or _LOOK_S, _LOOK_S)
        del lab
