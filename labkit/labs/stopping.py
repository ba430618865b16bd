"""Stopping what engines of a cluster have begun, which ipyparallel has no word for."""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence
from concurrent.futures import wait
from typing import Any

from labkit.labs.connection import Connection
from labkit.labs.resumed import messages_of

__all__ = ["interrupt"]

#: How long what is cancelled may take to end, in seconds, before it is let be; and how often to
#: look for it.
_STOPPING_S, _AGAIN_S = 5.0, 0.1


def interrupt(connection: Connection, messages: set[str], answers: Sequence[Any]) -> None:
    """Have engines stop that have begun with some messages.

    The hub may still have to read which engine has got which: it is asked until all the answers
    are there. What comes to an engine only now, that will do away with by itself.

    Parameters
    ----------
    connection : Connection
        The engines' cluster.
    messages : set of str
        The messages, which were withdrawn.
    answers : sequence of Future
        Those of them whose answers this process hears of.

    Raises
    ------
    ClusterError
        When the controller does not answer.
    """
    told: set[tuple[int, str]] = set()
    seen: set[tuple[int, str]] | None = None
    deadline = time.monotonic() + _STOPPING_S
    while True:
        status = connection.hub.status(verbose=True)
        found = {(n, m) for n, has in status.items() for m in messages & {*has["tasks"]}}
        due = found - told if seen is None else found & seen - told
        if busy := sorted({n for n, _ in due}):
            # an engine that has begun with something else meanwhile is asked to do it again
            connection.client.send_signal(signal.SIGINT, targets=busy, block=False)
        told, seen = told | due, found
        answers = list(wait(answers, _AGAIN_S).not_done)
        if not answers or time.monotonic() > deadline:
            return
        # inherited ones the hub has known all along
        messages = set(messages_of(answers))
