"""The paper's five ImageNet subsets from an ILSVRC2012 tree; test images are its validation images.

Training images lie in train/<wnid>/. Validation images lie in val/<wnid>/, or all 50,000 directly in val/
with the development kit's ground truth (one class number per line) and meta.mat or a list of synsets, which
tell a number's class. An orientation noted by a camera is not applied, as is usual for ImageNet.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from trainables.data.readers.image_folder import image_files, split_of
from trainables.data.readers.imagenet_classes import SUBSETS, TRAIN_TOTALS, Member
from trainables.data.readers.source import Source
from trainables.mistake import Mistake

if TYPE_CHECKING:
    from trainables.data.readers.request import DataRequest

GROUND_TRUTH = "ILSVRC2012_validation_ground_truth.txt"
META = "meta.mat"
ORIENTED = False
SYNSET_LISTS = ("synsets.txt", "imagenet_lsvrc_2012_synsets.txt")
WHOLE_LIST = 1000
WHERE = (
    "--data names an ILSVRC2012 tree with train/<wnid>/*.JPEG and val/<wnid>/*.JPEG, or "
    "val/ILSVRC2012_val_*.JPEG beside ILSVRC2012_devkit_t12; https://image-net.org gives it to members"
)


def sources(request: DataRequest) -> list[str]:
    """Return the folders and files of the subset that are read; raise Mistake if one is missing."""
    root, members = Path(request.path), _members(request)
    train = _class_folders(root, "train", members)
    if _is_sorted_by_class(root, members):
        return [str(folder) for folder in (*train, *_class_folders(root, "val", members))]
    truth = _find(root, GROUND_TRUTH)
    numbering = _numbering(root)
    return [*map(str, train), str(truth), str(numbering), *_flat_images(root)]


def read(request: DataRequest) -> Source:
    """Return the subset's images, class after class in the paper's order, by file name within a class.

    Raise Mistake if the tree is incomplete.
    """
    root, members = Path(request.path), _members(request)
    classes = tuple(member.name for member in members)
    train = {
        m.name: image_files(f) for m, f in zip(members, _class_folders(root, "train", members), strict=True)
    }
    if _is_sorted_by_class(root, members):
        folders = _class_folders(root, "val", members)
        test = {m.name: image_files(f) for m, f in zip(members, folders, strict=True)}
    else:
        test = _flat_by_class(root, members)
    subset = _subset(request)
    found, whole = sum(map(len, train.values())), TRAIN_TOTALS[subset]
    if request.test_counts is not None and found != whole:
        raise Mistake(
            f"{root / 'train'} holds {found} images of {request.name}'s {len(classes)} classes where "
            f"ImageNet has {whole}: the tree is incomplete or another; unpack the training images again."
        )
    splits = {"train": split_of(train, classes), "test": split_of(test, classes)}
    return Source(classes, splits, oriented=ORIENTED)


def class_of(label: str, classes: Sequence[str]) -> str | None:
    """Return which of these classes a label of the whole of ImageNet means, by name, WordNet ID or words."""
    for members in SUBSETS.values():
        for member in members:
            if member.name in classes and label in (member.name, member.wnid, member.words):
                return member.name
    return None


def _subset(request: DataRequest) -> str:
    return request.name.removeprefix("imagenet-")


def _members(request: DataRequest) -> tuple[Member, ...]:
    return SUBSETS[_subset(request)]


def _class_folders(root: Path, split: str, members: tuple[Member, ...]) -> list[Path]:
    if not (root / split).is_dir():
        raise Mistake(f"{root} is no ILSVRC2012 tree: it has no folder {split}. {WHERE}.")
    folders = [root / split / member.wnid for member in members]
    missing = [f"{f.name} ({m.name})" for f, m in zip(folders, members, strict=True) if not f.is_dir()]
    if missing:
        raise Mistake(f"{root / split} lacks the class folders {', '.join(missing)}. {WHERE}.")
    return folders


def _is_sorted_by_class(root: Path, members: tuple[Member, ...]) -> bool:
    return any((root / "val" / member.wnid).is_dir() for member in members) or not _flat_images(root)


def _flat_images(root: Path) -> list[str]:
    return sorted(str(path) for path in (root / "val").glob("ILSVRC2012_val_*.JPEG"))


def _flat_by_class(root: Path, members: tuple[Member, ...]) -> dict[str, list[str]]:
    """Return the validation images of each member, by the class numbers in the ground truth."""
    images, truth = _flat_images(root), _find(root, GROUND_TRUTH)
    try:
        numbers = [int(line) for line in truth.read_text().split()]
    except ValueError as error:
        raise Mistake(
            f"{truth} is no list of class numbers ({error}): unpack the development kit again."
        ) from error
    if len(numbers) != len(images):
        raise Mistake(
            f"{truth} has {len(numbers)} lines for the {len(images)} images of {root / 'val'}: one line per "
            "image is needed (50,000 in all); unpack the validation images and the development kit again."
        )
    wnids = _wnids(_numbering(root))
    names = {member.wnid: member.name for member in members}
    lacking = [f"{wnid} ({name})" for wnid, name in names.items() if wnid not in wnids.values()]
    if lacking:
        raise Mistake(f"{_numbering(root)} lacks {', '.join(lacking)}: it is not ILSVRC2012's. {WHERE}.")
    found: dict[str, list[str]] = {name: [] for name in names.values()}
    for image, number in zip(images, numbers, strict=True):
        if wnids.get(number) in names:
            found[names[wnids[number]]].append(image)
    return found


def _numbering(root: Path) -> Path:
    """Return the file that gives the synset of each class number in the ground truth."""
    for name in SYNSET_LISTS:
        for folder in _kit_folders(root):
            if (folder / name).is_file() and not (folder / META).is_file():
                return folder / name
    return _find(root, META)


def _wnids(numbering: Path) -> dict[int, str]:
    """Return the WordNet ID (wnid) of each class number (ILSVRC2012_ID)."""
    if numbering.name == META:
        return _meta_wnids(numbering)
    wnids = [line.split()[0] for line in numbering.read_text().splitlines() if line.strip()]
    if len(wnids) == WHOLE_LIST and wnids == sorted(wnids):
        raise Mistake(
            f"{numbering} lists the synsets by WordNet's number, but the ground truth counts in the "
            f"development kit's own order: put the kit's {META} beside {GROUND_TRUTH}."
        )
    return dict(enumerate(wnids, start=1))


def _meta_wnids(path: Path) -> dict[int, str]:
    from scipy.io import loadmat  # its import takes a second, and few trees need it

    try:
        synsets = loadmat(str(path), squeeze_me=True)["synsets"]
        return {int(s["ILSVRC2012_ID"]): str(s["WNID"]) for s in synsets.ravel()}
    except Exception as error:  # scipy raises many kinds for a file that is not MATLAB's
        raise Mistake(f"{path} is not the development kit's ({error}): unpack the kit again.") from error


def _find(root: Path, name: str) -> Path:
    for folder in _kit_folders(root):
        if (folder / name).is_file():
            return folder / name
    raise Mistake(
        f"{root / 'val'} holds the validation images unsorted, and {name}, which tells their classes, is not "
        f"in {root}, in its data folder or in ILSVRC2012_devkit_t12/data. {WHERE}."
    )


def _kit_folders(root: Path) -> Iterator[Path]:
    yield root
    yield root / "data"
    yield root / "val"
    for kit in sorted(root.glob("*devkit*")):
        yield kit / "data"
        yield kit
