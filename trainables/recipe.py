"""The recipe: how a network is built, trained and evaluated, field by field.

This module does not import torch, so that plans can be made and priced without it.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from trainables.mistake import Mistake
from trainables.settings import check, setting

MOST_EPOCHS = 1_000_000
"""A row of the history each; on the smallest data set here this many take weeks."""
MOST_IMAGES = 10_000_000
"""Images of a batch: more than any data set here has, so that "all of them" can be asked for."""


@dataclass(frozen=True)
class Recipe:
    """How a network is built, trained and evaluated; every field can be set by name.

    The defaults are those of the paper's CIFAR-10 networks, except for the network's size and the number
    of epochs, which each benchmark states. The fields from `stem` on are switches for the places where the
    authors' code departs from the paper (docs/fidelity.md has a row for each).
    """

    depth: int = setting(
        10, "layers of the network, 6n + 4, or 8n + 4 with four groups", at_least=10, at_most=2000
    )
    width: int = setting(1, "widening factor", at_least=1, at_most=1000)
    groups: int = setting(
        3, "groups of residual blocks; a fourth keeps the third's width", at_least=3, at_most=4
    )
    dropout: float = setting(
        0.0, "dropout inside the residual blocks", at_least=0, less_than=1, scale="linear"
    )
    stem_stride: int = setting(1, "stride of the first convolution", at_least=1, at_most=4)
    stem_pool: bool = setting(
        False,
        "pool after the first convolution: 2x2 mean; with stem=wide 3x3 maximum, after a 7x7 convolution",
    )
    padding: str = setting("zeros", "how convolutions pad", choices=("zeros", "symmetric"))

    image_size: int = setting(32, "side in pixels of the network's input", at_least=8, at_most=1024)
    stored_size: int = setting(0, "side of the prepared images, 0 for image_size", at_least=0, at_most=2048)
    crop_padding: float = setting(
        0.125,
        "reflected border before the random crop, a share of the side",
        at_least=0,
        at_most=0.5,
        scale="linear",
    )
    flip: bool = setting(True, "random reflections of training images", scale="choice")

    epochs: int = setting(200, "passes over the training images", at_least=1, at_most=MOST_EPOCHS)
    batch_size: int = setting(128, "images per step and worker", at_least=2, at_most=MOST_IMAGES, scale="log")
    micro_batch: int = setting(
        0, "images normalised together within a batch, 0 for all", at_least=0, at_most=MOST_IMAGES
    )
    learning_rate: float = setting(
        0.1,
        "learning rate; divided by 5 after 0.3, 0.6 and 0.8 of the steps",
        more_than=0,
        at_most=100,
        scale="log",
    )
    momentum: float = setting(0.9, "Nesterov momentum", at_least=0, less_than=1, scale="linear")
    weight_decay: float = setting(5e-4, "L2 penalty", at_least=0, at_most=1, scale="log")

    train_fraction: float = setting(
        1.0, "stratified share of the training images that is used", more_than=0, at_most=1
    )
    validation_fraction: float = setting(
        0.2, "stratified share that selects lambda", more_than=0, less_than=1
    )
    ap_window: int = setting(
        10, "last evaluations over which AP is averaged", at_least=1, at_most=MOST_EPOCHS
    )
    evaluate_every: int = setting(
        0,
        "epochs between evaluations before the last ap_window, or validations before the last, 0 for none",
        at_least=0,
        at_most=MOST_EPOCHS,
    )
    precision: str = setting(
        "float32",
        "arithmetic of training, bfloat16 on GPUs unless set",
        choices=("float32", "bfloat16"),
    )
    cpc_batch_size: int = setting(32, "images per CPC step and worker", at_least=1, at_most=MOST_IMAGES)
    cpc_channels: int = setting(256, "width of CPC's context network", at_least=8, at_most=65_536)

    batch_norm_statistics: str = setting(
        "primary",
        "source of batch norm's running statistics: classification batches, all, or a last pass",
        choices=("primary", "shared", "recalibrated"),
    )
    synchronised_batch_norm: bool = setting(False, "batch norm over all workers instead of per worker")
    fidelity: str = setting(
        "paper",
        "reference sets batch_norm_statistics, stem, rotation_set, epoch_length and odin_units as the "
        "authors' code has them",
        choices=("paper", "reference"),
    )
    stem: str = setting(
        "published",
        "variant: a first convolution of 16 channels, or of full width as in the authors' code",
        choices=("published", "wide"),
    )
    rotation_set: str = setting("rotations", "the four orientations", choices=("rotations", "transposes"))
    epoch_length: str = setting(
        "kept", "images that make an epoch: those of the kept or of all classes", choices=("kept", "whole")
    )
    decay: str = setting("all", "parameters that L2 applies to", choices=("all", "weights"), scale="choice")
    odin_units: str = setting("unit", "pixel units of ODIN's step: 0..1 or 0..255", choices=("unit", "byte"))

    def __post_init__(self) -> None:
        """Raise Mistake for an invalid value or combination of values."""
        check(self)
        layers = 2 * self.groups
        if (self.depth - 4) % layers:
            near = 4 + layers * max(1, round((self.depth - 4) / layers))
            raise Mistake(
                f"depth={self.depth} is not valid: with {self.groups} groups the depth is "
                f"{layers}n + 4, such as {near}."
            )
        if self.stored_size and self.stored_size < self.image_size:
            raise Mistake(
                f"stored_size={self.stored_size} is smaller than image_size={self.image_size}: "
                "prepared images must hold the crop; set stored_size=0 to use image_size."
            )
        if self.micro_batch and self.batch_size % self.micro_batch:
            raise Mistake(
                f"micro_batch={self.micro_batch} does not divide batch_size={self.batch_size}: "
                "choose a divisor, or 0 to normalise the whole batch together."
            )

    @property
    def prepared_size(self) -> int:
        """Side in pixels of the prepared images, from which the network's input is cropped."""
        return self.stored_size or self.image_size

    @property
    def variant(self) -> str:
        """Which published form of the wide residual network this is: "published" or "wide".

        "published" is the network of Zagoruyko & Komodakis (2016): a first convolution of 16 channels, groups
        that widen in their first block, and shortcut convolutions after norm and ReLU. "wide" is the network
        of this paper's authors' code: a first convolution of full width with a bias, groups that widen in
        their last block, shortcut convolutions on the block's raw input, and for images of 224x224 a 7x7
        convolution with a 3x3 max pool. The field `stem` selects it.
        """
        return self.stem

    @property
    def network_name(self) -> str:
        """The network's usual name, such as WRN-28-10 for depth 28 and widening factor 10."""
        return f"WRN-{self.depth}-{self.width}"

    def evaluates_after(self, epoch: int) -> bool:
        """Return whether a final run is evaluated after an epoch, 1 to `epochs`."""
        return any(epoch in scheduled for scheduled in self._evaluated_epochs())

    @property
    def evaluation_count(self) -> int:
        """Number of epochs after which a final run is evaluated."""
        return sum(len(scheduled) for scheduled in self._evaluated_epochs())

    def validates_after(self, epoch: int) -> bool:
        """Return whether a search run is validated after an epoch, 1 to `epochs`, rungs apart."""
        return epoch == self.epochs or (self.evaluate_every > 0 and epoch % self.evaluate_every == 0)

    @property
    def validation_count(self) -> int:
        """Number of epochs after which a search run is validated, rungs apart."""
        every = self.evaluate_every or self.epochs
        return self.epochs // every + (self.epochs % every > 0)

    def _evaluated_epochs(self) -> tuple[range, range]:
        """Return every `evaluate_every`-th epoch before the last `ap_window`, and the last `ap_window`."""
        window = range(max(1, self.epochs - self.ap_window + 1), self.epochs + 1)
        every = self.evaluate_every or self.epochs  # 0 for none: the last epoch is in the window anyway
        return range(every, window.start, every), window


