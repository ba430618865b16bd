"""Several real machines on one, for tests: namespaces of Linux, with an sshd each.

A machine has its own network address, host name, process table, home and ``/tmp``. What they
share is the folder of the testbed, and the rest of the disk: Python and labkit are there.
Needs root, sshd, ip, nsenter and unshare.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parents[2]
SCRIPTS = Path(sys.executable).parent

#: Who may log in besides, and the key for that, which no ssh knows unless it is told.
OTHER, OTHERS_KEY = "other", "others-key"

_PROGRAMS = ("ip", "nsenter", "unshare", "sshd", "ssh", "ssh-keygen")
_PATH = f"{os.environ['PATH']}:/usr/sbin:/sbin"
_NETWORK = "10.77.0"
_FAR = "10.78.0"
_NUMBERS = itertools.count()

#: At which ports each sshd listens: the usual one, and another.
PORTS = (22, 2222)

#: More logins at once than sshd lets be under way by default are dropped, all of them.
_SSHD = """\
Port {ports[0]}
Port {ports[1]}
ListenAddress 0.0.0.0
HostKey {key}
AuthorizedKeysFile {authorized}
PidFile none
StrictModes no
UsePAM no
UseDNS no
PasswordAuthentication no
PermitRootLogin prohibit-password
MaxStartups 10:100:10
Subsystem sftp internal-sftp
Match User {other}
  AuthorizedKeysFile {others}
"""

_SSH = """\
Host *
  IdentityFile {key}
  IdentitiesOnly yes
  UserKnownHostsFile {known}
  StrictHostKeyChecking yes
