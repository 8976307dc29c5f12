"""Hold out each class of any folder of images, or of Parquet files: which classes would be missed?

    python -m orchestrator.sweep image-folder --data DIR
    python -m orchestrator.sweep image-folder --data DIR --methods classification cpc

DIR holds <split>/<class>/<image> with the splits train and test (or val), or only <class>/<image>, of which
a seeded 20% of each class becomes the test split. Parquet files train.parquet and test.parquet with an image
and a label column also work. At least three classes are needed: one to hold out and two to tell apart.

The recipe is a starting point for a few hundred to a few thousand images per class: a WRN-16-2 on 64x64
squares (shorter side resized, centre cropped) for 30 epochs, at 2.4 GFLOP per training image. Ten classes of
500 images take 3.3e14 FLOP per classification run and about twice that with rotation: half an hour on one CPU
core (0.2 TFLOP/s), seconds on a GPU. Change fields by name: --set image_size=128 depth=28 width=4 epochs=100,
and flip=false if a mirror image means something else.

If cpc is among the methods, all of them train on 224x224 crops of 256x256 images, which CPC's patches need,
with a small network of the kind that the paper uses for CPC. The paper has no numbers for your images;
compare AP with the skew, the share of anomalies in the test split, which is what a random detector reaches.
"""

from __future__ import annotations

from search_spaces.benchmark import Benchmark
from trainables.recipe import Recipe
from trainables.spaces import Grid, LogUniform

CPC_NETWORK = {
    "depth": 20,
    "groups": 4,
    "image_size": 224,
    "stored_size": 256,
    "crop_padding": 0.0,
    "stem_stride": 2,
    "padding": "symmetric",
}


def benchmarks() -> dict[str, Benchmark]:
    """Return the benchmark `image-folder`."""
    folder = Benchmark(
        name="image-folder",
        reader="image_folder",
        recipe=Recipe(depth=16, width=2, image_size=64, epochs=30, batch_size=64, ap_window=5),
        methods=("classification", "rotation", "cpc", "center-mask"),
        spaces={"rotation": LogUniform(0.05, 5), "cpc": Grid((0.1, 1.0, 10.0, 20.0, 50.0))},
        lambda_trials=4,
        networks={"cpc": CPC_NETWORK},
    )
    return {folder.name: folder}
