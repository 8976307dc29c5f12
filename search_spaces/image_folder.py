"""Hold out each class of any folder of images, or of Parquet files: which classes would be missed?

    python -m orchestrator.sweep image-folder --data DIR
    python -m orchestrator.sweep image-folder --data DIR --methods classification cpc

DIR holds <split>/<class>/<image> with the splits train and test (or val), or <class>/<image> alone, of which
a seeded 20% of each class becomes the test; or train.parquet and test.parquet with an image and a label
column. Three classes are the least: one to hold out, two to tell apart.

The recipe is a starting point for a few hundred to a few thousand images a class: a WRN-16-2 that sees 64x64
squares (shorter side resized, centre cut out) for 30 epochs, which is 2.4 GFLOP a training image. Ten classes
of 500 images are 3.3e14 FLOP a classification run, about twice that with rotation: on one CPU core (0.2
TFLOP/s) half an hour, on a GPU a matter of seconds. Change it by name: --set image_size=128 depth=28 width=4
epochs=100, and flip=false where a mirror image is another thing.

With cpc among the methods all of them train on 224x224 crops of 256x256 images, as CPC's patches need, by a
network of the paper's CPC kind at a practitioner's size. The paper has no numbers for your images; compare
with the skew, the share of anomalies in the test, which a random detector scores.
"""

from __future__ import annotations

from search_spaces.benchmark import Benchmark, Grid, LogUniform
from trainables.run import Recipe

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
    """The benchmark `image-folder`."""
    folder = Benchmark(
        name="image-folder",
        reader="image_folder",
        recipe=Recipe(depth=16, width=2, image_size=64, epochs=30, batch_size=64, ap_window=5),
        methods=("classification", "rotation", "cpc", "center-mask"),
        spaces={"rotation": LogUniform(0.05, 5), "cpc": Grid((0.1, 1.0, 10.0, 20.0, 50.0))},
        lambda_trials=4,
        cpc_network=CPC_NETWORK,
    )
    return {folder.name: folder}
