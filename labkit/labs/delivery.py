"""How attachments get to the hosts of a cluster: once to each store, a few parts at a time."""

from __future__ import annotations

import pickle
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future
from concurrent.futures import wait as wait_for
from typing import TYPE_CHECKING, Any

from labkit.attachment import Attachment, parts
from labkit.engine.hand import ask
from labkit.engine.store import Stock, Store, complete, lacks, receive, stock
from labkit.errors import AttachmentStoreError
from labkit.labs.resumed import messages_of

if TYPE_CHECKING:
    import ipyparallel

    from labkit.bundle import Bundle
    from labkit.labs.hub import Hub

__all__ = ["ARRIVED", "Courier", "arrived"]

#: What the future of a delivery gives when it is worth sending a chunk again.
ARRIVED = b""

#: How long idle engines may take to say what they have.
_SURVEY_S = 10.0

#: An engine that is silent so long does something else: what waits for it may go elsewhere.
_STALL_S = 10.0

#: How many parts are under way to one engine, and to how many engines at a time.
_WINDOW, _AT_ONCE = 2, 4

#: How often one engine is brought the same attachment.
_TIMES = 3

#: So many of the newest answers stay at the hub, which may not have noted them yet.
_AT_HUB = 4

_LOOK_S = 0.5

#: A function for an engine, and its arguments.
_Step = tuple[Callable[..., Any], tuple[Any, ...]]


class Courier:
    """Brings attachments to the stores of engines, through the cluster's own messages.

    Nothing here runs by itself: whoever waits for the cluster calls :meth:`advance`, and
    is woken when there is reason to.

    Parameters
    ----------
    client : ipyparallel.Client
        The cluster.
    hub : Hub
        Its hub.
    wake : callable
        Called, on any thread, when an engine has answered.
    is_own : bool
        Whether the cluster is the lab's own: then it shares the lab's store, and its hub
        keeps no messages.
    """

    def __init__(
        self,
        client: ipyparallel.Client,
        hub: Hub,
        wake: Callable[[], None],
        is_own: bool = False,
    ) -> None:
        self._client, self._hub, self._wake = client, hub, wake
        self._is_own = self._shares_store = is_own
        self._deliveries: dict[tuple[str, str], _Delivery] = {}
        self._times: Counter[tuple[int, str]] = Counter()
        self._answered: list[Any] = []

    def supply(
        self,
        attachments: Sequence[Attachment],
        engines: Sequence[int],
        is_stopped: Callable[[], bool],
    ) -> None:
        """Bring attachments to all stores that these engines see, before work is sent.

        Parameters
        ----------
        attachments : sequence of Attachment
            What will be needed.
        engines : sequence of int
            Engines that are idle: others could not answer soon.
        is_stopped : callable
            Tells to give up waiting.

        Raises
        ------
        AttachmentStoreError
            When a store cannot be written.
        """
        if self._shares_store:
            for attachment in attachments:
                Store().put(attachment)
        receivers: dict[tuple[str, str], int] = {}
        for engine, said in self._survey(attachments, engines):
            if said.missing and said.problem:
                raise AttachmentStoreError(f"engine {engine} {said.problem}")
            for digest in said.missing:
                receivers.setdefault((said.store, digest), engine)
        known = {a.digest: a for a in attachments}
        futures = [self.bring(n, store, known[d]) for (store, d), n in receivers.items()]
        while not all(future.done() for future in futures) and not is_stopped():
            self.advance()
            sent = [result for d in self._deliveries.values() for result in d.sent]
            wait_for(sent, timeout=_LOOK_S, return_when=FIRST_COMPLETED)
        for future in futures:
            if future.done():
                future.result()

    def supply_code(
        self, pickled: bytes, engines: Sequence[int], is_stopped: Callable[[], bool]
    ) -> None:
        """Bring local packages where engines would not import the very same by themselves.

        Parameters
        ----------
        pickled : bytes
            Bundles, or nothing.
        engines : sequence of int
            Engines that are idle.
        is_stopped : callable
            Tells to give up waiting.

        Raises
        ------
        AttachmentStoreError
            When a store cannot be written.
        """
        if not pickled or not engines:
            return
        asked = {n: self._client[n].apply_async(ask, "lacking", pickled) for n in engines}
        wait_for(asked.values(), timeout=_SURVEY_S)
        answered = {n: r for n, r in asked.items() if r.done() and r.exception() is None}
        self._answered += answered.values()
        said = {n: pickle.loads(result.result()) for n, result in answered.items()}
        lacking = {digest for digests in said.values() for digest in digests}
        bundles: Sequence[Bundle] = pickle.loads(pickled)
        archives = [b.archive for b in bundles if b.archive.digest in lacking]
        if archives:
            self.supply(archives, [n for n, digests in said.items() if digests], is_stopped)

    def _survey(
        self, attachments: Sequence[Attachment], engines: Sequence[int]
    ) -> Iterator[tuple[int, Stock]]:
        asked = {n: self._client[n].apply_async(stock, list(attachments)) for n in engines}
        wait_for(asked.values(), timeout=_SURVEY_S)
        for engine, result in asked.items():
            # others were lost, or work by now: they will say what they miss
            if result.done() and result.exception() is None:
                self._answered.append(result)
                yield engine, result.result()

    def bring(self, engine: int, store: str, attachment: Attachment) -> Future[bytes]:
        """Begin to bring an attachment to an engine's store, or join who does already.

        Parameters
        ----------
        engine : int
            The engine.
        store : str
            The id of its store.
        attachment : Attachment
            What is missing there.

        Returns
        -------
        Future
            Gives :data:`ARRIVED` when the attachment is there, or the engine has ended or
            works on something else; or the AttachmentStoreError that the engine has met.

        Raises
        ------
        AttachmentStoreError
            When the lab's own store cannot be written, or it was brought in vain before.
        """
        if self._is_lab_store(store) and not Store().has(attachment):
            self._shares_store = True
            Store().put(attachment)
            return arrived()
        if self._times[engine, attachment.digest] >= _TIMES:
            raise AttachmentStoreError(
                f"attachment {attachment.digest} was brought to engine {engine} {_TIMES} times "
                f"and is not there: look whether something empties its store {store}"
            )
        key = store, attachment.digest
        if key not in self._deliveries:
            self._deliveries[key] = _Delivery(self._client, engine, attachment, self._wake)
        future: Future[bytes] = Future()
        self._deliveries[key].waiting.append(future)
        self.advance()
        return future

    def _is_lab_store(self, store: str) -> bool:
        try:
            return store == Store().id
        except AttachmentStoreError:
            # a lab may have none: all it has goes through messages
            return False

    def advance(self) -> None:
        """Take the answers of engines, and send them what comes next."""
        self._forget(self._answered[:-_AT_HUB] if self._deliveries else self._answered)
        working = 0
        for key, delivery in list(self._deliveries.items()):
            if delivery.is_stalled():
                delivery.settle()
            elif working < _AT_ONCE or delivery.sent:
                working += 1
            else:
                continue
            self._step(key, delivery)

    def _step(self, key: tuple[str, str], delivery: _Delivery) -> None:
        try:
            is_there = delivery.advance(self._answered)
        except Exception as e:
            del self._deliveries[key]
            delivery.settle(_reason(delivery, e))
            return
        if is_there:
            del self._deliveries[key]
            self._times[delivery.engine, key[1]] += delivery.was_needed
            delivery.settle()

    def _forget(self, answered: list[Any]) -> None:
        """Have client and hub forget messages: they keep what was in them."""
        if not answered:
            return
        self._client.purge_local_results(answered)
        if not self._is_own:
            self._hub.purge(messages_of(answered))
        self._answered = self._answered[len(answered) :]


