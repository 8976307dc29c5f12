"""Readers, on files in the exact formats in which the benchmarks are published."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torchvision.datasets
from PIL import Image

from orchestrator.planning.data import check_named
from orchestrator.planning.request import Request, draft
from orchestrator.planning.specification import data_request
from search_spaces import find_benchmark
from tests.images import folder_request, noise
from trainables.data.cache import prepare
from trainables.data.prepared import Prepared
from trainables.data.readers.finding import applies_orientation
from trainables.data.readers.imagenet_classes import SUBSETS
from trainables.data.readers.request import DataRequest
from trainables.data.readers.stl10 import labelled_stl10
from trainables.mistake import Mistake

SPIDERS = SUBSETS["spider"]


def request_of(benchmark: str, data: Path, cache: Path, **changes: object) -> DataRequest:
    """Return a sweep's request for the benchmark, without the counts, which small files do not have."""
    found = find_benchmark(benchmark)
    specification = draft(Request(benchmark)).complete("cpu", found.classes)
    request = data_request(specification, str(data), cache=str(cache), download=False)
    return replace(request, **{"train_counts": None, "test_counts": None, **changes})  # type: ignore[arg-type]


def pixels(prepared: Prepared, split: str) -> tuple[np.ndarray, list[int]]:
    """Return all images of a split in its original order, with their labels."""
    table = prepared.open(split)
    order = table.indices.argsort()
    labels = np.repeat(np.arange(len(prepared.classes)), prepared.counts[split])
    return table.gather(order).numpy(), labels[order.numpy()].tolist()


def parquet(path: Path, images: list[np.ndarray], labels: list, **columns: object) -> None:
    """Write a Parquet file of PNG images."""
    encoded = []
    for image in images:
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "PNG")
        encoded.append(buffer.getvalue())
    pq.write_table(pa.table({"image": encoded, "label": labels, **columns}), path)


