"""How engines do: what their hosts say, and what the controller says, put together."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from labkit.cluster.asking import begin
from labkit.cluster.launchers import HostsLauncher
from labkit.cluster.workload import Workload, workload
from labkit.errors import ClusterError

if TYPE_CHECKING:
    import ipyparallel

__all__ = ["EngineStatus", "Standing", "sessions"]

_T = TypeVar("_T")

#: How long the controller may take to answer.
_ANSWER_S = 7.0

#: What is told of a host on which nothing runs any more.
_ENDED = "its agent has ended, and its engines; labkit cluster scale {host}=... starts them again"

#: What is told of a host while another process starts it, or was killed when it did.
_BEGUN = "it is being started; if that lasts, labkit cluster scale {host}=... starts it anew"


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
        #: The sessions of engines that were gone when their hosts were asked.
        self._missed: set[str] = set()

    def engines(self) -> list[EngineStatus]:
        """Return all engines, those first that hosts have told of."""
        before = sessions(self._client)
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(self._launcher.report) if self._launcher else None
            work = self._work(before)
            told = asked.result() if asked else {}
        gone = self._gone(before.values(), told)
        registered = sessions(self._client)
        ids = {session: number for number, session in registered.items()}
        found = [
            status
            for host in (self._launcher.wanted if self._launcher else ())
            for status in self._of_host(host, told.get(host), ids, work)
        ]
        named = {status.id for status in found}
        others = (number for number in registered if number not in named)
        return [*found, *(self._unknown(n, registered[n], told, gone, work) for n in others)]

    def _gone(self, registered: Iterable[str], told: Mapping[str, Mapping[str, Any]]) -> set[str]:
        """Return those engines, by their sessions, that are gone, as their hosts have told.

        The controller may not have missed them yet. That they were registered has to be known
        before the hosts are asked: others may come meanwhile.
        """
        answers = {host: answer for host, answer in told.items() if "failed" not in answer}
        living = {
            engine["session"]
            for answer in answers.values()
            for engine in answer.get("engines", ())
            if engine["alive"]
        }
        return {
            session
            for session in registered
            if self._host_of(session) in answers and session not in living
        }

    def _host_of(self, session: str) -> str | None:
        return self._launcher.host_of(session) if self._launcher else None

    def _of_host(
        self,
        host: str,
        told: Mapping[str, Any] | None,
        ids: Mapping[str, int],
        work: Workload,
    ) -> Iterator[EngineStatus]:
        if told is None or not told.get("engines"):
            yield from self._without(host, told or {}, ids)
            return
        for engine in told["engines"]:
            number = ids.get(engine["session"]) if engine["alive"] else None
            yield EngineStatus(
                host,
                engine["number"],
                number,
                engine["pid"],
                engine["alive"],
                *_of(work, number),
                restarts=engine["restarts"],
                why=_why(engine, number),
            )

    def _without(
        self, host: str, told: Mapping[str, Any], ids: Mapping[str, int]
    ) -> Iterator[EngineStatus]:
        """Tell why a host has no engines, as far as is known."""
        assert self._launcher is not None
        is_beginning = self._launcher.is_beginning(host)
        alive = None
        if "failed" in told:
            # its engines may well be registered
            if any(self._host_of(session) == host for session in ids):
                return
            why = told["failed"]
        elif host in self._launcher.failures and ("gone" not in told or is_beginning):
            # it may be tried again this very moment
            why = self._launcher.failures[host]
        elif is_beginning or "engines" in told:
            why = _BEGUN.format(host=host)
        else:
            alive, why = False, _ENDED.format(host=host)
        yield EngineStatus(host, None, None, None, alive, False, 0, why=why)

    def _unknown(
        self,
        number: int,
        session: str,
        told: Mapping[str, Mapping[str, Any]],
        gone: Container[str],
        work: Workload,
    ) -> EngineStatus:
        host = self._host_of(session)
        alive, why = None, ""
        if session in gone:
            alive, why = False, "its host does not know it"
        elif host is not None and (failed := told.get(host, {}).get("failed")):
            why = f"its host cannot be asked: {failed}"
        return EngineStatus(host, None, number, None, alive, *_of(work, number), why=why)

    def _work(self, registered: Mapping[int, str]) -> Workload:
        return workload(self._client, registered, _within)

    def missing(self, engines: int | None, *, idle: bool, limit_s: float) -> str:
        """Tell what is still waited for; empty when nothing is.

        A controller that does not answer is waited for, too: it may be busy.

        Parameters
        ----------
        engines : int or None
            How many engines; None for as many as were started. Those do not count that are
            registered, but gone, as their hosts say.
        idle : bool
            Whether nothing may be waiting or running, instead.
        limit_s : float
            How long hosts may take to answer, in seconds.
        """
        try:
            return self._left() if idle else self._absent(engines, limit_s)
        except ClusterError as e:
            return str(e)

    def _left(self) -> str:
        left = self._work(sessions(self._client)).left
        tasks = "1 task is" if left == 1 else f"{left} tasks are"
        return f"{tasks} waiting or running" if left else ""

    def _absent(self, engines: int | None, limit_s: float) -> str:
        wanted = self._started if engines is None else engines
        registered = set(sessions(self._client).values()) - self._missed
        if len(registered) >= wanted and self._launcher is not None:
            self._missed |= self._gone(registered, self._launcher.report(limit_s))
        there = len(registered - self._missed)
        return f"{there} of {wanted} engines are there" if there < wanted else ""


def _of(work: Workload, number: int | None) -> tuple[bool, int]:
    """Return whether an engine is busy, and how much it has done."""
    return (False, 0) if number is None else (number in work.busy, work.done.get(number, 0))


def _why(engine: Mapping[str, Any], number: int | None) -> str:
    if not engine["alive"]:
        return f"it ended with status {engine['status']}"
    return "" if number is not None else "it has not registered"
