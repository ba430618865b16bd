"""A lab on a cluster of ipyparallel engines."""

from __future__ import annotations

import atexit
import math
import os
import time
from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import epyc

from labkit.attachment import Attachment
from labkit.engine.hand import run_chunk
from labkit.engine.messages import Chunk
from labkit.errors import ClusterError, MissingAttachmentError
from labkit.labs.background import Background
from labkit.labs.chunkedlab import ChunkedLab
from labkit.labs.connection import Connection
from labkit.labs.enrolment import Enrolment
from labkit.labs.leftovers import Leftovers
from labkit.labs.progress import Progress, shell
from labkit.labs.recording import Runs, count, record
from labkit.labs.rehearsal import Piece, Rehearsal
from labkit.labs.resumed import Resumed, fetch, messages_of, on_their_way
from labkit.labs.stopping import interrupt
from labkit.labs.sweep import Sweep
from labkit.labs.traffic import Sent
from labkit.notebook.labnotebook import SentChunk

if TYPE_CHECKING:
    import ipyparallel

    from labkit.designs import Design
    from labkit.notebook import LabNotebook

__all__ = ["ClusterLab"]

#: How long a lab that is closed waits for a controller behind a tunnel, in seconds.
_SEE_OFF_S = 5.0

#: From one question to the next, while messages are on their way.
_MOMENT_S = 0.05


