"""How engines do: what their hosts say, and what the controller says, put together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from labkit.cluster.asking import begin
from labkit.cluster.launchers import HostsLauncher
from labkit.errors import ClusterError

if TYPE_CHECKING:
    import ipyparallel

__all__ = ["EngineStatus", "Standing", "sessions"]

_T = TypeVar("_T")

#: How long the controller may take to answer.
_ANSWER_S = 7.0


def sessions(client: ipyparallel.Client) -> dict[int, str]:
    """Return the session of each engine that is registered, by its id.

    Raises
    ------
    ClusterError
        When the controller does not answer.
    """
    # the client hears of changes, but not of those in the moment in which it connects
    told = _within(lambda: client._send_recv(client._query_stream, "connection_request"))
    return {int(number): session for number, session in told["content"]["engines"].items()}


def _queue_status(client: ipyparallel.Client) -> dict[Any, Any]:
    return _within(client.queue_status)


def _within(question: Callable[[], _T]) -> _T:
    """Return the answer to a question, or raise ClusterError when none comes in time."""
    answer = begin(question)
    if answer not in wait([answer], _ANSWER_S).done:
        raise ClusterError(f"the controller has not answered for {_ANSWER_S:.0f} s")
    return answer.result()


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """How one engine does."""

    host: str | None
    """Where it is; None when labkit's launcher has not started it."""
    number: int | None
    """Its number there, by which its log is named."""
    id: int | None
    """By which number the controller knows it; None when it is not registered."""
    pid: int | None
    """Its process on the host."""
    alive: bool | None
    """Whether that lives; False when it is known to be gone, None when nobody knows: the host
    cannot be asked, or none was started there."""
    busy: bool
    """Whether it has something to do."""
    done: int
    """How many tasks it has done for this controller."""
    restarts: int = 0
    """How often it was started again after it had died."""
    why: str = ""
    """What is wrong with it, or with the host."""

    @property
    def registered(self) -> bool:
        """Whether the controller knows it."""
        return self.id is not None


class Standing:
    """Asks hosts and controller.

    Parameters
    ----------
    engine_set : launcher
        What has started the engines.
    client : ipyparallel.Client
        A connection with the controller.
    """

    def __init__(self, engine_set: Any, client: ipyparallel.Client) -> None:
        self._launcher = engine_set if isinstance(engine_set, HostsLauncher) else None
        self._client = client
        self._started = engine_set.n if engine_set is not None else 0

    def engines(self) -> list[EngineStatus]:
        """Return all engines, those first that hosts have told of."""
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(self._launcher.report) if self._launcher else None
            queues = self._queues()
            told = asked.result() if asked else {}
        registered = sessions(self._client)
        ids = {session: number for number, session in registered.items()}
        found = [
            status
            for host in (self._launcher.wanted if self._launcher else ())
            for status in self._of_host(host, told.get(host), ids, queues)
        ]
        named = {status.id for status in found}
        others = (number for number in registered if number not in named)
        return [*found, *(self._unknown(number, registered, queues) for number in others)]

    def _of_host(
        self,
        host: str,
        told: Mapping[str, Any] | None,
        ids: Mapping[str, int],
        queues: Mapping[int, Mapping[str, int]],
    ) -> Iterator[EngineStatus]:
        assert self._launcher is not None
        if told is None or "engines" not in told:
            # engines of a host that cannot be asked may well be registered
            if told is None and host in self._launcher.failures:
                why = self._launcher.failures[host]
                yield EngineStatus(host, None, None, None, None, False, 0, why=why)
            elif told is None or "gone" in told:
                why = "its agent has ended, and its engines"
                yield EngineStatus(host, None, None, None, False, False, 0, why=why)
            elif not any(self._launcher.host_of(session) == host for session in ids):
                yield EngineStatus(host, None, None, None, None, False, 0, why=told["failed"])
            return
        for engine in told["engines"]:
            number = ids.get(engine["session"]) if engine["alive"] else None
            yield EngineStatus(
                host,
                engine["number"],
                number,
                engine["pid"],
                engine["alive"],
                *_work(queues, number),
                restarts=engine["restarts"],
                why=_why(engine, number),
            )

    def _unknown(
        self, number: int, registered: Mapping[int, str], queues: Mapping[int, Mapping[str, int]]
    ) -> EngineStatus:
        host = self._launcher.host_of(registered[number]) if self._launcher else None
        why = "it has not been told of by its host" if host else ""
        return EngineStatus(host, None, number, None, None, *_work(queues, number), why=why)

    def _queues(self) -> dict[int, dict[str, int]]:
        """Return for each engine how much waits there and was done, by its id."""
        answer = _queue_status(self._client)
        self._unassigned = int(answer.get("unassigned", 0))
        return {number: has for number, has in answer.items() if isinstance(number, int)}

    def missing(self, engines: int | None, *, idle: bool) -> str:
        """Tell what is still waited for; empty when nothing is.

        Parameters
        ----------
        engines : int or None
            How many engines; None for as many as were started.
        idle : bool
            Whether nothing may be waiting or running, instead.
        """
        if idle:
            busy = sum(has["queue"] + has["tasks"] for has in self._queues().values())
            left = busy + self._unassigned
            tasks = "1 task is" if left == 1 else f"{left} tasks are"
            return f"{tasks} waiting or running" if left else ""
        wanted = self._started if engines is None else engines
        there = len(sessions(self._client))
        return f"{there} of {wanted} engines are there" if there < wanted else ""


def _work(queues: Mapping[int, Mapping[str, int]], number: int | None) -> tuple[bool, int]:
    if number is None or number not in queues:
        return False, 0
    queue = queues[number]
    return bool(queue["queue"] + queue["tasks"]), queue["completed"]


def _why(engine: Mapping[str, Any], number: int | None) -> str:
    if not engine["alive"]:
        return f"it ended with status {engine['status']}"
    return "" if number is not None else "it has not registered"
