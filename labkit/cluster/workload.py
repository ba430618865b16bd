"""Which engines have something to do, and how much is left, as a controller knows it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import ipyparallel

__all__ = ["Workload", "batches", "records", "workload"]

_T = TypeVar("_T")

#: So many messages are asked about at once: SQLite, in which they may be, takes 1,000 at most.
_TOGETHER = 500

#: What a controller says that keeps no messages.
_NO_DATABASE = "NoData"

#: A controller names what is under way only together with all that it has ever done: that is
#: too much to ask for when it were so many messages.
_MOST_NAMES = 1_000_000


@dataclass(frozen=True, slots=True)
class Workload:
    """What is to be done, without what is over."""

    done: Mapping[int, int]
    """How many messages each engine has answered, by its id; engines that have gone, too."""
    busy: frozenset[int]
    """The engines that have something to do."""
    left: int
    """How many messages wait or run."""


def workload(
    client: ipyparallel.Client, engines: Mapping[int, str], ask: Callable[[Callable[[], Any]], Any]
) -> Workload:
    """Return what a controller has its engines do.

    The controller strikes a message off an engine's list when this engine answers it. One that
    it has passed on, or has died with, stays on its list for ever; that it is over, or another
    engine's by now, only the database tells.

    Parameters
    ----------
    client : ipyparallel.Client
        The connection.
    engines : mapping of int to str
        Those that are registered: their sessions, by their ids.
    ask : callable
        Puts a question to the controller: returns the answer, or raises when none comes.
    """
    counts, waiting = _by_engine(ask(client.queue_status))
    done = {number: has["completed"] for number, has in counts.items()}
    listed = {number: has["queue"] + has["tasks"] for number, has in counts.items()}
    if any(listed.values()) and sum(done.values()) < _MOST_NAMES:
        names, unassigned = _by_engine(ask(functools.partial(client.queue_status, verbose=True)))
        messages = {message for has in names.values() for message in has["queue"] + has["tasks"]}
        found = records(client, ask, messages, ["msg_id", "completed", "engine_uuid"])
        if found is not None:
            # it forgets nothing that is not over
            owners = {e["msg_id"]: e["engine_uuid"] for e in found if e["completed"] is None}
            at_work = set(owners.values())
            busy = {number for number, session in engines.items() if session in at_work}
            return Workload(done, frozenset(busy), len(owners) + len(unassigned))
    listed = {number: count for number, count in listed.items() if count and number in engines}
    return Workload(done, frozenset(listed), waiting + sum(listed.values()))


def _by_engine(answer: dict[Any, Any]) -> tuple[dict[int, dict[str, Any]], Any]:
    """Part an answer into what engines have, by their ids, and what no engine has yet."""
    return {n: has for n, has in answer.items() if isinstance(n, int)}, answer["unassigned"]


def records(
    client: ipyparallel.Client,
    ask: Callable[[Callable[[], Any]], Any],
    messages: Iterable[str],
    keys: list[str],
) -> list[dict[str, Any]] | None:
    """Return what a controller has written down of messages; None when it keeps none."""
    import ipyparallel

    found: list[dict[str, Any]] = []
    for some in batches(sorted(messages)):
        query = {"msg_id": {"$in": some}}
        try:
            found += ask(functools.partial(client.db_query, query, keys=keys))
        except ipyparallel.error.RemoteError as e:
            if e.ename != _NO_DATABASE:
                raise
            return None
    return found


def batches(messages: list[_T]) -> Iterator[list[_T]]:
    """Yield messages, as many at a time as a controller may be asked about at once."""
    for start in range(0, len(messages), _TOGETHER):
        yield messages[start : start + _TOGETHER]