# CIFAR-10 and STL-10 in torchvision's layouts. The published checksums are replaced by those of the test's
# files.


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def write_cifar10(
    root: Path,
    train: tuple[np.ndarray, list[int]],
    test: tuple[np.ndarray, list[int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Write the Python version's batches: pickled dictionaries of rows of 3,072 bytes, plane after plane."""
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    fifth = len(train[1]) // 5
    batches = {f"data_batch_{n + 1}": slice(n * fifth, (n + 1) * fifth) for n in range(5)}
    written = {name: (train[0][part], train[1][part]) for name, part in batches.items()}
    written["test_batch"] = test
    for name, (images, labels) in written.items():
        rows = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
        entry = {"batch_label": name, "labels": labels, "data": rows, "filenames": []}
        (folder / name).write_bytes(pickle.dumps(entry, protocol=2))
    meta = {"label_names": list(find_benchmark("cifar10").classes or ()), "num_vis": 3072}
    (folder / "batches.meta").write_bytes(pickle.dumps(meta, protocol=2))
    cls = torchvision.datasets.CIFAR10
    monkeypatch.setattr(cls, "train_list", [[name, md5(folder / name)] for name in batches])
    monkeypatch.setattr(cls, "test_list", [["test_batch", md5(folder / "test_batch")]])
    monkeypatch.setattr(cls, "meta", {**cls.meta, "md5": md5(folder / "batches.meta")})


def test_cifar10_s_pickles_and_parquet_are_the_same_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = (np.stack([noise(i, 32) for i in range(50)]), [i * 7 % 10 for i in range(50)])
    test = (np.stack([noise(100 + i, 32) for i in range(20)]), [i % 10 for i in range(20)])
    write_cifar10(tmp_path / "pickles", train, test, monkeypatch)
    (tmp_path / "parquet").mkdir()
    parquet(tmp_path / "parquet" / "cifar10_train.parquet", list(train[0]), train[1])
    parquet(tmp_path / "parquet" / "cifar10_test.parquet", list(test[0]), test[1])
    one, other = (
        prepare(request_of("cifar10", tmp_path / kind, tmp_path / "cache")) for kind in ("pickles", "parquet")
    )
    assert one.fingerprint == other.fingerprint
    for split, (images, labels) in (("train", train), ("test", test)):
        found, numbers = pixels(one, split)
        np.testing.assert_array_equal(found, images)
        assert numbers == labels


def test_damaged_batches_are_found_by_their_checksums(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = (np.stack([noise(i, 32) for i in range(10)]), list(range(10)))
    write_cifar10(tmp_path, train, train, monkeypatch)
    batch = tmp_path / "cifar-10-batches-py" / "data_batch_3"
    batch.write_bytes(batch.read_bytes()[:-20])
    with pytest.raises(Mistake, match="damaged"):
        prepare(request_of("cifar10", tmp_path, tmp_path / "cache"))


def write_stl10(root: Path, images: np.ndarray, labels: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Write the binary files: consecutive colour planes, each column by column; labels count from 1."""
    folder = root / "stl10_binary"
    folder.mkdir(parents=True)
    for split in ("train", "test"):
        images.transpose(0, 3, 2, 1).tofile(folder / f"{split}_X.bin")
        (np.array(labels, np.uint8) + 1).tofile(folder / f"{split}_y.bin")
    (folder / "class_names.txt").write_text("\n".join(find_benchmark("stl10").classes or ()) + "\n")
    (folder / "fold_indices.txt").write_text("")
    cls = torchvision.datasets.STL10
    listed = [[n, md5(folder / n)] for n in ("train_X.bin", "train_y.bin")]
    listed.append(["unlabeled_X.bin", "0" * 32])
    monkeypatch.setattr(cls, "train_list", listed)
    monkeypatch.setattr(cls, "test_list", [[n, md5(folder / n)] for n in ("test_X.bin", "test_y.bin")])


def test_stl10_s_images_are_upright(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.stack([noise(i, 96) for i in range(20)])
    images[0, :48] = 0  # black above, noise below: a transposed image would be black on the left
    labels = [i % 10 for i in range(20)]
    write_stl10(tmp_path, images, labels, monkeypatch)
    assert labelled_stl10().train_list == torchvision.datasets.STL10.train_list[:2]
    found, numbers = pixels(prepare(request_of("stl10", tmp_path, tmp_path / "cache")), "test")
    np.testing.assert_array_equal(found, images)
    assert not found[0, :48].any()
    assert numbers == labels


@pytest.mark.parametrize("benchmark", ["cifar10", "stl10"])
def test_missing_data_says_what_was_looked_for_and_where_to_get_it(tmp_path: Path, benchmark: str) -> None:
    with pytest.raises(Mistake) as said:
        prepare(request_of(benchmark, tmp_path / "nowhere", tmp_path / "cache"))
    for word in ("https://", "--data", "--download", f"{benchmark}_train.parquet", str(tmp_path / "nowhere")):
        assert word in str(said.value)


# ILSVRC2012 trees


def write_tree(root: Path, *, flat: bool) -> dict[str, np.ndarray]:
    """Write two training and one validation image per spider, 300x260; return the latter by class."""
    shown = {}
    numbers = []
    for place, member in enumerate(SPIDERS):
        folder = root / "train" / member.wnid
        folder.mkdir(parents=True)
        for n in range(2):
            Image.fromarray(noise(10 * place + n, 300)[:260]).save(folder / f"{member.wnid}_{n}.JPEG")
        val = root / "val" if flat else root / "val" / member.wnid
        val.mkdir(parents=True, exist_ok=True)
        image = np.full((260, 300, 3), 20 * place, np.uint8)
        # The kit's order of classes differs from ours: the first spider has the highest number.
        Image.fromarray(image).save(val / f"ILSVRC2012_val_{place + 1:08d}.JPEG")
        numbers.append(len(SPIDERS) - place)
        shown[member.name] = image
    if flat:
        from scipy.io import savemat

        kit = root / "ILSVRC2012_devkit_t12" / "data"
        kit.mkdir(parents=True)
        (kit / "ILSVRC2012_validation_ground_truth.txt").write_text("\n".join(map(str, numbers)) + "\n")
        synsets = np.zeros(len(SPIDERS), dtype=[("ILSVRC2012_ID", object), ("WNID", object)])
        for place, member in enumerate(SPIDERS):
            synsets[place] = (len(SPIDERS) - place, member.wnid)
        savemat(kit / "meta.mat", {"synsets": synsets})
    return shown


@pytest.mark.parametrize("flat", [False, True])
def test_an_ilsvrc_tree_is_read_sorted_or_flat(tmp_path: Path, flat: bool) -> None:
    shown = write_tree(tmp_path / "tree", flat=flat)
    prepared = prepare(request_of("imagenet-spider", tmp_path / "tree", tmp_path / "cache"))
    assert prepared.classes == tuple(member.name for member in SPIDERS)
    assert prepared.side == 256
    assert prepared.counts == {"train": (2,) * 6, "test": (1,) * 6}
    for name, image in shown.items():
        found = prepared.open("test", (name,)).gather(np_rows(1)).numpy()
        # JPEG preserves a plain grey to within two levels.
        assert abs(int(found.mean()) - int(image.mean())) <= 2


def np_rows(n: int):
    import torch

    return torch.arange(n)


def test_a_folder_that_is_not_a_tree_and_a_missing_class_are_named(tmp_path: Path) -> None:
    (tmp_path / "other" / "cats").mkdir(parents=True)
    with pytest.raises(Mistake, match=r"no ILSVRC2012 tree.*https://image-net\.org"):
        prepare(request_of("imagenet-spider", tmp_path / "other", tmp_path / "cache"))
    write_tree(tmp_path / "tree", flat=False)
    gone = tmp_path / "tree" / "train" / SPIDERS[2].wnid
    for path in gone.iterdir():
        path.unlink()
    gone.rmdir()
    with pytest.raises(Mistake, match=rf"{SPIDERS[2].wnid} \(barn spider\)"):
        prepare(request_of("imagenet-spider", tmp_path / "tree", tmp_path / "cache"))


def test_a_ground_truth_of_another_length_is_refused(tmp_path: Path) -> None:
    write_tree(tmp_path, flat=True)
    truth = tmp_path / "ILSVRC2012_devkit_t12" / "data" / "ILSVRC2012_validation_ground_truth.txt"
    truth.write_text(truth.read_text() + "3\n")
    with pytest.raises(Mistake, match="has 7 lines for the 6 images"):
        prepare(request_of("imagenet-spider", tmp_path, tmp_path / "cache"))


def test_a_truncated_jpeg_is_named(tmp_path: Path) -> None:
    write_tree(tmp_path, flat=False)
    cut = next((tmp_path / "train" / SPIDERS[1].wnid).iterdir())
    cut.write_bytes(cut.read_bytes()[:2000])
    with pytest.raises(Mistake, match=cut.name):
        prepare(request_of("imagenet-spider", tmp_path, tmp_path / "cache"))


def test_the_counts_of_the_benchmark_are_checked(tmp_path: Path) -> None:
    write_tree(tmp_path, flat=False)
    with pytest.raises(Mistake, match="12 images .* ImageNet has 7800"):
        prepare(request_of("imagenet-spider", tmp_path, tmp_path / "cache", test_counts=(1,) * len(SPIDERS)))


def test_the_subsets_are_those_that_were_checked(shared_data: Path) -> None:
    listed = json.loads((shared_data / "imagenet_subsets.json").read_text())
    for subset, members in SUBSETS.items():
        assert [(m.name, m.wnid) for m in members] == [(m["member"], m["wnid"]) for m in listed[subset]]


# Parquet


def test_parquet_of_the_hub_s_kind_is_read(tmp_path: Path) -> None:
    images = [noise(i, 8) for i in range(12)]
    buffers = []
    for image in images:
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "PNG")
        buffers.append({"bytes": buffer.getvalue(), "path": None})
    features = {"info": {"features": {"label": {"names": ["ant", "bee", "wasp"], "_type": "ClassLabel"}}}}
    table = pa.table({"image": buffers, "label": [i % 3 for i in range(12)]})
    pq.write_table(
        table.replace_schema_metadata({"huggingface": json.dumps(features)}), tmp_path / "train.parquet"
    )
    prepared = prepare(folder_request(tmp_path, tmp_path / "cache"))
    assert prepared.classes == ("ant", "bee", "wasp")
    assert sum(prepared.counts["train"]) + sum(prepared.counts["test"]) == 12


@pytest.mark.parametrize("place", ["column", "struct"])
def test_rows_of_parquet_keep_the_names_that_the_file_gives_them(tmp_path: Path, place: str) -> None:
    for split, count in (("train", 6), ("test", 4)):
        images, labels = [noise(i, 8) for i in range(count)], [i % 2 for i in range(count)]
        names = [f"{split}-{i}.jpg" for i in range(count)]
        path = tmp_path / f"{split}.parquet"
        parquet(path, images, labels, **({"filename": names} if place == "column" else {}))
        if place == "struct":
            encoded = pq.read_table(path)["image"].to_pylist()
            rows = [{"bytes": data, "path": name} for data, name in zip(encoded, names, strict=True)]
            pq.write_table(pa.table({"image": rows, "label": labels}), path)
    prepared = prepare(folder_request(tmp_path, tmp_path / "cache"))
    assert prepared.test_files == ("test-0.jpg", "test-1.jpg", "test-2.jpg", "test-3.jpg")
    (tmp_path / "test.parquet").unlink()  # so that some of the rows are set aside
    files = prepare(folder_request(tmp_path, tmp_path / "cache")).test_files
    assert files is not None
    assert len(files) == 2
    assert set(files) < {f"train-{i}.jpg" for i in range(6)}


def test_parquet_in_which_a_row_has_no_name_has_none(tmp_path: Path) -> None:
    names = ["a", "b", None, "d"]
    parquet(tmp_path / "train.parquet", [noise(i, 8) for i in range(4)], [0, 1, 0, 1], file_name=names)
    assert prepare(folder_request(tmp_path, tmp_path / "cache")).test_files is None


def test_parquet_without_labels_says_which_columns_there_are(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": [b"x"], "caption": ["an ant"]}), tmp_path / "train.parquet")
    with pytest.raises(Mistake, match=r"no label column.*caption \(string\)"):
        prepare(folder_request(tmp_path, tmp_path / "cache"))


def test_a_whole_set_s_parquet_gives_a_benchmark_its_rows_by_name_wordnet_id_or_words(tmp_path: Path) -> None:
    labels = [*(m.wnid for m in SPIDERS), "n01440764", *(m.words for m in SPIDERS), "tench"]
    images = [np.full((260, 260, 3), 15 * place, np.uint8) for place in range(len(labels))]
    for split in ("train", "test"):
        parquet(tmp_path / f"{split}.parquet", images, labels)
    prepared = prepare(request_of("imagenet-spider", tmp_path, tmp_path / "cache"))
    names = [m.name for m in SPIDERS]
    assert prepared.classes == tuple(names)
    assert prepared.counts["train"] == (2,) * len(SPIDERS)
    shown, numbers = pixels(prepared, "train")
    of_row = {15 * row: m.name for start in (0, len(SPIDERS) + 1) for row, m in enumerate(SPIDERS, start)}
    assert sorted(of_row) == sorted(shown[:, 0, 0, 0].tolist())
    assert [names[number] for number in numbers] == [of_row[value] for value in shown[:, 0, 0, 0].tolist()]


def test_images_that_need_no_data_are_not_replaced_by_whatever_lies_in_the_folder(tmp_path: Path) -> None:
    images, labels = [noise(i, 8, channels=1) for i in range(20)], [str(i % 10) for i in range(20)]
    for split in ("train", "test"):
        parquet(tmp_path / f"{split}.parquet", images, labels)
    request = request_of("digits", tmp_path, tmp_path / "cache")
    assert sum(sum(counts) for counts in prepare(request).counts.values()) == 1797
    with pytest.raises(Mistake, match="come with scikit-learn, and .* is no Parquet file of them"):
        check_named(request)
    for split in ("train", "test"):
        (tmp_path / f"{split}.parquet").rename(tmp_path / f"digits_{split}.parquet")
    check_named(request)
    prepared = prepare(request)
    assert prepared.counts == {"train": (2,) * 10, "test": (2,) * 10}


# Real images


@pytest.mark.slow
def test_cifar10_s_facts_hold_and_its_pickles_read_identically(
    shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = find_benchmark("cifar10")
    counts = {"train_counts": found.train_counts, "test_counts": found.test_counts}
    prepared = prepare(request_of("cifar10", shared_data, tmp_path / "cache", **counts))
    assert prepared.counts == {"train": (5000,) * 10, "test": (1000,) * 10}
    train, test = pixels(prepared, "train"), pixels(prepared, "test")
    scaled = train[0].reshape(-1, 3) / 255
    # Published to five places.
    np.testing.assert_allclose(scaled.mean(0), [0.49140, 0.48216, 0.44653], atol=5e-6)
    np.testing.assert_allclose(scaled.std(0), [0.24703, 0.24349, 0.26159], atol=5e-6)
    write_cifar10(tmp_path / "pickles", train, test, monkeypatch)
    again = prepare(request_of("cifar10", tmp_path / "pickles", tmp_path / "cache", **counts))
    assert again.fingerprint == prepared.fingerprint


@pytest.mark.slow
def test_one_real_image_of_each_imagenet_class_is_read(shared_data: Path, tmp_path: Path) -> None:
    with tarfile.open(shared_data / "imagenet_samples.tar") as tar:
        tar.extractall(tmp_path / "tree", filter="data")
    for subset, members in SUBSETS.items():
        prepared = prepare(request_of(f"imagenet-{subset}", tmp_path / "tree", tmp_path / "cache"))
        assert prepared.counts["train"] == (1,) * len(members)
        # The same image is in both splits.
        np.testing.assert_array_equal(pixels(prepared, "train")[0], pixels(prepared, "test")[0])


def test_which_images_are_turned_as_a_camera_noted_is_known_without_the_data(tmp_path: Path) -> None:
    def applies(benchmark: str, path: Path) -> bool:
        found = find_benchmark(benchmark)
        assert isinstance(found.reader, str)
        request = DataRequest(found.reader, str(path), 8, 3, classes=found.classes, name=benchmark)
        return applies_orientation(request)

    for place in (tmp_path / "gone", tmp_path / "gone.parquet"):
        assert applies("image-folder", place)
        assert not applies("imagenet-dog", place)
    assert applies("cifar10", tmp_path / "gone")
    assert not applies("cifar10", tmp_path / "gone.parquet")
    (tmp_path / "cifar10_train.parquet").write_bytes(b"")
    assert not applies("cifar10", tmp_path)
