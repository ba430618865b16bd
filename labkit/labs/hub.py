"""What a lab asks its controller, which may be there no more.

A controller that was killed refuses nothing: its schedulers live on and hold its ports, and a
client of ipyparallel waits for an answer for ever. So every question has a limit here.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import TYPE_CHECKING, Any, TypeVar

from labkit.cluster.asking import begin
from labkit.cluster.workload import batches, records
from labkit.errors import ClusterError

if TYPE_CHECKING:
    import ipyparallel

__all__ = ["SILENCE_S", "Hub"]

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: A controller that leaves a question unanswered for so long, in seconds, is taken for dead.
SILENCE_S = 7.0

#: How often it is asked for a sign of life, and how long that may take: together, with a look or
#: two between them, less than 10 s.
_PERIOD_S, _PULSE_S = 1.0, 5.0

#: How long a process that was stopped may take to read what has arrived meanwhile.
_MOMENT_S = 1.0

#: A controller that has learnt of no more messages for so long has not got them.
_READING_S = 3.0


class Hub:
    """The controller's own part, as a client sees it.

    Parameters
    ----------
    client : ipyparallel.Client
        The connection.
    where : str
        How messages name the cluster.

    Attributes
    ----------
    is_lost : bool
        It has not answered in time, or another one has taken its place, which does not know
        what was on its way: a new connection is needed.
    """

    def __init__(self, client: ipyparallel.Client, where: str) -> None:
        self._client = client
        self._where = where
        #: Which controller it is: one in its place has another session, and other engines.
        self._identity: str | None = None
        self._asked_at = time.monotonic()
        self._sign: Future[str] | None = begin(self._session)
        self.is_lost = False
        self._is_forgetful = False

    def status(self, verbose: bool = False) -> dict[int, dict[str, Any]]:
        """Return for each engine what it has to do.

        Raises
        ------
        ClusterError
            When no answer comes, as from all that follow.
        """
        status: dict[int, dict[str, Any]]
        status = self._ask(lambda: self._client.queue_status(verbose=verbose))
        return {n: status[n] for n in self._client.ids if n in status}

    def idle(self) -> list[int]:
        """Return the engines that have nothing to do."""
        return [n for n, has in self.status().items() if not has["queue"] + has["tasks"]]

    def completed(self, messages: list[str]) -> dict[str, bool]:
        """Return which of these messages it knows, and whether their answers are there."""
        found = records(self._client, self._ask, messages, ["msg_id", "completed"])
        self._is_forgetful = found is None
        return {entry["msg_id"]: entry["completed"] is not None for entry in found or ()}

    def lacks(self, messages: list[str]) -> bool:
        """Test whether some of these messages have not arrived, as far as it can tell."""
        known = self.completed(messages) if messages else {}
        return len(known) < len(messages) and not self._is_forgetful

    def keeps(self, messages: list[str]) -> set[str]:
        """Return which of these messages have an answer there, wait, or run.

        A controller that was started again may know others, of which nothing will come.
        """
        if not messages:
            return set()
        done = self._known_by_now(messages)
        queues = self._ask(lambda: self._client.queue_status(verbose=True))
        underway = set(queues.pop("unassigned"))
        for queue in queues.values():
            underway.update(queue["tasks"])
        # meanwhile, some may have come to their end
        rest = [m for m, is_done in done.items() if not is_done and m not in underway]
        done.update(self.completed(rest) if rest else {})
        return {m for m, is_done in done.items() if is_done or m in underway}

    def _known_by_now(self, messages: list[str]) -> dict[str, bool]:
        """Ask until nothing more becomes known: it may still have to read what has arrived."""
        known = self.completed(messages)
        learnt_at = time.monotonic()
        while len(known) < len(messages) and time.monotonic() - learnt_at < _READING_S:
            time.sleep(_MOMENT_S)
            before, known = known.keys(), self.completed(messages)
            if known.keys() != before:
                learnt_at = time.monotonic()
        return known

    def result(self, message: str) -> bytes:
        """Return the answer to a message, which is there; or raise what the engine has raised."""
        client = self._client
        answer: bytes = self._ask(
            lambda: client.get_result(message, block=False, owner=False).get()
        )
        return answer

    def purge(self, messages: list[str]) -> list[str]:
        """Have it forget messages and their answers; return those of which it knows no answer.

        It may still have to read that they are done. That a task was aborted it never learns.
        """
        kept = []
        for some in batches(messages):
            if not self._forgets(some):
                known = self.completed(some)
                if done := [message for message in some if known.get(message)]:
                    self._forgets(done)
                kept += [message for message in some if not known.get(message)]
        return kept

    def _forgets(self, messages: list[str]) -> bool:
        """Have it forget messages, all or none; return whether it has."""
        import ipyparallel

        try:
            self._ask(lambda: self._client.purge_hub_results(messages))
        except ipyparallel.error.RemoteError:
            # one of them is not done, as far as it knows
            return False
        return True

    def _ask(self, question: Callable[[], T]) -> T:
        answer = begin(question)
        if not _is_there(answer, SILENCE_S):
            raise self._lost(SILENCE_S)
        return answer.result()

    def _lost(self, silence_s: float) -> ClusterError:
        self.is_lost = True
        return ClusterError(
            f"the controller of {self._where} has not answered for {silence_s:.0f} s: when the "
            "cluster is back, call wait(), and the lab goes on; what is pending stays so"
        )

    def feel_pulse(self) -> None:
        """Ask for a sign of life from time to time, without waiting for it.

        Raises
        ------
        ClusterError
            When it did not come.
        """
        now = time.monotonic()
        if self._sign is not None and self._sign.done():
            if self._sign.exception() is None:
                self._recognise(self._sign.result())
            self._sign = None
        if self._sign is not None:
            if now - self._asked_at > _PULSE_S and not _is_there(self._sign, 0.0):
                raise self._lost(now - self._asked_at)
        elif now - self._asked_at > _PERIOD_S:
            self._asked_at = now
            self._sign = begin(self._session)

    def _session(self) -> str:
        """Return the session of the controller; ipyparallel's client tells it nobody."""
        client = self._client
        content = {"targets": None, "verbose": False}
        reply = client._send_recv(client._query_stream, "queue_request", content=content)
        return str(reply["header"]["session"])

    def _recognise(self, session: str) -> None:
        if self._identity not in (None, session):
            logger.warning("%s was started again: what was on its way is sent again", self._where)
            self.is_lost = True
        self._identity = session

    def note_arrival(self) -> None:
        """Take what has arrived from an engine for a sign of life."""
        self._asked_at = time.monotonic()


def _is_there(answer: Future[Any], timeout_s: float) -> bool:
    """Wait for an answer; a process that has slept gets a moment to read what has come."""
    wait([answer], timeout_s)
    return answer in wait([answer], _MOMENT_S).done
