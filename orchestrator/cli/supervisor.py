"""A command's own process, which does nothing but look after the one that works.

Libraries may end a process without a word: Ray's C++ does when Ray dies, the kernel when memory runs out, a
plug-in by os._exit. So the command forks before anything is imported. The child works; its parent passes
signals on, ends whatever processes are left, and says what the child could no longer say.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import json
import mmap
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import FrameType
from typing import NoReturn

from orchestrator.cli.signals import (
    STOPPING,
    Once,
    exit_code,
    handling,
    leave_dead_terminal,
    name_of,
    raising,
    say,
)

SET_PARENT_DEATH_SIGNAL, SET_CHILD_SUBREAPER = 1, 36
"""Linux's names for what prctl is asked."""

SIZE = 1 << 16
"""Bytes of the account in each of its two places."""

ORPHAN_SECONDS = 5.0
AFTERWARDS_SECONDS = 30.0
MOST_KEPT = 50_000
"""Bytes of each of Ray's own files that are kept."""


@dataclass(frozen=True)
class Account:
    """What the child has told its parent, in case that it cannot speak for itself at its end."""

    code: int | None = None
    """Its exit code, once it came to its end and has said what there was to say."""
    name: str = ""
    """The sweep's, once it has begun."""
    resume: str = ""
    """The command that goes on with it."""
    cell: str = ""
    """The cell that runs in the child itself."""
    log: str = ""
    """Where Ray's output goes while Ray runs."""
    logs: str = ""
    """The folder of Ray's own log files."""
    why: str = ""
    """What was seen of Ray's death."""
    temporary: str = ""
    """A folder to remove."""


class _Board:
    """Memory that parent and child share, with an account that is there whole, whenever the child dies."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 2 * SIZE + 1)
        self._account = Account()
        self._lock = threading.Lock()

    def tell(self, **fields: str | int) -> None:
        with self._lock:
            self._account = replace(self._account, **fields)  # type: ignore[arg-type]
            text = json.dumps(asdict(self._account)).encode()[:SIZE].ljust(SIZE, b"\0")
            other = 1 - self._memory[0]
            self._memory[1 + other * SIZE : 1 + (other + 1) * SIZE] = text
            self._memory[0] = other

    def read(self) -> Account:
        start = 1 + self._memory[0] * SIZE
        text = self._memory[start : start + SIZE].rstrip(b"\0")
        try:
            return Account(**json.loads(text))
        except ValueError:
            return Account()


_board: _Board | None = None


def is_supervised() -> bool:
    """Return whether a parent looks after this process."""
    return _board is not None


def tell(**fields: str | int) -> None:
    """Tell the parent, if there is one, some fields of the Account."""
    if _board is not None:
        _board.tell(**fields)


def supervised(
    command: Callable[[], int], *, grace: float, afterwards: Callable[[str], object] | None = None
) -> int:
    """Run a command in a child of this process and return the exit code.

    After a signal it has `grace` seconds. If it could not bring a sweep to an end, `afterwards` is called
    with the name of the sweep, in a process of its own. Where none can fork the command runs in this one.
    """
    if not hasattr(os, "fork"):
        return command()
    return _Supervisor(command, grace, afterwards).run()


class _Supervisor:
    def __init__(
        self, command: Callable[[], int], grace: float, afterwards: Callable[[str], object] | None
    ) -> None:
        self._command = command
        self._grace = grace
        self._afterwards = afterwards
        self._child = 0
        self._signal = 0
        self._board = _Board()
        self._others = set(_children())
        """Children that this process was born with."""

    def run(self) -> int:
        _prctl(SET_CHILD_SUBREAPER, 1)
        parent = os.getpid()
        with handling(Once(self._pass_on, self._end_at_once)):
            # Neither process may get a signal before it is ready for it.
            signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
            self._child = os.fork()
            if self._child == 0:
                self._work(parent)
            signal.signal(signal.SIGALRM, self._time_is_over)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
            code = self._wait(self._child)
            signal.setitimer(signal.ITIMER_REAL, 0)
            code = self._conclude(code)
            signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)  # all is said, and Python is about to end
            return code

    # The child

    def _work(self, parent: int) -> NoReturn:
        global _board
        _board = self._board
        with handling(raising()):
            signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
            _die_with(parent)
            code = 1  # Python's, after a traceback
            try:
                code = self._command()
            except KeyboardInterrupt as interrupt:
                say("Stopped before any work began.")
                code = exit_code(interrupt)
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else int(end.code is not None)
                raise
            finally:
                tell(code=code)
        for number in STOPPING:  # said is said: a signal that comes now has nothing left to end
            signal.signal(number, signal.SIG_IGN)
        _leave(code)

    # The parent

    def _pass_on(self, number: int) -> None:
        self._signal = number
        signal.setitimer(signal.ITIMER_REAL, self._grace)
        self._send(number)

    def _end_at_once(self, number: int) -> None:
        self._signal = self._signal or number
        self._afterwards = None
        self._send(signal.SIGKILL)

    def _time_is_over(self, number: int, frame: FrameType | None) -> None:
        self._send(signal.SIGKILL)

    def _send(self, number: int) -> None:
        if self._child <= 0:  # which would mean every process of this one's group
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._child, number)

    def _wait(self, child: int) -> int:
        """Return a child's exit code, or minus the signal that ended it; bury orphans meanwhile."""
        while True:
            pid, status = os.waitpid(-1, 0)
            if pid == child:
                return os.waitstatus_to_exitcode(status)

    def _conclude(self, code: int) -> int:
        account = self._board.read()
        self._end_orphans()
        if account.code is not None:
            _remove(account.temporary)
            return account.code
        _keep(account)
        _remove(account.temporary)
        _restore_terminal()
        if self._signal:
            sentence, code = f"Stopped by {name_of(self._signal)}.", 128 + self._signal
        else:
            sentence, code = _what_happened(account, code), 1 if account.resume or code <= 0 else code
        if account.resume:
            sentence += f" Nothing that was done is lost; go on with: {account.resume}"
        say(sentence)
        if account.resume and self._afterwards is not None:
            self._call(self._afterwards, account.name)
        return code

    def _call(self, afterwards: Callable[[str], object], name: str) -> None:
        """Call it in a process of its own, without its output, and not for longer than a bounded time."""
        signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
        self._child = os.fork()
        if self._child == 0:
            for number in STOPPING:
                signal.signal(number, signal.SIG_DFL)
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, 1)
            os.dup2(nowhere, 2)
            try:
                afterwards(name)
            finally:
                os._exit(0)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
        signal.setitimer(signal.ITIMER_REAL, AFTERWARDS_SECONDS)
        self._wait(self._child)
        self._end_orphans()

    def _end_orphans(self) -> None:
        """End what the child has left behind: processes whose parents died are this one's children."""
        until = time.monotonic() + ORPHAN_SECONDS
        while time.monotonic() < until:
            left = [pid for pid in _children() if pid not in self._others]
            if not left:
                return
            for pid in left:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            time.sleep(0.005)