REFERENCE_SWITCHES = {
    "fidelity": "reference",
    "batch_norm_statistics": "shared",
    "stem": "wide",
    "rotation_set": "transposes",
    "epoch_length": "whole",
    "odin_units": "byte",
}
"""What fidelity=reference sets: the authors' choices where their code departs from the paper."""


def with_fidelity(recipe: Recipe, fidelity: str) -> Recipe:
    """Return the recipe with all switches as in the authors' code ("reference") or unchanged ("paper")."""
    if fidelity == "reference":
        return dataclasses.replace(recipe, **REFERENCE_SWITCHES)  # type: ignore[arg-type]
    return dataclasses.replace(recipe, fidelity=fidelity)


def used_count(count: int, recipe: Recipe) -> int:
    """Return how many of a class's `count` training images are used."""
    return max(1, round(count * recipe.train_fraction))


def validation_count(count: int, recipe: Recipe) -> int:
    """Return how many of a class's `count` training images are used for validation in a search run."""
    return round(used_count(count, recipe) * recipe.validation_fraction)


def total_batch_size(recipe: Recipe, images: int, workers: int) -> int:
    """Return the classification images per step of all workers together, from a number of training images.

    Each worker has `batch_size` images, or an equal share of the training images if there are fewer.
    """
    return min(recipe.batch_size * workers, images // workers * workers)
