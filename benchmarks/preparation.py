"""The cost of preparing a Parquet data set, relative to decoding its images, and the cost of opening it.

    python benchmarks/preparation.py DATA [--benchmark cifar10] [--rounds 3]

Preparing is everything: reading, decoding, hashing and writing. Decoding alone is one process per core, which
decodes its share of the images into arrays; only the decoding is timed. The two take turns.
"""

from __future__ import annotations

import argparse
import io
import multiprocessing
import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from orchestrator.planning.request import Request, draft
from orchestrator.planning.specification import data_request
from search_spaces import find_benchmark
from trainables.data.cache import prepare
from trainables.data.readers.request import DataRequest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--benchmark", default="cifar10")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    files = [str(given.data / f"{given.benchmark}_{split}.parquet") for split in ("train", "test")]
    ratios = []
    for number in range(given.rounds):
        with tempfile.TemporaryDirectory() as cache:
            request = request_for(given.benchmark, given.data, cache)
            began = time.perf_counter()
            prepared = prepare(request)
            preparing = time.perf_counter() - began
            if number == 0:
                print(opened(request, prepared.fingerprint))
        decoding = bare(files)
        ratios.append(preparing / decoding)
        print(f"round {number + 1}: preparing {preparing:.2f} s, decoding alone {decoding:.2f} s", flush=True)
    print(f"median ratio {statistics.median(ratios):.2f} (from {min(ratios):.2f} to {max(ratios):.2f})")


def request_for(benchmark: str, data: Path, cache: str) -> DataRequest:
    specification = draft(Request(benchmark)).complete("cpu", find_benchmark(benchmark).classes)
    return data_request(specification, str(data), cache=cache, download=False)


def opened(request: DataRequest, fingerprint: str) -> str:
    """Return a line with the time that opening takes, and the private memory that reading images adds."""
    before = private_memory()
    began = time.perf_counter()
    table = prepare(request, fingerprint).open("train")
    seconds = time.perf_counter() - began
    total = sum(int(chunk[::64].sum()) for chunk in table.chunks)
    grown = private_memory() - before
    return f"opening: {1000 * seconds:.1f} ms, private memory + {grown:.1f} MiB (sum of some pixels: {total})"


def private_memory() -> float:
    """Return this process's private memory in MiB; the pages of a mapped file are shared and do not count."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Anonymous")) / 1024


def bare(files: list[str]) -> float:
    """Return the seconds until the slowest of the processes has decoded its share."""
    cores = os.cpu_count() or 1
    context = multiprocessing.get_context("spawn")
    barrier, answers = context.Barrier(cores), context.Queue()
    members = [
        context.Process(target=decode, args=(files, rank, cores, barrier, answers)) for rank in range(cores)
    ]
    for member in members:
        member.start()
    spans = [answers.get() for _ in members]
    for member in members:
        member.join()
    return max(end for _, end in spans) - min(start for start, _ in spans)


def decode(files: list[str], rank: int, cores: int, barrier, answers) -> None:
    encoded = [
        image for path in files for image in pq.read_table(path, columns=["image"])["image"].to_pylist()
    ]
    share = encoded[rank::cores]
    barrier.wait()
    began = time.monotonic()
    for image in share:
        np.asarray(Image.open(io.BytesIO(image)).convert("RGB"))
    answers.put((began, time.monotonic()))


if __name__ == "__main__":
    main()
