"""Copies data sets from the bucket to this machine before Ray starts.

    python cluster/fetch_data.py s3://bucket/data ~/data

A file that this machine has with the same size is not copied again. Every file is written under another name
and renamed when it is complete.
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow.fs as pafs

THREADS = 32


def main(source: str, target: str) -> int:
    """Copy what is missing and return the exit code: 1 if the bucket cannot be read."""
    try:
        copied, there = fetch(source, Path(target).expanduser())
    except OSError as error:
        reason = str(error).splitlines()[0]
        print(f"Error: {source} cannot be read ({reason}): check the bucket and this machine's rights to it.")
        return 1
    print(f"fetch_data: {copied} files copied from {source}, {there} were there")
    return 0


def fetch(source: str, target: Path) -> tuple[int, int]:
    """Copy the missing files; return how many were copied and how many were there already.

    Raise OSError if the source cannot be read.
    """
    fs, root = pafs.FileSystem.from_uri(source)
    selector = pafs.FileSelector(root, recursive=True, allow_not_found=True)
    files = [info for info in fs.get_file_info(selector) if info.type == pafs.FileType.File]
    missing = [info for info in files if not _has_size(target / _name(info, root), info.size)]
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(lambda info: _copy(fs, info.path, target / _name(info, root)), missing))
    return len(missing), len(files) - len(missing)


def _name(info: pafs.FileInfo, root: str) -> str:
    path: str = info.path
    return path.removeprefix(root).lstrip("/")


def _has_size(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


def _copy(fs: pafs.FileSystem, source: str, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f"{target.name}.part")
    pafs.copy_files(source, str(partial), source_filesystem=fs, destination_filesystem=pafs.LocalFileSystem())
    partial.rename(target)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