"""

#: What the first process of a machine does: it makes the machine its own, and stays.
_INIT = """\
hostname {name}
mount --make-rprivate /
mount --bind {passwd} /etc/passwd
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs {folder}/tmp
for shared in {shared}; do
  case $shared in /tmp/*)
    mkdir -p {folder}/tmp/"${{shared#/tmp/}}"
    mount --bind "$shared" {folder}/tmp/"${{shared#/tmp/}}" ;;
  esac
done
mount --bind {hosts} /etc/hosts
mount -t tmpfs tmpfs /run && mkdir /run/sshd
mount --rbind {folder}/tmp /tmp
mount --bind {folder}/home {home}
{sshd} -D -e -f {folder}/sshd.conf 2>{log} &
while :; do wait; sleep 0.2; done
"""


def why_not() -> str:
    """Return why there can be no testbed here; empty when there can."""
    if os.geteuid() != 0:
        return "machines for tests need root"
    if missing := [name for name in _PROGRAMS if shutil.which(name, path=_PATH) is None]:
        return f"machines for tests need {', '.join(missing)}"
    done = _run("ip", "netns", "add", f"lk{os.getpid()}-try", check=False)
    if done.returncode != 0:
        return f"network namespaces cannot be made: {done.stderr.strip()}"
    _run("ip", "netns", "delete", f"lk{os.getpid()}-try")
    return ""


def _run(*words: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PATH": _PATH}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    if check and done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, words))}: {done.stderr}{done.stdout}")
    return done


class Machine:
    """One of them."""

    def __init__(self, bed: Testbed, name: str, address: str) -> None:
        self.name, self.address = name, address
        self.folder = bed.folder / "machines" / name
        self._bed = bed
        self._namespace = f"{bed.prefix}-{name}"
        self._process: subprocess.Popen[bytes] | None = None
        self._started: list[subprocess.Popen[str]] = []
        # the other end of its cable: in which namespace, and what that is called there
        self._socket = (bed.switch, f"v-{name}")

    @property
    def hosts(self) -> Path:
        """Its ``/etc/hosts``."""
        return self._bed.folder / "hosts"

    def connect(self) -> None:
        """Give it a network card, and plug that in."""
        for name in ("home", "tmp"):
            (self.folder / name).mkdir(parents=True)
        _run("ip", "netns", "add", self._namespace)
        where, card = self._socket
        ends = ("name", card, "netns", where, "type", "veth", "peer")
        _run("ip", "link", "add", *ends, "name", "eth0", "netns", self._namespace)
        self._plug_in()
        _run("ip", "-n", self._namespace, "link", "set", "lo", "up")
        _run("ip", "-n", self._namespace, "address", "add", f"{self.address}/24", "dev", "eth0")
        _run("ip", "-n", self._namespace, "link", "set", "eth0", "up")
        key = self.folder / "key"
        _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key)
        settings = _SSHD.format(
            ports=PORTS,
            key=key,
            authorized=self._bed.folder / "key.pub",
            other=OTHER,
            others=self._bed.folder / f"{OTHERS_KEY}.pub",
        )
        (self.folder / "sshd.conf").write_text(settings)
        ssh = self.folder / "home" / ".ssh"
        ssh.mkdir(mode=0o700)
        known = self._bed.folder / "known_hosts"
        (ssh / "config").write_text(_SSH.format(key=self._bed.folder / "key", known=known))

    def _plug_in(self) -> None:
        where, card = self._socket
        _run("ip", "-n", where, "link", "set", card, "master", "bridge", "up")

    def pull_cable(self) -> None:
        """Let nothing in or out, without a word to anybody."""
        where, card = self._socket
        _run("ip", "-n", where, "link", "set", card, "down")

    def put_cable_back(self) -> None:
        """End what :meth:`pull_cable` has begun."""
        where, card = self._socket
        _run("ip", "-n", where, "link", "set", card, "up")

    def boot(self) -> None:
        """Switch it on."""
        init = _INIT.format(
            name=self.name,
            folder=self.folder,
            shared=f"{self._bed.folder} {ROOT}",
            home=self._bed.home,
            passwd=self._bed.folder / "passwd",
            hosts=self.hosts,
            sshd=shutil.which("sshd", path=_PATH),
            log=self.folder / "sshd.log",
        )
        (self.folder / "sshd.log").unlink(missing_ok=True)
        # the end of unshare is the end of all processes of the machine
        spaces = ("--uts", "--mount", "--ipc", "--pid", "--fork", "--kill-child", "--mount-proc")
        words = ("nsenter", f"--net=/run/netns/{self._namespace}", "unshare", *spaces)
        with (self.folder / "init.log").open("wb") as log:
            self._process = subprocess.Popen(
                [*words, "bash", "-ec", init],
                env={**os.environ, "PATH": _PATH},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def is_up(self) -> bool:
        """Whether it is switched on."""
        return self._process is not None

    def wait(self, timeout_s: float = 20) -> None:
        """Wait until one can log in."""
        log = self.folder / "sshd.log"
        deadline = time.monotonic() + timeout_s
        while not log.exists() or log.read_text().count("Server listening") < len(PORTS):
            told = (self.folder / "init.log").read_text()
            assert time.monotonic() < deadline, f"{self.name} does not come up: {told}"
            time.sleep(0.02)

    def power_off(self) -> None:
        """Cut the power."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        for process in self._started:
            # of the others, a test has read all
            if process.stdout is not None and not process.stdout.closed:
                process.communicate()
        self._started.clear()

    def pull_the_cable(self) -> None:
        """Cut it off the network."""
        _run("ip", "-n", self._bed.switch, "link", "set", f"v-{self.name}", "down")

    def plug_in(self) -> None:
        """Connect it with the network again."""
        _run("ip", "-n", self._bed.switch, "link", "set", f"v-{self.name}", "up")

    def words(self, *command: str | Path) -> list[str]:
        """Return what executes a command on the machine."""
        spaces = ("--net", "--uts", "--mount", "--ipc", "--pid")
        return ["nsenter", "-t", self._first().name, *spaces, *map(str, command)]

    def environment(self, **more: str) -> dict[str, str]:
        """Return the environment that a login there has, with labkit's own programs."""
        return {
            "PATH": f"{SCRIPTS}:{_PATH}",
            "HOME": str(self._bed.home),
            "PYTHONPATH": str(ROOT),
            "LANG": "C.UTF-8",
            **more,
        }

    def start(self, *command: str | Path, **more: str) -> subprocess.Popen[str]:
        """Start a command on the machine, with its output in one pipe."""
        process = subprocess.Popen(
            self.words(*command),
            env=self.environment(**more),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd="/",
            start_new_session=True,
        )
        self._started.append(process)
        return process

    def execute(
        self, *command: str | Path, timeout_s: float = 120, exits: int | None = 0, **more: str
    ) -> str:
        """Execute a command on the machine; return its output.

        It has to exit with a status, None for any.
        """
        with self.start(*command, **more) as process:
            try:
                out, _ = process.communicate(timeout=timeout_s)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                out, _ = process.communicate()
                raise AssertionError(f"{command} hangs: {out}") from None
        self._started.remove(process)
        assert exits in (process.returncode, None), f"{self.name}: {command}: {out}"
        return out

    def processes(self, *words: str) -> dict[int, str]:
        """Return its processes that have a word in their command lines, by number out here."""
        own = self._first() / "ns" / "pid"
        found = {}
        for process in Path("/proc").glob("[0-9]*"):
            # any of them may end meanwhile
            with contextlib.suppress(OSError):
                if (process / "ns" / "pid").readlink() == own.readlink():
                    line = (process / "cmdline").read_text().replace("\0", " ")
                    if any(word in line for word in words):
                        found[int(process.name)] = line
        return found

    def root(self, word: str) -> int:
        """Return the one of its processes with a word that has started the others with it."""
        found = self.processes(word)
        (first,) = (pid for pid in found if psutil.Process(pid).ppid() not in found)
        return first

    def end(self, *words: str) -> None:
        """Kill its processes that have a word in their command lines."""
        for pid in self.processes(*words):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _first(self) -> Path:
        """Return where the kernel shows its first process."""
        assert self._process is not None
        outer = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        (inner,) = outer.read_text().split()
        return Path("/proc", inner)

    def disconnect(self) -> None:
        """Remove it."""
        self.power_off()
        _run("ip", "netns", "delete", self._namespace, check=False)


class Laptop(Machine):
    """A machine with a cable to the controller's, and no way into the network of the others.

    What listens at that one's address there, as its sshd does everywhere, is out of its reach.
    """

    def __init__(self, bed: Testbed, name: str, address: str, to: str) -> None:
        super().__init__(bed, name, address)
        self._to = to
        self._socket = (f"{bed.prefix}-{bed.controller}", "eth1")

    @property
    def hosts(self) -> Path:
        return self.folder / "hosts"

    def _plug_in(self) -> None:
        where, card = self._socket
        _run("ip", "-n", where, "address", "add", f"{self._to}/24", "dev", card)
        _run("ip", "-n", where, "link", "set", card, "up")
        named = {"localhost": "127.0.0.1", self._bed.controller: self._to, self.name: self.address}
        self.hosts.write_text("".join(f"{address} {name}\n" for name, address in named.items()))


class Testbed:
    """Machines ``ctl``, for the controller, and ``h1``, ``h2``, …, in one network; and ``lap``.

    Parameters
    ----------
    folder : Path
        What they share; empty.
    hosts : int or mapping
        How many beside ``ctl``; or other names for all of them, that of the controller's machine
        first, and the address of each.
    user : str
        What root is called there.
    """

    __test__ = False

    def __init__(self, folder: Path, hosts: int | Mapping[str, str], user: str = "root") -> None:
        self.folder, self.user = folder, user
        #: Each machine has another folder there; root's own may hold the interpreter.
        self.home = folder / "home"
        # several of them may be up at once
        self.prefix = f"lk{os.getpid()}-{next(_NUMBERS)}"
        self.switch = f"{self.prefix}-switch"
        addresses = _usual(hosts) if isinstance(hosts, int) else hosts
        #: The name of the controller's machine.
        self.controller = next(iter(addresses))
        self.machines = {name: Machine(self, name, at) for name, at in addresses.items()}
        self.laptop = Laptop(self, "lap", f"{_FAR}.2", to=f"{_FAR}.1")
        self.machines["lap"] = self.laptop

    def __getitem__(self, name: str) -> Machine:
        return self.machines[name]

    def __enter__(self) -> Testbed:
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: Any) -> None:
        for machine in self.machines.values():
            machine.disconnect()
        _run("ip", "netns", "delete", self.switch, check=False)

    def _start(self) -> None:
        for key in ("key", OTHERS_KEY):
            _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.folder / key)
        _run("ip", "netns", "add", self.switch)
        _run("ip", "-n", self.switch, "link", "add", "bridge", "type", "bridge")
        _run("ip", "-n", self.switch, "link", "set", "bridge", "up")
        self.home.mkdir()
        users = Path("/etc/passwd").read_text()
        # whoever looks for the name of 0 finds the first
        names = (self.user, "root", OTHER)
        lines = "\n".join(f"{name}:x:0:0::{self.home}:/bin/bash" for name in names)
        users = re.sub(r"^root:.*", lines, users, flags=re.MULTILINE)
        (self.folder / "passwd").write_text(users)
        named = [f"{m.address} {m.name}" for m in self.machines.values()]
        (self.folder / "hosts").write_text("\n".join(["127.0.0.1 localhost", *named, ""]))
        for machine in self.machines.values():
            machine.connect()
        (self.folder / "known_hosts").write_text("".join(self._known()))
        for machine in self.machines.values():
            machine.boot()
        for machine in self.machines.values():
            machine.wait()

    def _known(self) -> Iterator[str]:
        for machine in self.machines.values():
            kind, key, *_ = (machine.folder / "key.pub").read_text().split()
            names = [machine.name, machine.address]
            if machine.name == self.controller:
                names.append(f"{_FAR}.1")
            names += [f"[{name}]:{PORTS[1]}" for name in names]
            yield f"{','.join(names)} {kind} {key}\n"


def _usual(hosts: int) -> dict[str, str]:
    """Return names and addresses of machines that need no particular ones."""
    names = {"ctl": 100, **{f"h{i}": i for i in range(1, hosts + 1)}}
    return {name: f"{_NETWORK}.{number}" for name, number in names.items()}


def python(code: str) -> Sequence[str]:
    """Return the command that executes some Python."""
    return (sys.executable, "-c", code)