def _leave(code: int) -> NoReturn:
    """End this process as Python does, but do not take torch, Ray and MLflow apart, which takes seconds."""
    for thread in threading.enumerate():
        if not thread.daemon and thread is not threading.current_thread():
            thread.join()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def _what_happened(account: Account, code: int) -> str:
    how = f"was killed by {name_of(-code)}" if code < 0 else f"ended with exit code {code}"
    if account.log and (account.why or code != -signal.SIGKILL):
        why = account.why or f"the driver {how}"
        return f"Ray died while the sweep ran ({why}): its output is in {account.log}."
    where = f" in the cell {account.cell}" if account.cell else ""
    hint = ", which the kernel sends when memory runs out" if -code == signal.SIGKILL else ""
    return f"The process that does the work {how}{hint}{where}."


def _keep(account: Account) -> None:
    """Add what Ray's own files say to the file that is named, since the folder with them is removed."""
    if not account.log or not account.logs:
        return
    with contextlib.suppress(OSError), open(account.log, "ab") as log:
        for path in sorted(Path(account.logs).glob("*")):
            if path.name.startswith(("gcs_server", "raylet")) and path.is_file():
                text = path.read_bytes()[-MOST_KEPT:]
                log.write(f"\n--- {path.name}\n".encode() + text if text else b"")


def _remove(folder: str) -> None:
    if folder:
        shutil.rmtree(folder, ignore_errors=True)


def _restore_terminal() -> None:
    """Clear the line of a progress bar that nobody finished, and show the cursor again."""
    leave_dead_terminal()
    with contextlib.suppress(OSError, ValueError):
        if sys.stderr.isatty():
            sys.stderr.write("\r\x1b[2K\x1b[?25h")
            sys.stderr.flush()


def _children() -> Iterator[int]:
    """Yield the processes whose parent this one is, where the system lists them."""
    own = str(os.getpid())
    with contextlib.suppress(OSError):
        for entry in os.scandir("/proc"):
            if entry.name.isdigit():
                with contextlib.suppress(OSError, IndexError):
                    # The name, in brackets, may contain anything.
                    after_name = Path(entry.path, "stat").read_text().rpartition(")")[2].split()
                    if after_name[1] == own:
                        yield int(entry.name)


def _prctl(what: int, value: int) -> None:
    if sys.platform.startswith("linux"):
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(what, value, 0, 0, 0)


def _die_with(parent: int) -> None:
    """End this process when its parent ends, as when that is killed."""
    _prctl(SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    if sys.platform.startswith("linux"):
        return

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
