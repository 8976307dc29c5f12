"""Copies what a folder of the bucket holds and this machine does not: data sets, before Ray starts.

    python cluster/fetch_data.py s3://bucket/data ~/data

A file that is here with the same size is not copied again. Every file is written aside and renamed.
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow.fs as pafs

THREADS = 32


def main(source: str, target: str) -> int:
    """Fetches what is missing; 1 where the bucket cannot be read."""
    try:
        copied, there = fetch(source, Path(target).expanduser())
    except OSError as error:
        reason = str(error).splitlines()[0]
        print(f"Error: {source} cannot be read ({reason}): check the bucket and this machine's rights to it.")
        return 1
    print(f"fetch_data: {copied} files copied from {source}, {there} were there")
    return 0


def fetch(source: str, target: Path) -> tuple[int, int]:
    """How many files were copied, and how many were there already; OSError where it cannot be read."""
    fs, root = pafs.FileSystem.from_uri(source)
    selector = pafs.FileSelector(root, recursive=True, allow_not_found=True)
    files = [info for info in fs.get_file_info(selector) if info.type == pafs.FileType.File]
    missing = [info for info in files if not _same(target / _name(info, root), info.size)]
    with ThreadPoolExecutor(THREADS) as pool:
        for _ in pool.map(lambda info: _copy(fs, info.path, target / _name(info, root)), missing):
            pass
    return len(missing), len(files) - len(missing)


def _name(info: pafs.FileInfo, root: str) -> str:
    return info.path.removeprefix(root).lstrip("/")


def _same(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


def _copy(fs: pafs.FileSystem, source: str, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f"{target.name}.part")
    pafs.copy_files(source, str(aside), source_filesystem=fs, destination_filesystem=pafs.LocalFileSystem())
    aside.rename(target)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
