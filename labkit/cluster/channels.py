"""The connection with the agent of one host, over the system's ssh."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import os
import queue
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from labkit.cluster import login
from labkit.errors import ClusterError

__all__ = ["Channel", "command"]

#: A host that is gone is noticed.
_ALIVE = ("-o", "ServerAliveInterval=15")

#: Pieces in which files are sent, in bytes.
_PIECE = 2**20

#: How long an agent may take to let go of a connection that was cut, in seconds.
_LET_GO_S = 5.0

#: The modules that a host gets, each after those that it imports.
_SENT = (
    "hostprocesses",
    "hostrequests",
    "hostenvironment",
    "hostprobe",
    "hostengines",
    "hostagent",
)

_UNPACK = """\
import sys, types
for name, text in {modules!r}:
    module = sys.modules[name] = types.ModuleType(name)
    exec(compile(text, name, "exec"), vars(module))
module.main(r)
"""

_Report = dict[str, Any]


@functools.cache
def source() -> str:
    """Return what a host is to execute."""
    here = Path(__file__)
    texts = [(f"labkit.cluster.{name}", here.with_name(f"{name}.py").read_text()) for name in _SENT]
    return _UNPACK.format(modules=[("labkit", ""), ("labkit.cluster", ""), *texts])


def command(line: str, words: Sequence[str] | None, connect_s: float) -> list[str]:
    """Return what connects with an agent.

    Parameters
    ----------
    line : str
        What the host's shell is to execute.
    words : sequence of str or None
        ssh's arguments, the address last; None for this machine.
    connect_s : float
        How long ssh may try, in seconds.

    Examples
    --------
    >>> command("exec true", None, 1)
    ['sh', '-c', 'exec true']
    """
    if words is None:
        return ["sh", "-c", line]
    *options, address = words
    return [*login.ssh(*login.NO_FORWARDS, *_ALIVE, connect_s=connect_s), *options, address, line]


class Channel:
    """Speaks with one agent.

    Parameters
    ----------
    host : str
        The host's name, as it is told.
    words : sequence of str
        What connects with it.
    token : str
        What its reports begin with.

    Raises
    ------
    OSError
        When no process can be started here.

    Reports are read by a thread of its own; all else may be called from any other.
    """

    def __init__(self, host: str, words: Sequence[str], token: str) -> None:
        self.host = host
        self._token = token.encode()
        self._reports: queue.Queue[_Report | None] = queue.Queue()
        self._listener: Callable[[_Report | None], None] = self._reports.put
        self._lock = threading.Lock()
        # a file, not a pipe: what ssh leaves in the background would keep a pipe open
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115, closed in close
        try:
            self._ssh = subprocess.Popen(
                words,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                # Ctrl-C is for the launcher
                start_new_session=True,
                # engines of this machine inherit what is not for ssh
                env={**os.environ, **login.UNASKED} if words[0] == "ssh" else None,
            )
        except OSError:
            self._errors.close()
            raise
        self._thread = threading.Thread(target=self._read, name=f"agent of {host}", daemon=True)
        self._thread.start()

    def request(self, **what: Any) -> None:
        """Send the agent its source, and what it is to do."""
        self.send(agent=source(), token=self._token.decode(), host=self.host, **what)

    def send(self, **what: Any) -> None:
        """Send a line.

        Raises
        ------
        ClusterError
            When the connection has ended.
        """
        self._write(io.BytesIO(json.dumps(what).encode() + b"\n"))

    def send_file(self, path: Path) -> int:
        """Send a file, after a line with its name and size; return the size, in bytes.

        Raises
        ------
        ClusterError
            When the connection has ended.
        """
        size = path.stat().st_size
        self.send(name=path.stem, size=size)
        with path.open("rb") as content:
            self._write(content)
        return size

    def _write(self, content: BinaryIO) -> None:
        assert self._ssh.stdin is not None
        try:
            shutil.copyfileobj(content, self._ssh.stdin, _PIECE)
            self._ssh.stdin.flush()
        except (OSError, ValueError) as e:
            raise ClusterError(f"{self.host}: {self.why_ended()}") from e

    def receive(self, deadline: float) -> _Report:
        """Return the next report.

        Raises
        ------
        ClusterError
            When there is none until the deadline, of the monotonic clock, or the agent has
            failed.
        """
        try:
            report = self._reports.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            raise ClusterError(f"{self.host}: no answer in time") from None
        if report is None:
            raise ClusterError(f"{self.host}: {self.why_ended()}")
        if "failed" in report:
            raise ClusterError(f"{self.host}: {report['failed']}")
        return report

    def listen(self, listener: Callable[[_Report | None], None]) -> None:
        """Have all further reports told to a listener, and None when there will be no more."""
        with self._lock:
            self._listener = listener
            while not self._reports.empty():
                listener(self._reports.get())

    def why_ended(self) -> str:
        """Tell why the connection has ended: what ssh or the host's shell said last."""
        try:
            status = self._ssh.wait(timeout=1)
        except subprocess.TimeoutExpired:
            return "the connection hangs"
        if self._errors.closed:
            return "the connection was closed"
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1].strip() if lines else f"the connection ended with status {status}"

    def join(self, timeout_s: float) -> bool:
        """Wait until the agent has ended; return whether it has."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def cut(self) -> None:
        """End the connection; whoever waits for something is told so."""
        self._ssh.kill()

    def close(self) -> None:
        """Cut the connection; the agent stays. A listener may do so, too."""
        self.cut()
        self._ssh.wait()
        assert self._ssh.stdin is not None
        # what was not sent is not wanted any more
        with contextlib.suppress(OSError):
            self._ssh.stdin.close()
        if threading.current_thread() is not self._thread:
            # an agent of this machine holds the pipes itself, until its input has ended
            self._thread.join(_LET_GO_S)
        self._errors.close()

    def _read(self) -> None:
        assert self._ssh.stdout is not None
        with self._ssh.stdout as lines:
            for line in lines:
                report = self._report(line)
                if report is not None:
                    self._told(report)
        self._told(None)

    def _report(self, line: bytes) -> _Report | None:
        """Return what the agent says in a line, if it is one of its own."""
        _, is_ours, text = line.partition(self._token)
        try:
            report: _Report | None = json.loads(text) if is_ours else None
        except ValueError:
            # the connection was cut in the middle of it
            return None
        if report is not None and "clock" in report:
            # clocks are compared where the answer has just come
            report["ahead_s"] = report["clock"] - time.time()
        return report

    def _told(self, report: _Report | None) -> None:
        with self._lock:
            self._listener(report)
