"""Whether engines can load an experiment: asked before work is sent, and of those that join."""

from __future__ import annotations

import contextlib
import logging
import platform
import time
from collections.abc import Callable, Iterable
from concurrent.futures import wait as wait_for
from typing import Any, NamedTuple

from labkit.bundle import MOST_BYTES
from labkit.engine.hand import ask
from labkit.engine.messages import Chunk
from labkit.errors import ClusterError, ExperimentError
from labkit.labs.connection import Connection
from labkit.labs.sweep import Group
from labkit.source import code_digest

__all__ = ["Piece", "Rehearsal"]

logger = logging.getLogger(__name__)

#: How long idle engines may take to load an experiment, before it is sent to work unchecked.
_LOAD_S = 30.0

#: So long nothing arrives until engines are asked again, in seconds.
_SILENCE_S = 10.0


class Piece(NamedTuple):
    """What engines have to load."""

    experiment: bytes
    """The experiment, as cloudpickle writes it."""
    code: str
    """Digest of its code."""
    bundles: bytes
    """The local packages that it needs, pickled."""

    @classmethod
    def of(cls, chunk: Chunk) -> Piece:
        """Return what a chunk needs."""
        return cls(chunk.experiment, chunk.code, chunk.bundles)


class Rehearsal:
    """Has engines load experiments, and remembers which can.

    An engine that cannot passes on what it gets, and others run that; see
    :func:`labkit.engine.hand.run_chunk`. Here is found out which do so, and when all of them do.
    """

    def __init__(self) -> None:
        # why an engine cannot; empty when it can
        self._known: dict[Piece, dict[int, str]] = {}
        self._asked: dict[tuple[Piece, int], tuple[Any, Any]] = {}
        self._told: set[str] = set()
        self._seen: list[int] = []
        self._arrived = time.monotonic()

    def hold(
        self, group: Group, connection: Connection, is_stopped: Callable[[], bool]
    ) -> list[int]:
        """Have those engines load an experiment that are idle, with the code they lack.

        Parameters
        ----------
        group : Group
            Its points.
        connection : Connection
            To the engines; open.
        is_stopped : callable
            Tells to give up waiting.

        Returns
        -------
        list of int
            The engines that have answered, so that they are idle; the hub may learn that only
            later.

        Raises
        ------
        ClusterError
            When there are no engines.
        ExperimentError
            When none can load it.
        """
        piece = Piece(group.message(), code_digest(group.experiment), group.pickled_bundles())
        ids = connection.client.ids
        if not ids:
            raise ClusterError(
                "the cluster has no engines; when some run, lab.numberOfEngines() shows them"
            )
        # a silence begins when there is something to be heard
        self.note_arrival()
        known = self._known.setdefault(piece, {})
        if all(known.get(engine) == "" for engine in ids):
            return []
        # one that could not has passed on what it got, and is idle, though it may not look so
        idle = [engine for engine in ids if known.get(engine)]
        idle += [engine for engine in connection.hub.idle() if engine not in idle]
        connection.courier.supply_code(piece.bundles, idle, is_stopped)
        for engine in idle:
            known.pop(engine, None)
            self._ask(piece, engine, connection)
        asked = [self._asked[piece, engine] for engine in idle if (piece, engine) in self._asked]
        wait_for([answer for both in asked for answer in both], timeout=_LOAD_S)
        self._take()
        if why := self._why_nobody(piece, ids):
            raise ExperimentError(
                f"{type(group.experiment).__qualname__} cannot be loaded on {len(ids)} of "
                f"{len(ids)} engines: {why}. Install what is missing there: packages beside the "
                f"notebook travel by themselves, up to {MOST_BYTES / 2**20:.0f} MB"
            )
        return [engine for engine in idle if engine in known]

    def look(self, pieces: Iterable[Piece], connection: Connection) -> dict[Piece, str]:
        """Take the answers of engines, and ask those that have come; wait for nothing.

        Returns
        -------
        dict of Piece to str
            What no engine can load, and why.
        """
        self._take()
        ids = self._seen = list(connection.client.ids)
        hopeless = {}
        for piece in pieces:
            known = self._known.setdefault(piece, {})
            for engine in ids:
                if engine not in known and (piece, engine) not in self._asked:
                    self._ask(piece, engine, connection)
            if why := self._why_nobody(piece, ids):
                hopeless[piece] = why
        return hopeless

    def has_news(self, ids: list[int]) -> bool:
        """Test whether there are other engines than when it was looked last, or answers."""
        return ids != self._seen or any(answer.done() for _, answer in self._asked.values())

    def note_arrival(self) -> None:
        """Note that engines do run what they get."""
        self._arrived = time.monotonic()

    def doubt_a_silence(self) -> None:
        """Have all engines asked again when nothing arrives from them.

        Those that are at work answer when they have done with it.
        """
        if not self._asked and time.monotonic() - self._arrived > _SILENCE_S:
            self._arrived = time.monotonic()
            self._known.clear()

    def forget(self) -> None:
        """Forget it all: there are other engines."""
        self._known.clear()
        self._asked.clear()
        self._told.clear()

    def _why_nobody(self, piece: Piece, ids: list[int]) -> str:
        known = self._known[piece]
        reasons = [known.get(engine, "") for engine in ids]
        return reasons[0] if reasons and all(reasons) else ""

    def _ask(self, piece: Piece, engine: int, connection: Connection) -> None:
        # one that has gone meanwhile is an index out of range
        with contextlib.suppress(IndexError):
            view = connection.client[engine]
            where = view.apply_async(platform.node)
            self._asked[piece, engine] = where, view.apply_async(ask, "why_not_loadable", *piece)

    def _take(self) -> None:
        """Take the answers that are there."""
        for (piece, engine), (where, answer) in list(self._asked.items()):
            if not answer.done():
                continue
            del self._asked[piece, engine]
            why = _problem(where, answer)
            if why is not None:
                self._known.setdefault(piece, {})[engine] = why
                self._tell(why)

    def _tell(self, why: str) -> None:
        if why and why not in self._told:
            self._told.add(why)
            logger.warning("engines cannot load an experiment, and others run it: %s", why)


def _problem(where: Any, answer: Any) -> str | None:
    """Return why an engine cannot load an experiment, and empty if it can; None if it has gone."""
    e = answer.exception()
    if e is None:
        problem: bytes = answer.result()
        return problem.decode()
    name = getattr(e, "ename", type(e).__name__)
    if name in ("EngineError", "TaskAborted"):
        return None
    # it cannot even load labkit
    host = where.result() if where.done() and where.exception() is None else "another host"
    return f"on {host}: {name}: {getattr(e, 'evalue', e)}"
