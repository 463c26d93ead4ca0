"""The stack's child processes, none of which outlives it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import psutil

from dev.devstack import launcher
from dev.devstack.accounts import Account
from dev.devstack.load import Load

START_SECONDS = 60.0  # that a process may start without getting on
COMPUTED_SECONDS = 1.0  # of computing in that time: it gets on
START_SECONDS_MAX = 1800.0
STOP_TIMEOUT = 20.0  # seconds
END_TIMEOUT = 2.0  # seconds
POLL_INTERVAL = 0.02  # seconds
LOG_LINES = 20
LOG_BYTES = 64 * 1024  # the most that is read of a log's end

# The kernel watches the thread that starts a process, not the whole parent. So a single thread,
# which lives as long as the interpreter, starts them all.
_STARTER = ThreadPoolExecutor(max_workers=1, thread_name_prefix="devstack-starter")


class OwnedProcess:
    """A running child process in its own session, so that a terminal's Ctrl-C does not reach it."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        log: Path,
        environ: Mapping[str, str],
        death_signal: signal.Signals = signal.SIGKILL,
        account: Account | None = None,
        umask: int = 0o077,
    ) -> None:
        """Starts the command.

        Args:
            command: the program's absolute path and its arguments.
            log: the file to which its output is appended.
            environ: its whole environment.
            death_signal: sent to it when this process dies without stopping it (Linux only).
            account: the account it runs as; None for this process's user.
            umask: for the files it creates; by default only their owner may read them.
        """
        self.log = log
        self._log_began = log.stat().st_size if log.exists() else 0
        identity = (-1, -1, -1)
        if account is not None:
            identity = (account.uid, account.gid, -1)
            if account.capability is not None:
                identity = (account.uid, account.gid, account.capability)
        arguments = [os.getpid(), int(death_signal), *identity]
        full = [sys.executable, "-I", "-S", launcher.__file__, *map(str, arguments), *command]
        self._process = _start(full, log, environ, umask)
        self._asked: set[signal.Signals] = set()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    @property
    def is_stopped(self) -> bool:
        """Whether a signal, such as SIGSTOP, keeps it from running until SIGCONT."""
        try:
            return psutil.Process(self.pid).status() == psutil.STATUS_STOPPED
        except psutil.Error:
            return False

    @property
    def exit_code(self) -> int | None:
        """Its exit code, -n if signal n ended it; None while it runs."""
        return self._process.poll()

    def how_it_ended(self) -> str:
        """Returns how it has ended, such as "was killed by SIGKILL"."""
        code = self.exit_code
        if code is None:
            return "still runs"
        if code >= 0:
            return f"ended with exit code {code}"
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        return f"was killed by {name}"

    def computed(self) -> float:
        """Returns the seconds of CPU time that it and its children have used; 0 once it ended."""
        seconds = 0.0
        for pid in [self.pid, *(child.pid for child in self._family())]:
            with suppress(psutil.Error):
                times = psutil.Process(pid).cpu_times()
                seconds += times.user + times.system
        return seconds

    def wait(self, timeout: float) -> int:
        """Returns the exit code once it has ended.

        Raises:
            TimeoutError: it still runs after `timeout` seconds.
        """
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired as error:
            raise TimeoutError(f"process {self.pid} still runs after {timeout} s") from error

    def ask_to_end(self, with_signal: signal.Signals = signal.SIGTERM) -> None:
        """Sends the signal once, if it runs, and does not wait; one that is stopped goes on.

        A second one would tell our programs to end at once, whatever they run.
        """
        if self.running:
            if with_signal not in self._asked:
                self._asked.add(with_signal)
                self._process.send_signal(with_signal)
            self._process.send_signal(signal.SIGCONT)  # else the other one waits for it

    def stop(
        self,
        with_signal: signal.Signals = signal.SIGTERM,
        timeout: float = STOP_TIMEOUT,
        *,
        hurry: Callable[[], bool] = lambda: False,
    ) -> None:
        """Asks it to end, waits, and kills it if it does not, with its children.

        Stops waiting as soon as `hurry()` says so.
        """
        family = self._family()
        try:
            self.ask_to_end(with_signal)
            deadline = time.monotonic() + timeout
            while self.running and time.monotonic() < deadline and not hurry():
                time.sleep(POLL_INTERVAL)
        finally:
            self._end(family)

    def kill(self) -> None:
        """Kills it at once, with its children."""
        self._end(self._family())

    def log_tail(self, lines: int = LOG_LINES) -> str:
        """Returns the last lines that it has written to its log."""
        try:
            with self.log.open("rb") as log:
                size = log.seek(0, os.SEEK_END)
                began = self._log_began if self._log_began <= size else 0  # else it was truncated
                log.seek(max(began, size - LOG_BYTES))
                text = log.read().decode(errors="replace")
        except FileNotFoundError:
            return ""
        return "\n".join(text.splitlines()[-lines:])

    def _family(self) -> list[psutil.Process]:
        if not self.running:
            return []
        try:
            return psutil.Process(self.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    def _end(self, family: list[psutil.Process]) -> None:
        self._process.kill()
        self._process.wait()
        # Most end on their own once their parent has.
        for each in survivors(family, END_TIMEOUT):
            with suppress(psutil.NoSuchProcess):
                each.kill()
        survivors(family, END_TIMEOUT)


class Patience:
    """How long to wait for a process that starts: longer while it computes, or cannot.

    Where many programs share a processor, a start takes minutes, and is not at fault. Only what
    computes nothing on a machine that could let it is stuck.
    """

    def __init__(
        self,
        process: OwnedProcess,
        *,
        seconds: float = START_SECONDS,
        computed: float = COMPUTED_SECONDS,
        longest: float = START_SECONDS_MAX,
        was_busy: Callable[[], bool] | None = None,
    ) -> None:
        """
        Args:
            process: a process that has just been started.
            seconds: to wait, and then again as often as it has computed meanwhile, or the machine
                was busy.
            computed: seconds of computing that count as getting on.
            longest: seconds to wait in all.
            was_busy: whether the machine was busy since the last call; as it is if not given.
        """
        self._process = process
        self._seconds = seconds
        self._least = computed
        self._began = time.monotonic()
        self._until = self._began + seconds
        self._longest = self._began + longest
        self._computed = 0.0
        self._was_busy = Load().was_busy if was_busy is None else was_busy

    def is_left(self) -> bool:
        """Returns whether to go on waiting."""
        now = time.monotonic()
        if now < self._until:
            return True
        before, self._computed = self._computed, self._process.computed()
        gets_on = self._computed - before >= self._least
        if now >= self._longest or not (gets_on or self._was_busy()):
            return False
        self._until = min(now + self._seconds, self._longest)
        return True

    def how_it_went(self) -> str:
        """Returns what has become of the process, for a sentence that it did not start."""
        if not self._process.running:
            return f"it {self._process.how_it_ended()}"
        return (
            f"it was not ready after {time.monotonic() - self._began:.0f} s, in which it computed "
            f"for {self._process.computed():.1f} s"
        )


def survivors(processes: Sequence[psutil.Process], timeout: float) -> list[psutil.Process]:
    """Waits at most `timeout` seconds until all have ended, and returns those that have not.

    A zombie counts as ended: the machine's first process collects orphans at some later time.
    """
    deadline = time.monotonic() + timeout
    while left := [each for each in processes if _lives(each)]:
        if time.monotonic() >= deadline:
            break
        time.sleep(POLL_INTERVAL)
    return left


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _start(
    command: list[str], log: Path, environ: Mapping[str, str], umask: int
) -> subprocess.Popen[bytes]:
    def start() -> subprocess.Popen[bytes]:
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(descriptor, "ab") as output:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environ,
                umask=umask,
                start_new_session=True,
            )

    starting = _STARTER.submit(start)
    try:
        return starting.result()
    except BaseException:
        # Interrupted while it starts: nothing else would ever stop it.
        starting.add_done_callback(_discard)
        raise


def _discard(starting: Future[subprocess.Popen[bytes]]) -> None:
    if starting.exception() is None:
        starting.result().kill()
