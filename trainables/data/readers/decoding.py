"""Decoding many images in parallel, in separate processes, since threads gain nothing for small images.

A decoding process imports neither torch nor the program that started it, so it starts in a fraction of a
second. It ends when its input does, so none is left behind even if the program that started it is killed.
"""

from __future__ import annotations

import io
import os
import pickle
import queue
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import IO

import numpy as np

from trainables.data.readers.pixels import Item, square_pixels

BATCH = 64
"""Number of images that are sent to a decoding process at a time."""


@dataclass(frozen=True)
class Failure:
    """An image that could not be read; `unreachable` if the file system, not the image, is at fault."""

    place: int
    reason: str
    unreachable: bool


@dataclass(frozen=True)
class Form:
    """The form into which images are decoded; `oriented` applies the orientation noted by a camera."""

    side: int
    channels: int
    oriented: bool


def decode(items: Sequence[Item], form: Form, out: np.ndarray) -> list[Failure]:
    """Fill `out`, uint8 (n, side, side, channels), and return the images that could not be read."""
    failures = []
    for place, item in enumerate(items):
        try:
            out[place] = square_pixels(item, form.side, form.channels, oriented=form.oriented)
        except MemoryError:
            raise
        except Exception as error:  # Pillow's decoders raise many kinds for bad data
            if isinstance(error, OSError) and error.errno is not None:
                failures.append(Failure(place, error.strerror or type(error).__name__, unreachable=True))
            else:
                failures.append(Failure(place, str(error) or type(error).__name__, unreachable=False))
    return failures


class Decoders:
    """A context manager with a group of decoding processes; with 0 of them, this process decodes."""

    def __init__(self, form: Form, processes: int) -> None:
        self.form = form
        self._processes = [_start() for _ in range(processes)]
        self._idle: queue.SimpleQueue[subprocess.Popen[bytes]] = queue.SimpleQueue()
        for process in self._processes:
            self._idle.put(process)
        self._threads = ThreadPoolExecutor(max(1, processes))

    def submit(
        self, items: Callable[[int], Item], rows: np.ndarray, out: np.ndarray, done: Callable[[int], None]
    ) -> list[Future[list[Failure]]]:
        """Start to decode the items of these rows into `out`; `done(n)` is called after each n of them.

        The places in the futures' failures are counted from the start of `rows`.
        """
        starts = range(0, len(rows), BATCH)
        return [self._threads.submit(self._decode_batch, items, rows, out, start, done) for start in starts]

    def _decode_batch(
        self,
        items: Callable[[int], Item],
        rows: np.ndarray,
        out: np.ndarray,
        start: int,
        done: Callable[[int], None],
    ) -> list[Failure]:
        batch = [items(int(row)) for row in rows[start : start + BATCH]]
        failures = self._decode(batch, out[start : start + len(batch)])
        done(len(batch))
        return [Failure(start + f.place, f.reason, f.unreachable) for f in failures]

    def _decode(self, items: list[Item], out: np.ndarray) -> list[Failure]:
        if not self._processes:
            return decode(items, self.form, out)
        process = self._idle.get()
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            pickle.dump((self.form, items), process.stdin, protocol=pickle.HIGHEST_PROTOCOL)
            process.stdin.flush()
            failures: list[Failure] = pickle.load(process.stdout)
            _read_into(process.stdout, out)
        except (EOFError, BrokenPipeError, pickle.UnpicklingError) as error:
            raise RuntimeError("a decoding process ended before its images were done") from error
        finally:
            self._idle.put(process)
        return failures

    def __enter__(self) -> Decoders:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._threads.shutdown(cancel_futures=True)
        for process in self._processes:
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()
            process.wait()


def usable_cpus() -> int:
    """Return the number of CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _start() -> subprocess.Popen[bytes]:
    paths = os.pathsep.join(path or os.getcwd() for path in sys.path)
    return subprocess.Popen(
        [sys.executable, "-c", "from trainables.data.readers.decoding import serve; serve()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": paths},
    )


def _read_into(pipe: IO[bytes], out: np.ndarray) -> None:
    assert isinstance(pipe, io.BufferedIOBase)
    left = memoryview(out.data).cast("B")
    while left:
        read = pipe.readinto(left)
        if not read:
            raise EOFError
        left = left[read:]


def serve() -> None:
    """Run a decoding process until its input ends; a request is (form, items), pickled."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that started it decides when to stop
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    while True:
        try:
            form, items = pickle.load(requests)
        except EOFError:
            return
        out = np.zeros((len(items), form.side, form.side, form.channels), np.uint8)
        pickle.dump(decode(items, form, out), answers, protocol=pickle.HIGHEST_PROTOCOL)
        answers.write(out.data)
        answers.flush()