class _Delivery:
    """One attachment on its way to one engine."""

    def __init__(
        self,
        client: ipyparallel.Client,
        engine: int,
        attachment: Attachment,
        wake: Callable[[], None],
    ) -> None:
        self.engine, self.attachment = engine, attachment
        self.sent: list[Any] = []
        self.waiting: list[Future[bytes]] = []
        self.was_needed = False
        self._client, self._wake = client, wake
        self._steps = _steps(attachment)
        self._next: _Step | None = next(self._steps)
        self._last: Callable[..., Any] | None = None
        self._heard = time.monotonic()

    def is_stalled(self) -> bool:
        return bool(self.sent) and time.monotonic() - self._heard > _STALL_S

    def advance(self, answered: list[Any]) -> bool:
        """Take answers, and send what may follow; return whether the store has it all."""
        for result in [r for r in self.sent if r.done()]:
            self.sent.remove(result)
            answered.append(result)
            self._heard = time.monotonic()
            if result.result() is False:  # the store does not lack it
                return True
        while self._next is not None and self._may_send(self._next[0]):
            self._send(*self._next)
            self._next = next(self._steps, None)
        return not self.sent and self._next is None

    def _may_send(self, function: Callable[..., Any]) -> bool:
        """Test whether a step need not wait: parts go side by side, all else alone."""
        is_part = function is self._last is receive
        return not self.sent or (is_part and len(self.sent) < _WINDOW)

    def _send(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        if not self.sent:
            self._heard = time.monotonic()
        self.was_needed |= function is not lacks
        result = self._client[self.engine].apply_async(function, *arguments)
        wake = self._wake
        result.add_done_callback(lambda _: wake())
        self.sent.append(result)
        self._last = function

    def settle(self, e: AttachmentStoreError | None = None) -> None:
        """Tell those that wait how it went."""
        for future in self.waiting:
            if not future.done() and e is None:
                future.set_result(ARRIVED)
            elif not future.done():
                future.set_exception(e)
        self.waiting.clear()


def _steps(attachment: Attachment) -> Iterator[_Step]:
    """Yield what an engine has to do to get an attachment."""
    name = uuid.uuid4().hex
    yield lacks, (attachment,)
    for start, part in parts(attachment.array):
        yield receive, (attachment, name, start, part.tobytes())
    yield complete, (attachment, name)


def _reason(delivery: _Delivery, e: Exception) -> AttachmentStoreError | None:
    """Return what an engine has said against an attachment; None when it was lost instead."""
    # an IndexError of the client's: there is no such engine any more
    lost = ("EngineError", "TaskAborted", "IndexError")
    if getattr(e, "ename", type(e).__name__) in lost:
        return None
    said = getattr(e, "evalue", e)
    return AttachmentStoreError(f"engine {delivery.engine} could not take an attachment: {said}")


def arrived() -> Future[bytes]:
    """Return the future of a delivery that is done."""
    future: Future[bytes] = Future()
    future.set_result(ARRIVED)
    return future
