"""A real PostgreSQL server for tests: on a Unix socket, in a folder of its own."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Self
from urllib.parse import quote

LIMIT_S = 60


def programs() -> Path | None:
    """Return the folder of the newest server's programs; None when there is none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=_version)
    other = shutil.which("initdb")
    return found[-1].parent if found else Path(other).parent if other else None


def _version(path: Path) -> int:
    return int(path.parts[-3]) if path.parts[-3].isdigit() else 0


def why_not() -> str:
    """Return why no server can be started; empty when one can."""
    if programs() is None:
        return "PostgreSQL is not installed"
    if os.geteuid() == 0 and not _has_user("postgres"):
        return "root may not run PostgreSQL, and there is no user postgres"
    return ""


def _has_user(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


class Server:
    """A server; use it in ``with``. Its user is postgres, from outside by password."""

    password = "very+secret&1"

    def __init__(self) -> None:
        # the path of a socket is short
        self._folder = Path(tempfile.mkdtemp(prefix="labkit-pg-"))
        self.data = self._folder / "data"
        self._schemas = 0

    def __enter__(self) -> Self:
        if os.geteuid() == 0:
            shutil.chown(self._folder, "postgres")
        secret = self._folder / "secret"
        secret.write_text(self.password)
        secret.chmod(0o644)
        self._call("initdb", "-D", self.data, "-U", "postgres", "-A", "scram-sha-256",
                   f"--pwfile={secret}", "-N", "-E", "UTF8", "--locale=C.UTF-8")  # fmt: skip
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop("immediate")
        shutil.rmtree(self._folder, ignore_errors=True)

    def _call(self, program: str, *arguments: object) -> None:
        folder = programs()
        assert folder is not None
        command = [str(folder / program), *map(str, arguments)]
        if os.geteuid() == 0:
            command = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", *command]
        # a file, not a pipe: the server would keep a pipe open
        with tempfile.TemporaryFile("w+") as output:
            done = subprocess.run(
                command, cwd="/", stdout=output, stderr=output, timeout=LIMIT_S, check=False
            )
            output.seek(0)
            assert done.returncode == 0, output.read()

    def start(self) -> None:
        """Start the server, and wait until it answers."""
        # a machine that loses power is not tested
        options = f"-k {self._folder} -c listen_addresses='' -c fsync=off -c max_connections=60"
        log = self._folder / "log"
        self._call("pg_ctl", "-D", self.data, "-l", log, "-w", "-s", "-o", options, "start")

    def stop(self, mode: str = "fast") -> None:
        """Stop the server, and wait until it has."""
        self._call("pg_ctl", "-D", self.data, "-m", mode, "-w", "-s", "stop")

    def url(self, *, user: str = "postgres", password: str | None = None, **query: str) -> str:
        """Return the URL of the server's database postgres."""
        secret = quote(password or self.password, safe="")
        more = "".join(f"&{key}={quote(value, safe='')}" for key, value in query.items())
        return f"postgresql+psycopg://{user}:{secret}@/postgres?host={self._folder}{more}"

    def url_of_new_schema(self) -> str:
        """Return a URL whose connections have an empty schema of their own."""
        import psycopg

        self._schemas += 1
        name = f"s{self._schemas}"
        with psycopg.connect(self.conninfo(), autocommit=True) as c:
            c.execute(f"CREATE SCHEMA {name}")
        return self.url(options=f"-csearch_path={name}")

    def create_database(self, name: str) -> None:
        """Make a further database."""
        import psycopg

        with psycopg.connect(self.conninfo(), autocommit=True) as c:
            c.execute(f"CREATE DATABASE {name}")

    def environment(self) -> dict[str, str]:
        """Return the variables by which all programs of PostgreSQL find this server."""
        return {"PGHOST": str(self._folder), "PGUSER": "postgres", "PGPASSWORD": self.password}

    def conninfo(self) -> str:
        """Return how psycopg connects."""
        return f"host={self._folder} user=postgres password={self.password}"
