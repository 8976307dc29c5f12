"""Whether `predict` flags as many images as was asked for, and more of a class that it has never seen.

    python benchmarks/false_alarms.py digits                  # 10 networks: about a minute of one core
    python benchmarks/false_alarms.py photographs --data DIR  # one network: some minutes of one core

digits: the kept classes' test images are divided in halves by a seeded draw. One half sets the threshold, and
the false alarms are counted on the other one. Their number should lie inside the 99% interval of the
beta-binomial distribution that the rank of the threshold has.

photographs: DIR holds imagenette224_subset_{train,val}.parquet, files with an image and a label column. Of
each class 30 test images set the threshold, and the next 30, of which nothing in the sweep knows, are given
to `python -m orchestrator.predict` as files, and so are the held-out class's training images, new to it too.
"""

from __future__ import annotations

import argparse
import csv
import json
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from scipy.stats import betabinom

from orchestrator.ledger.ledger import Ledger
from orchestrator.planning.cells import lay_out
from orchestrator.planning.specification import read_stored
from orchestrator.predict import main as predict
from orchestrator.sweep import main as sweep
from trainables.detectors import DEFAULT_DETECTORS
from trainables.threshold import find_threshold

DETECTOR = DEFAULT_DETECTORS[0]
PER_PART = 30
"""Photographs of a class that set the threshold, and as many that are new."""
RECIPE = ("image_size=32", "depth=10", "width=2", "epochs=20", "ap_window=1")


def main() -> None:
    given = arguments().parse_args()
    began = time.process_time()
    with tempfile.TemporaryDirectory() as scratch:
        if given.what == "digits":
            digits(Path(scratch), given)
        else:
            photographs(Path(scratch), given)
    print(f"{time.process_time() - began:.0f} s of CPU time.")


def digits(scratch: Path, given: argparse.Namespace) -> None:
    (holdout,) = given.holdouts or ("3",)
    words = ["digits", "--methods", "classification", "--holdouts", holdout, "--seeds", str(given.seeds)]
    run_sweep(scratch, *words)
    inside = 0
    ledger = Ledger(str(scratch), "it")
    stored = read_stored(ledger)
    for cell in lay_out(stored.specification, stored.fingerprint).all():
        table = ledger.read_scores(cell.key)
        kept = table[DETECTOR].to_numpy()[~table["is_anomaly"].to_numpy()]
        order = np.random.default_rng(cell.seed).permutation(len(kept))
        half = len(kept) // 2
        threshold = find_threshold(kept[order[:half]], given.rate)
        checked = kept[order[half:]]
        alarms = int(threshold.flags(checked).sum())
        law = betabinom(len(checked), threshold.count + 1 - threshold.rank, threshold.rank)
        low, high = law.ppf(0.005), law.ppf(0.995)
        inside += low <= alarms <= high
        print(
            f"seed {cell.seed}: {alarms} false alarms on {len(checked)} images "
            f"({alarms / len(checked):.1%}), threshold from {threshold.count} others; "
            f"99% of draws: {low:.0f} to {high:.0f}",
            flush=True,
        )
    print(f"{inside} of {given.seeds} seeds are inside, at a rate of {float(given.rate):g}.")


def photographs(scratch: Path, given: argparse.Namespace) -> None:
    names = write_photographs(Path(given.data), scratch / "images", scratch / "new")
    for holdout in given.holdouts or names[:1]:
        words = ["image-folder", "--data", str(scratch / "images"), "--methods", "classification"]
        run_sweep(scratch / holdout, *words, "--holdouts", holdout, "--set", *RECIPE)
        table = scratch / f"{holdout}.csv"
        where = ["--storage", str(scratch / holdout), "--output", str(table)]
        rate = ["--false-alarms", str(float(given.rate)), "--detector", given.detector]
        images = [str(scratch / "new"), str(scratch / "images" / "train" / holdout)]
        assert predict(["it", "--images", *images, "--holdout", holdout, *rate, *where]) == 0
        if given.keep:
            given.keep.mkdir(exist_ok=True)
            for path in (table, table.with_suffix(".png")):
                (given.keep / path.name).write_bytes(path.read_bytes())
        with table.open(newline="") as file:
            rows = list(csv.DictReader(file))
        unseen = [row["flagged"] == "true" for row in rows if Path(row["file"]).parent.name == holdout]
        known = [row["flagged"] == "true" for row in rows if Path(row["file"]).parent.name != holdout]
        print(
            f"{holdout}: flagged {sum(unseen)} of {len(unseen)} images of it ({np.mean(unseen):.1%}) and "
            f"{sum(known)} of {len(known)} images of the other classes ({np.mean(known):.1%})",
            flush=True,
        )


def run_sweep(storage: Path, *words: str) -> None:
    """Run final cells in this process, one after another."""
    where = ["--storage", str(storage), "--name", "it", "--executor", "inline"]
    seeds = [] if "--seeds" in words else ["--seeds", "1"]
    assert sweep([*words, *seeds, *where]) == 0


def write_photographs(data: Path, images: Path, new: Path) -> list[str]:
    """Write a folder of training and test images, and a folder of new ones; return the classes' names."""
    for split in ("train", "val"):
        table = pq.read_table(data / f"imagenette224_subset_{split}.parquet")
        names = json.loads(table.schema.metadata[b"class_names"])
        count = dict.fromkeys(names, 0)
        for row, (image, label) in enumerate(zip(table["image"], table["label"].to_pylist(), strict=True)):
            name = names[label]
            count[name] += 1
            later = new if count[name] > PER_PART else images / "test"
            folder = (images / "train" if split == "train" else later) / name
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{row:05d}.jpg").write_bytes(image.as_py())
    return names


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("digits", "photographs"))
    parser.add_argument("--data", help="folder of the Parquet files")
    parser.add_argument("--holdouts", nargs="+", help="classes to hold out (default: 3; the first)")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--rate", type=Fraction, default=Fraction("0.05"))
    parser.add_argument("--detector", default=DETECTOR)
    parser.add_argument("--keep", type=Path, help="a folder for the tables and contact sheets")
    return parser


if __name__ == "__main__":
    main()
