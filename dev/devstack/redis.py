"""A Redis or Valkey server of this machine's, for caches, locks and rates."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from dev.devstack.errors import PartMissing, PortInUse
from dev.devstack.files import write_private
from dev.devstack.ports import LOOPBACK, Ports, says_taken
from dev.devstack.processes import LOG_LINES, OwnedProcess, Patience
from dev.devstack.started import Started

PROGRAMS: Final = ("valkey-server", "redis-server")
PORT: Final = 6379
PORTS_NAME: Final = "redis"
POLL: Final = 0.01  # seconds
ANSWER: Final = 1.0  # seconds


def redis_program() -> str | None:
    """Returns the path of the server's program; None where none is installed."""
    return next(filter(None, map(shutil.which, PROGRAMS)), None)


class RedisServer(Started):
    """A server on 127.0.0.1 with a password. It keeps nothing when it ends."""

    def __init__(
        self,
        directory: Path,
        program: str,
        *,
        ports: Ports | None = None,
        preferred: int | None = PORT,
    ) -> None:
        """
        Args:
            directory: of its password and its log; created if missing.
            program: its path.
            ports: keeps the last port; this object does if not given.
            preferred: the first port to try, after the last one; None: any free one.
        """
        self.directory = directory.absolute()
        self._program = program
        self._ports = ports or Ports()
        self._preferred = preferred
        self._port: int | None = None
        self._process: OwnedProcess | None = None

    @property
    def port(self) -> int:
        """Its port, once it has been started."""
        assert self._port is not None, "the Redis server has not been started"
        return self._port

    @property
    def password(self) -> str:
        """Its password, which it has for good."""
        path = self.directory / "password"
        if not path.exists():
            write_private(path, secrets.token_urlsafe(24))
        return path.read_text()

    @property
    def url(self) -> str:
        """The REDIS_URL of the server, once it has been started."""
        return f"redis://:{self.password}@{LOOPBACK}:{self.port}/0"

    @property
    def pid(self) -> int:
        """Its process, once it has been started."""
        assert self._process is not None, "the Redis server has not been started"
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.running

    def how_it_ended(self) -> str:
        """Returns how it has ended."""
        return "is not running" if self._process is None else self._process.how_it_ended()

    def log_tail(self, lines: int = LOG_LINES) -> str:
        """Returns the last lines that it has written to its log."""
        return "" if self._process is None else self._process.log_tail(lines)

    def start(self) -> None:
        """Starts it, and returns once it answers.

        Raises `PartMissing` if it ends, or does not answer in time; the message ends with its log.
        """
        self.stop()
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        # In a file, as everybody can read the arguments of a process.
        config = self.directory / "redis.conf"
        write_private(
            config,
            f'bind {LOOPBACK}\nrequirepass {self.password}\nsave ""\nappendonly no\n'
            f"dir {self.directory}\n",
        )
        for port in self._ports.candidates(PORTS_NAME, self._preferred):
            try:
                self._run(config, port)
            except PortInUse:
                continue
            self._ports.keep(PORTS_NAME, port)
            return

    def stop(self) -> None:
        """Stops it, and what it has in memory is gone."""
        if self._process is not None:
            self._process.stop()

    def kill(self) -> None:
        """Kills it."""
        if self._process is not None:
            self._process.kill()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Lets it answer nothing during the block."""
        os.kill(self.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.pid, signal.SIGCONT)

    def _run(self, config: Path, port: int) -> None:
        process = OwnedProcess(
            [self._program, str(config), "--port", str(port)],
            log=self.directory / "redis.log",
            environ=os.environ,
        )
        self._process, self._port = process, port
        try:
            patience = Patience(process)
            while not _answers(port, self.password):
                if process.running and patience.is_left():
                    time.sleep(POLL)
                    continue
                log = process.log_tail()
                if says_taken(log):
                    raise PortInUse(port, LOOPBACK)
                raise PartMissing(
                    f"Redis did not start: {patience.how_it_went()}. Its log ends: {log}"
                )
        except BaseException:
            process.kill()
            raise


def _answers(port: int, password: str) -> bool:
    """Returns whether the server with this password answers."""
    try:
        with socket.create_connection((LOOPBACK, port), ANSWER) as connection:
            connection.settimeout(ANSWER)
            connection.sendall(f"AUTH {password}\r\n".encode())
            return connection.recv(16).startswith(b"+OK")
    except OSError:
        return False
