"""What CIFAR-10 and STL-10 share: files in torchvision's layout, fetched and checked by torchvision."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from trainables.mistake import Mistake

if TYPE_CHECKING:
    from trainables.data.readers.request import DataRequest


@dataclass(frozen=True)
class Layout:
    """A data set's folder below --data, the files that must be in it, and where a person gets them."""

    title: str
    folder: str
    files: tuple[str, ...]
    address: str
    archive: str

    def root(self, request: DataRequest) -> Path:
        """The folder that torchvision calls root; --data may name it or the data set's own folder."""
        given = Path(request.path)
        return given.parent if given.absolute().name == self.folder else given

    def sources(self, request: DataRequest, fetch: Callable[[str], object]) -> list[str]:
        """The data set's folder, fetched first if that is allowed; raises Mistake where files are missing.

        `fetch(root)` downloads and checks; processes that want the same folder take turns.
        """
        root = self.root(request)
        folder = root / self.folder
        if self._missing(folder) and request.download:
            try:
                root.mkdir(parents=True, exist_ok=True)
                with FileLock(root / f".{self.folder}.lock"):
                    if self._missing(folder):
                        fetch(str(root))
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

    def open(self, request: DataRequest, opened: Callable[[str], Iterable[Any]]) -> list[Any]:
        """What `opened(root)` gives; Mistake where torchvision's checksums say that files are damaged."""
        root = self.root(request)
        try:
            return list(opened(str(root)))
        except RuntimeError as error:
            raise Mistake(
                f"{self.title} in {root / self.folder} is damaged (its checksums are not the published "
                f"ones): delete that folder and get {self.archive} again, with --download or from "
                f"{self.address}."
            ) from error

    def _missing(self, folder: Path) -> list[str]:
        return [name for name in self.files if not (folder / name).is_file()]
