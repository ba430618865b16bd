"""One ssh that carries all ports of a controller to this machine.

ssh is started by a small shell script that reads from a pipe of this process and ends with
it: when the pipe closes, because the tunnel was closed or because this process has died in
whatever way, the script ends ssh, and whatever ssh has started to get through.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import socket
import subprocess
import tempfile
import time
import weakref
from collections.abc import Mapping, Sequence
from typing import IO

from labkit.cluster import login
from labkit.errors import ClusterStartError, HostUnreachableError

__all__ = ["Tunnel"]

#: How long it may take until the tunnel is open, in seconds: some more than ssh may for its part.
_OPEN_S = login.CONNECT_S + 3.0

#: A connection on which nothing comes back for so long is lost: asked every 2 s, 3 times.
_ALIVE = (*("-o", "ServerAliveInterval=2"), *("-o", "ServerAliveCountMax=3"))

#: How long what listens may take to greet, when the tunnel is open.
_ANSWER_S = 4.0

_LOOK_S = 0.05

#: An ssh that was killed may hold its ports for a moment.
_RELEASE_S = 0.5

#: How long what is killed may take to end; it would be stuck in the kernel.
_END_S = 2.0

#: What every socket of ZeroMQ says first.
_GREETING = b"\xff"

#: Its own process group is all that kill 0 reaches.
_SCRIPT = """\
exec 3<&0
"$@" </dev/null 3<&- &
ssh=$!
(while read -r nothing; do :; done; kill -9 0) <&3 &
wait $ssh
kill -9 0
"""

#: The pipes of this process's tunnels. A forked child lets go of them, or ssh would outlive it.
_PIPES: weakref.WeakSet[IO[bytes]] = weakref.WeakSet()


class Tunnel:
    """An ssh to another machine, through which ports are reached that are seen from there.

    It ends by :meth:`close`, when nobody holds it any more, and with this process.

    Parameters
    ----------
    destination : str
        The machine to log in to, as ssh knows it.
    address : str
        The machine that has the ports, as that one finds it.
    ports : sequence of int
        The ports. What listens at the last one has to be a socket of ZeroMQ.
    local : mapping of int to int, optional
        Where an earlier tunnel had them: what is still free of that is taken again, so that
        whoever knows these ports may go on.

    Attributes
    ----------
    destination : str
        As it was given.
    local : dict of int to int
        For each port the one on this machine, at 127.0.0.1.

    Raises
    ------
    HostUnreachableError
        When ssh is not let in, or does not get there.
    ClusterStartError
        When nothing listens at the last port.
    """

    def __init__(
        self,
        destination: str,
        address: str,
        ports: Sequence[int],
        local: Mapping[int, int] | None = None,
    ) -> None:
        self.destination = login.checked(destination)
        self.local = _free_ports(ports, local or {})
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115, closed in _end
        forwards = [
            word
            for far, near in self.local.items()
            for word in ("-L", f"127.0.0.1:{near}:{address}:{far}")
        ]
        # connections that other ssh share are not this one's to end
        alone = ("-o", "ControlPath=none")
        # what ~/.ssh/config forwards, too, may be in use
        lenient = ("-o", "ExitOnForwardFailure=no")
        words = [*login.ssh(*_ALIVE, *alone, *lenient), "-N", *forwards, "--", destination]
        self._process = subprocess.Popen(
            ["sh", "-c", _SCRIPT, "labkit-tunnel", *words],
            stdin=subprocess.PIPE,
            # it says nothing; that it ends tells when the last of them has
            stdout=subprocess.PIPE,
            stderr=self._errors,
            # Ctrl-C is for this process
            start_new_session=True,
            env={**os.environ, **login.UNASKED},
        )
        assert self._process.stdin is not None
        _PIPES.add(self._process.stdin)
        self._end = weakref.finalize(self, _end, os.getpid(), self._process, self._errors)
        try:
            self._wait(self.local[ports[-1]])
        except BaseException:
            self.close()
            raise

    def _wait(self, port: int) -> None:
        """Wait until the tunnel is open, and something has answered through it."""
        deadline = time.monotonic() + _OPEN_S
        while (answer := _first_byte(port)) is None:
            if self._process.poll() is not None:
                raise login.refusal(self.destination, self._told())
            if time.monotonic() > deadline:
                raise login.refusal(self.destination, f"no answer in {_OPEN_S:.0f} s")
            time.sleep(_LOOK_S)
        if taken := self._taken():
            raise HostUnreachableError(
                f"port {taken} of this machine is in use since a moment: try again"
            )
        if answer != _GREETING:
            raise ClusterStartError(
                f"nothing that is a controller's answers on {self.destination} where it should"
            )

    def _taken(self) -> int | None:
        """Return a port of this machine that another program had first."""
        said = re.findall(r"cannot listen to port: ([0-9]+)", self._told())
        return next((port for port in map(int, said) if port in self.local.values()), None)

    def _told(self) -> str:
        """Return what ssh has said."""
        size = os.fstat(self._errors.fileno()).st_size
        return os.pread(self._errors.fileno(), size, 0).decode(errors="replace")

    def is_open(self) -> bool:
        """Test whether ssh runs; it ends when nothing has come back for some seconds."""
        return self._end.alive and self._process.poll() is None

    def close(self) -> None:
        """End ssh, and return when it has ended."""
        self._end()


def _end(owner: int, process: subprocess.Popen[bytes], errors: IO[bytes]) -> None:
    if os.getpid() != owner:
        # a child that this process has forked: the tunnel is not its own
        return
    assert process.stdin is not None
    process.stdin.close()
    if process.poll() is None:
        # the script, ssh and what that has started are a group
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    # the script has ended, and what it had started has that before it for its end
    assert process.stdout is not None
    select.select([process.stdout], [], [], _END_S)
    process.stdout.close()
    errors.close()


def _let_go() -> None:
    for pipe in list(_PIPES):
        pipe.close()


os.register_at_fork(after_in_child=_let_go)


def _free_ports(ports: Sequence[int], wanted: Mapping[int, int]) -> dict[int, int]:
    """Return for each port one of this machine that is free: the one that is wanted, if it is."""
    with contextlib.ExitStack() as stack:
        sockets = {
            port: stack.enter_context(contextlib.closing(_opened(wanted.get(port, 0))))
            for port in ports
        }
        return {port: each.getsockname()[1] for port, each in sockets.items()}


def _opened(port: int) -> socket.socket:
    deadline = time.monotonic() + _RELEASE_S
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            return socket.create_server(("127.0.0.1", port))
        time.sleep(_LOOK_S)
    return socket.create_server(("127.0.0.1", 0))


def _first_byte(port: int) -> bytes | None:
    """Return what comes first from a port of this machine; None when nothing listens there yet."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=_ANSWER_S) as connection:
            if connection.getsockname() == connection.getpeername():
                # the kernel has chosen this very port for the other end
                return None
            return _received(connection)
    except ConnectionRefusedError:
        return None


def _received(connection: socket.socket) -> bytes:
    """Return the first byte; nothing, when none comes."""
    try:
        return connection.recv(1)
    except (ConnectionError, TimeoutError):
        return b""
