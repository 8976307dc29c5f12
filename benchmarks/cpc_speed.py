"""The cost of a CPC step relative to a classification step: measured, and predicted from FLOPs.

    python benchmarks/cpc_speed.py [--width 2] [--batch 16] [--cpc-batch 8] [--rounds 5] [--threads 1]

Both kinds of steps train the network that `image-folder` uses with CPC, on pieces of photographs. An epoch of
the method cpc has a CPC step for each classification step, so CPC's cost is the difference to an epoch of
classification. The two methods take turns, epoch by epoch; the result is the median of all rounds but the
first, which warms up.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_sample_images

from search_spaces import find_benchmark
from trainables.auxiliary import find_task
from trainables.data.cache import prepare
from trainables.data.holdout import open_final
from trainables.data.prepared import Prepared
from trainables.data.readers.request import DataRequest
from trainables.networks.flops import training_flops
from trainables.recipe import Recipe
from trainables.run import Run
from trainables.train import Training

STEPS = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("width", 2), ("batch", 16), ("cpc-batch", 8), ("rounds", 5), ("threads", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    recipe = replace(
        find_benchmark("image-folder").recipe_for(("cpc",)),
        width=given.width,
        batch_size=given.batch,
        cpc_batch_size=given.cpc_batch,
    )
    with tempfile.TemporaryDirectory() as folder:
        plain, contrastive = seconds_per_step(recipe, photographs(Path(folder), recipe), given.rounds)
    flops = training_flops(recipe, 3, 2), find_task("cpc", recipe).flops(recipe)
    foretold, measured = flops[1] / flops[0], contrastive / plain
    print(
        f"{recipe.network_name} at {recipe.image_size}, batch {given.batch}, CPC batch "
        f"{given.cpc_batch}, {given.threads} thread"
    )
    print(f"classification step {plain:.2f} s, {flops[0] * given.batch / plain / 1e9:.0f} GFLOP/s")
    print(
        f"CPC step            {contrastive:.2f} s, {flops[1] * given.batch / contrastive / 1e9:.0f} GFLOP/s"
    )
    print(f"ratio: {measured:.2f} measured, {foretold:.2f} by FLOPs, {measured / foretold:.2f} times as much")


def seconds_per_step(recipe: Recipe, prepared: Prepared, rounds: int) -> tuple[float, float]:
    """Return the median seconds of a classification step and of a CPC step."""
    trainings = []
    for method, weights in (("classification", {}), ("cpc", {"cpc": 1.0})):
        run = Run("image-folder", "c", method, 0, replace(recipe, epochs=rounds + 1), weights, False)
        trainings.append(Training(run, open_final(prepared, run)))
    found: list[list[float]] = []
    for _ in range(rounds + 1):
        speeds = [training.train_epoch()["speed/images_per_second"] for training in trainings]
        steps = [recipe.batch_size / speed for speed in speeds]
        found.append([steps[0], steps[1] - steps[0]])
    plain, contrastive = zip(*found[1:], strict=True)
    return statistics.median(plain), statistics.median(contrastive)


def photographs(folder: Path, recipe: Recipe) -> Prepared:
    """Return pieces of scikit-learn's photographs: STEPS batches in two kept classes, and a third class."""
    scenes, side = load_sample_images().images, recipe.prepared_size
    rng = np.random.default_rng(0)
    for number in range(3 * (STEPS * recipe.batch_size // 2)):
        scene = scenes[number % 2]
        top, left = (rng.integers(0, size - side + 1) for size in scene.shape[:2])
        for split in ("train", "test"):
            path = folder / split / "abc"[number % 3] / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(scene[top : top + side, left : left + side]).save(path)
    request = DataRequest(
        "image_folder", str(folder), side, 3, cache=str(folder / "cache"), name="image-folder"
    )
    return prepare(request)


if __name__ == "__main__":
    main()
