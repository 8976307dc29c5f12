"""Data sets in torchvision's layout, which torchvision downloads and checks: CIFAR-10 and STL-10."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from filelock import FileLock

from trainables.mistake import Mistake

if TYPE_CHECKING:
    from trainables.data.readers.request import DataRequest


class Load(Protocol):
    """A function that returns torchvision's data set of a split, or raises RuntimeError if it is damaged."""

    def __call__(self, root: str, split: str, *, download: bool = False) -> Any:
        """Load the split "train" or "test" from torchvision's root; with `download`, fetch it first."""


@dataclass(frozen=True)
class TorchvisionSet:
    """A data set of torchvision's: its folder below --data, the required files, and their source."""

    title: str
    folder: str
    files: tuple[str, ...]
    address: str
    archive: str
    load: Load

    def root(self, request: DataRequest) -> Path:
        """Return the folder that torchvision calls root; --data names it or the data set's own folder."""
        given = Path(request.path)
        return given.parent if given.absolute().name == self.folder else given

    def sources(self, request: DataRequest) -> list[str]:
        """Return the data set's files, downloaded first if they are missing and that is allowed.

        Processes that want the same folder take turns. Raise Mistake if files are missing.
        """
        root = self.root(request)
        folder = root / self.folder
        if self._missing(folder) and request.download:
            try:
                root.mkdir(parents=True, exist_ok=True)
                with FileLock(root / f".{self.folder}.lock"):
                    if self._missing(folder):
                        self.load(str(root), "train", download=True)
            except (OSError, RuntimeError) as error:
                raise Mistake(
                    f"{self.title} could not be downloaded into {root} ({error}): fetch {self.archive} from "
                    f"{self.address} by other means, unpack it and name its folder with --data."
                ) from error
        missing = self._missing(folder)
        if missing:
            raise Mistake(
                f"{self.title} is not in {root}: {folder / missing[0]} was looked for, and so were "
                f"{request.name}_train.parquet and train.parquet. Name its folder with --data; --download "
                f"fetches it, or get {self.archive} from {self.address} and unpack it."
            )
        return [str(folder / name) for name in self.files]

    def open_splits(self, request: DataRequest) -> tuple[Any, Any]:
        """Return torchvision's data sets of both splits; raise Mistake if a file's checksum is wrong."""
        root = self.root(request)
        try:
            return self.load(str(root), "train"), self.load(str(root), "test")
        except RuntimeError as error:
            raise Mistake(
                f"{self.title} in {root / self.folder} is damaged (its checksums are not the published "
                f"ones): delete that folder and get {self.archive} again, with --download or from "
                f"{self.address}."
            ) from error

    def _missing(self, folder: Path) -> list[str]:
        return [name for name in self.files if not (folder / name).is_file()]