class ClusterLab(ChunkedLab, epyc.ClusterLab):
    """Runs experiments on the engines of a cluster; ``runExperiment`` returns when all is sent.

    Results are taken by :meth:`wait`, :meth:`updateResults`, and whatever reads them. With
    a durable notebook the lab may end meanwhile: another one on the same notebook and
    cluster takes over.

    Parameters
    ----------
    notebook : LabNotebook, optional
        Where outcomes go; by default into memory.
    url_file : str, optional
        The cluster's ``ipcontroller-client.json``.
    profile, profile_dir, ipython_dir, context, debug, sshserver, sshkey, password, paramiko, \
timeout, cluster_id
        As epyc's lab and ipyparallel's Client have them.
    n : int, optional
        Start an own cluster of so many engines on this machine; it ends with the lab.
    design : Design, optional
        What turns ranges into points; by default all combinations.
    retries : int
        How often a point that ended its engine is tried again.
    **extra_args
        For ipyparallel's Client.

    Raises
    ------
    ClusterStartError
        When there is no such cluster, or the own one does not come up.
    ProfileError
        When there is no such profile.

    Examples
    --------
    >>> from labkit import ClusterLab
    >>> with ClusterLab(n=1) as lab:
    ...     lab.numberOfEngines()
    1
    """

    def __init__(  # noqa: PLR0913, PLR0917  # epyc's arguments, in epyc's order
        self,
        notebook: LabNotebook | None = None,
        url_file: str | os.PathLike[str] | None = None,
        profile: str | None = None,
        profile_dir: str | None = None,
        ipython_dir: str | None = None,
        context: Any = None,
        debug: bool = False,
        sshserver: str | None = None,
        sshkey: str | None = None,
        password: str | None = None,
        paramiko: bool | None = None,
        timeout: float = 10,
        cluster_id: str | None = None,
        *,
        n: int | None = None,
        design: Design | None = None,
        retries: int = 2,
        **extra_args: Any,
    ) -> None:
        ChunkedLab.__init__(self, notebook, design)
        self._begin(retries)
        arguments = {
            "url_file": url_file,
            "profile": profile,
            "profile_dir": profile_dir,
            "ipython_dir": ipython_dir,
            "context": context,
            "debug": debug,
            "sshserver": sshserver,
            "sshkey": sshkey,
            "password": password,
            "paramiko": paramiko,
            "timeout": timeout,
            "cluster_id": cluster_id,
            **extra_args,
        }
        # engines wake the traffic, not self: that would keep the lab alive
        self._connection = Connection(n, arguments, self._traffic.wake)
        self._rehearsal = Rehearsal()
        self._background: Background | None = None
        self._leftovers: Leftovers | None = None
        self._noted: set[str] = set()
        self._noted_at = 0.0
        self._asked_at = -math.inf
        self._known_at_hub: list[str] = []
        self._late_at_hub: set[str] = set()
        self.open()

    # ---------- connection ----------

    @property
    def _client(self) -> ipyparallel.Client | None:
        """The client, by epyc's name for it: what of epyc's is not overridden uses it."""
        return self._connection.client if self._connection.is_open else None

    def connect(self) -> None:
        """Connect to the cluster, if there is no connection."""
        if self._connection.is_open:
            return
        self._connection.open()
        if self._connection.own is not None:
            self._share_files()
        self.activate()
        try:
            self._go_on_after_reconnection()
        except BaseException:
            # or what is under way would never be asked for
            self._disconnect()
            raise
        if self._background is None and self.notebook().isConcurrent():
            self._background = Background(self)
            # before the notebook is closed at the end of the interpreter
            atexit.register(self._background.end)

    def _go_on_after_reconnection(self) -> None:
        """Ask for what the hub has kept, save what spools have, and send the rest again."""
        lost = [sent for sent in self._traffic if not sent.future.done()]
        kept = self._kept_of(lost)
        gone = [sent for sent in lost if sent not in kept]
        for sent in gone:
            self._traffic.remove(sent)
        for sent, message in kept.items():
            self._traffic.follow(sent, Resumed(message))
        names = [sent.chunk.name for sent in gone]
        self._noted.difference_update(names)
        for sent in gone:
            self._save(sent)
            self._send_pending(sent.chunk)
        self.notebook().dropChunks(names)
        self._note_chunks()

    def _kept_of(self, lost: list[Sent]) -> dict[Sent, str]:
        """Return which of these the hub still has, and their messages; an own one is another."""
        messages = {sent: m for sent in lost for m in messages_of([sent.future])}
        if not messages or self._connection.own is not None:
            return {}
        kept = self._connection.hub.keeps(list(messages.values()))
        return {sent: message for sent, message in messages.items() if message in kept}

    def activate(self) -> None:
        """Let the magics of a notebook (``%px``) use this lab's cluster.

        Raises
        ------
        ClusterError
            When the lab is closed.
        """
        if not self._connection.is_open:
            raise ClusterError("the lab is closed: open it, and then activate it")
        if shell() is not None:
            self._connection.client.direct_view().activate()

    def open(self) -> None:
        """Connect to the cluster, or start the own one, if there is no connection."""
        self.connect()

    def close(self) -> None:
        """Let go of the cluster, and stop it if it is the lab's own; close the notebook.

        What an own cluster has not finished is missing then; what another cluster has
        not finished stays pending, and the next lab takes it.
        """
        self._end_background()
        self._see_off()
        self._disconnect()
        if self._connection.own is not None:
            self._connection.end()
            self.abandon()
        self._traffic.clear()
        self._noted.clear()
        self._attachments.clear()
        super().close()

    def recreate(self) -> tuple[str, dict[str, Any]]:
        """Return the class and arguments that make such a lab again."""
        name, arguments = epyc.Lab.recreate(self)
        known = self._connection
        return name, {**arguments, **known.arguments, "n": known.engines}

    def _connected(self) -> Connection:
        """Return the connection, which is open.

        Raises
        ------
        ClusterError
            When the lab's own cluster has ended.
        """
        if self._connection.is_lost():
            self._disconnect()
        self.open()
        return self._connection

    def _end_background(self) -> None:
        if self._background is not None:
            self._background.end()
            atexit.unregister(self._background.end)
            self._background = None

    def _disconnect(self) -> None:
        self._connection.close()
        self._leftovers = None
        self._rehearsal.forget()

    def numberOfEngines(self) -> int:
        """Return the number of engines that are there now."""
        return self._width()

    # ---------- sending ----------

    def _width(self) -> int:
        return len(self._connected().client.ids)

    def _spool_folder(self) -> Path | None:
        folder = super()._spool_folder()
        if folder is None and self._connection.own is not None:
            return self._connection.own.folder / "spool"
        return folder

    def _run(self, sweep: Sweep) -> None:
        notebook = self.notebook()
        present: set[int] = set()
        for group in sweep.groups:
            present.update(
                self._rehearsal.hold(group, self._connected(), lambda: self._is_draining)
            )
        self._supply(self._attach(sweep), present)
        # or what is pending now, and not sent, would be taken for an earlier lab's
        self._left_behind()
        enrolment = Enrolment(notebook.current(), sweep)
        try:
            # a notebook that refuses points does so before any work starts
            enrolment.advance()
            self._launch(sweep, enrolment)
            self._await_arrival()
        finally:
            self._note_chunks()
            # after an interruption there are some: they are missing, not pending
            notebook.dropPendingResults(notebook.unsentResults())
            notebook.commit()

    def _supply(self, attachments: list[Attachment], present: set[int]) -> None:
        """Bring attachments where engines are idle; others say what they miss when they need it.

        Those present have just answered, which the hub may not have noted yet.
        """
        if attachments:
            to = self._connected()
            idle = present.union(to.hub.idle())
            there = [engine for engine in to.client.ids if engine in idle]
            to.courier.supply(attachments, there, lambda: self._is_draining)

    def _bring(self, missing: MissingAttachmentError, attachment: Attachment) -> Future[bytes]:
        assert missing.engine is not None
        return self._connected().courier.bring(missing.engine, missing.store, attachment)

    def _submit(self, chunk: Chunk, message: bytes) -> Future[bytes]:
        view = self._reconnected().client.load_balanced_view()
        with view.temp_flags(retries=chunk.elsewhere):
            result: Future[bytes] = view.apply_async(run_chunk, chunk.order, message)
        return result

    def _others(self) -> int:
        return self._width() - 1

    def _reconnected(self) -> Connection:
        """Return the connection, which is open; one that the network has cut off is waited for."""
        while True:
            with self._connection.outlasting():
                return self._connected()

    def _await_arrival(self) -> None:
        """Wait until the controller has all that was sent: a tunnel may end with some of it.

        What has not arrived in a lab that is drained is found out when it is asked for.
        """
        while self._connection.is_tunnelled and not self._is_draining:
            with self._connection.outlasting():
                if not self._connected().hub.lacks(on_their_way(self._traffic.futures())):
                    return
            time.sleep(_MOMENT_S)

    def _see_off(self) -> None:
        """Give what was sent last some time to get through a tunnel that is about to end."""
        to = self._connection
        deadline = time.monotonic() + _SEE_OFF_S
        with suppress(ClusterError):
            while to.is_tunnelled and to.is_open and not to.is_lost():
                lacking = to.hub.lacks(on_their_way(self._traffic.futures()))
                if not lacking or time.monotonic() > deadline:
                    return
                time.sleep(_MOMENT_S)

    def _note_progress(self) -> None:
        if time.monotonic() - self._noted_at > self._LOOK_S:
            self._note_chunks()

    def _note_chunks(self) -> None:
        """Note in the notebook which messages carry what is pending."""
        self._noted_at = time.monotonic()
        fresh: list[tuple[Chunk, Any]]
        fresh = [
            (sent.chunk, sent.future)
            for sent in self._traffic
            if sent.chunk.name not in self._noted and _is_message(sent.future)
        ]
        cluster = self._connection.name
        self.notebook().recordChunks(
            [
                SentChunk(c.name, c.sweep, c.first, c.stop, cluster, result.msg_ids[0])
                for c, result in fresh
            ]
        )
        self._noted.update(chunk.name for chunk, _ in fresh)

    def _withdraw(self, futures: list[Future[bytes]]) -> None:
        waiting = [future for future in futures if not future.done()]
        sent = [future for future in waiting if _is_message(future)]
        if sent:
            self._connected().client.abort(messages_of(sent), block=False)
        for future in waiting:
            if not _is_message(future):
                future.cancel()

    # ---------- cancelling ----------

    def cancel(self, tag: str | None = None, params: Mapping[str, Any] | None = None) -> int:
        """Give up what is pending: what waits never begins, what runs is stopped.

        The points are recorded as failed, by ``CancelledException``; with
        ``runExperiment(e, only="failed")`` they run after all. Other points that a stopped
        engine still had to run go elsewhere.

        Parameters
        ----------
        tag : str, optional
            The result set; by default all of them.
        params : mapping, optional
            Only points with these parameters; several values mean any of them.

        Returns
        -------
        int
            How many points that were.

        Raises
        ------
        UnknownResultSetError
            When there is no such result set.
        """
        notebook = self.notebook()
        self.updateResults()
        cancelled: set[str] = set()
        # nobody records meanwhile
        with self._taking:
            for each in notebook.resultSets() if tag is None else [tag]:
                rs = notebook.resultSet(each)
                jobs = rs.pendingResults() if params is None else rs.pendingResultsFor(params)
                rs.cancelPendingResults(jobs)
                cancelled.update(jobs)
        self._stop_cancelled(cancelled)
        return len(cancelled)

    def _stop_cancelled(self, jobs: set[str]) -> None:
        concerned: list[Any] = [
            sent.future for sent in self._traffic if not jobs.isdisjoint(sent.chunk.jobs())
        ]
        messages = set(messages_of(concerned))
        inherited = self._left_behind().carrying_only(jobs)
        if not concerned and not inherited:
            return
        client = self._connected().client
        self._withdraw(concerned)
        if inherited:
            client.abort(inherited, block=False)
            messages.update(inherited)
        interrupt(self._connected(), messages, [f for f in concerned if not isinstance(f, Resumed)])

    def _is_engine_loss(self, e: BaseException) -> bool:
        # ipyparallel's controller answers for the engine, with the name of its own exception
        return getattr(e, "ename", type(e).__name__) == "EngineError"

    # ---------- taking ----------

    def _take(self, timeout_s: float) -> Runs:
        if self._connection.is_open:
            self._connection.courier.advance()
            if self._rehearsal.has_news(self._connection.client.ids):
                self._look_at_engines()
        runs = super()._take(timeout_s)
        if runs and self._connection.is_open:
            self._rehearsal.note_arrival()
        cut_short, self._cut_short = self._cut_short, []
        self.notebook().dropChunks(cut_short)
        self._purge()
        return runs

    def _purge(self) -> None:
        """Have the hub forget what is recorded."""
        known, self._known_at_hub = self._known_at_hub, []
        if not known:
            return
        late, self._late_at_hub = self._late_at_hub, set()
        try:
            kept = self._connected().hub.purge([*known, *late])
            # each is tried twice: what was aborted it would keep for ever
            self._late_at_hub = set(kept) - late
        except ClusterError:
            # it has died, which no longer matters when everything has arrived
            if self._traffic:
                self._known_at_hub += known
                raise

    def _is_withdrawal(self, e: BaseException) -> bool:
        import ipyparallel

        return super()._is_withdrawal(e) or isinstance(e, ipyparallel.error.TaskAborted)

    def _forget(self, sent: Sent) -> None:
        super()._forget(sent)
        self._noted.discard(sent.chunk.name)
        if not _is_message(sent.future):
            return
        messages = messages_of([sent.future])
        if self._connection.is_open:
            self._connection.hub.note_arrival()
            self._connection.client.purge_local_results(messages)
        if self._connection.own is None:
            self._known_at_hub += messages

    def _advance(self, timeout_s: float, bar: Progress) -> None:
        with self._connection.outlasting():
            super()._advance(timeout_s, bar)

    def _look_around(self) -> int:
        hub = self._connected().hub
        hub.feel_pulse()
        self._look_at_engines()
        self._rehearsal.doubt_a_silence()
        self._note_chunks()
        fetch(self._traffic.futures(), hub)
        return self._left_behind().collect(hub)

    def _look_at_engines(self) -> None:
        """Ask engines that have joined whether they can load what is under way.

        What no engine can, any more, is recorded as failed: it would wait for ever.
        """
        # there may be thousands of chunks of one experiment
        different = {id(sent.chunk.experiment): sent.chunk for sent in self._traffic}
        hopeless = self._rehearsal.look(map(Piece.of, different.values()), self._connection)
        for sent in self._traffic if hopeless else ():
            why = hopeless.get(Piece.of(sent.chunk))
            if why is None or sent.future.done():
                continue
            with self._taking:
                self._withdraw([sent.future])
                for part in self._pending_of(sent.chunk):
                    record(self.notebook(), self._unloadable(part, f"no engine can: {why}").runs)
                self._cut_short.append(sent.chunk.name)
                self._traffic.remove(sent)
                # its message stays with the controller, which has nobody to give it to
                super()._forget(sent)
                self._noted.discard(sent.chunk.name)

    def _left_behind(self) -> Leftovers:
        """Return what an earlier lab has left pending on this cluster."""
        if self._leftovers is None:
            mine = self._traffic.names()
            self._leftovers = Leftovers(self.notebook(), self._connection.name, mine)
        return self._leftovers

    def _settle(self) -> None:
        self.updateResults()

    def updateResults(self, purge: bool = False) -> int:
        """Take what has arrived, without waiting.

        When the network has cut off a tunnel to the cluster, that is nothing, and a warning is
        logged.

        Parameters
        ----------
        purge : bool
            For epyc's sake: results whose engines were lost are always given up after their
            retries, and never hold up others.

        Returns
        -------
        int
            How many results that were.
        """
        if not self.notebook().anyPending():
            return 0
        if not self._connection.is_open and self._connection.engines is not None:
            # a cluster that would be started for this knows of nothing
            return 0
        found = 0
        # what the notebook has can be read without a network
        with self._connection.outlasting():
            hub = self._connected().hub
            fetch(self._traffic.futures(), hub)
            found = self._left_behind().collect(hub)
            found += count(self._take(0.0))
        return found

    def wait(self, timeout: float = -1) -> bool:
        """Wait until nothing is pending in any result set.

        When the network cuts off a tunnel to the cluster, this goes on when it is back.

        Parameters
        ----------
        timeout : float
            In seconds; negative waits for ever.

        Returns
        -------
        bool
            Whether everything is there. False, too, when results are pending that this
            cluster does not have.

        Raises
        ------
        ClusterError
            When the lab's own cluster has ended. What is pending stays so.
        """
        notebook = self.notebook()
        self._asked_at = -math.inf
        self.updateResults()
        # the bar has what is recorded from here on
        with self._taking:
            total = notebook.numberOfAllPendingResults()
            self._ingested.take()
        try:
            self._work_off(self._is_all_here, total, timeout)
        finally:
            notebook.commit()
        if notebook.anyPending():
            return False
        self._close_spool()
        return True

    def _is_all_here(self) -> bool:
        if not self._traffic and not self._left_behind():
            return True
        # what comes may be pending no more, as when it was cancelled; to ask each time would be
        # an eighth of what a lab does while points are slow
        if time.monotonic() - self._asked_at < self._LOOK_S:
            return False
        self._asked_at = time.monotonic()
        return not self.notebook().anyPending()


def _is_message(future: Future[bytes]) -> bool:
    """Test whether a chunk was sent; else it waits for an attachment."""
    return hasattr(future, "msg_ids")
