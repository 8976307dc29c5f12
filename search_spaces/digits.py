"""Hold out each of scikit-learn's handwritten digits: 1,797 real 8x8 images that need no download.

    python -m orchestrator.sweep

This holds out each digit in turn: 10 holdouts x 3 seeds x {classification, rotation} after 4 search cells per
holdout, 100 cells in about 3 minutes on 2 cores. It shows and tests every part of a sweep; it is not a
benchmark of the paper. Expect an accuracy of about 98% and an AP (MSP) of about 65%, against 10% by chance.
Rotation does not raise AP here beyond the noise: a rotated digit is often another digit, or itself.

A fixed, stratified split gives 60% of the images to training and 40% to the test. Crops and reflections are
off, since a digit fills its 8 pixels and its mirror image is not a digit.
"""

from __future__ import annotations

from search_spaces.benchmark import Benchmark
from trainables.recipe import Recipe
from trainables.spaces import LogUniform

RECIPE = Recipe(
    depth=10,
    width=1,
    image_size=8,
    epochs=10,
    batch_size=64,
    crop_padding=0.0,
    flip=False,
    ap_window=3,
)


def benchmarks() -> dict[str, Benchmark]:
    """Return the benchmark `digits`."""
    digits = Benchmark(
        name="digits",
        reader="digits",
        recipe=RECIPE,
        methods=("classification", "rotation", "center-mask"),
        spaces={"rotation": LogUniform(0.05, 5.0)},
        lambda_trials=4,
        classes=tuple("0123456789"),
        train_counts=(107, 109, 106, 110, 109, 109, 109, 107, 104, 108),
        test_counts=(71, 73, 71, 73, 72, 73, 72, 72, 70, 72),
        channels=1,
    )
    return {digits.name: digits}
