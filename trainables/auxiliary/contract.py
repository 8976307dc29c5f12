"""The contract between plans, the training loop and an auxiliary task; its torch half is in modules/."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from trainables.networks.flops import training_flops
from trainables.recipe import Recipe
from trainables.spaces import Weighing

# Plans are made of tasks, which must not cost the import of torch.
if TYPE_CHECKING:
    from trainables.auxiliary.modules.contract import TaskModule
    from trainables.networks.wide_resnet import WideResNet


class AuxiliaryTask(ABC):
    """A self-supervised task that is trained beside the classifier and shares its trunk.

    An instance is made without arguments; `recipe` and `channels` are set before it is used. Its step comes
    before each classification step, on images of its own, with an optimiser of its own. `build` gives its
    head, batch and loss.
    """

    name: str
    """The public name, a part of methods' names."""
    space: Weighing
    """Where its weight, lambda, is searched unless a benchmark says otherwise."""
    weight_decay: bool = True
    """Whether its optimiser applies L2."""
    own_norm: bool = False
    """Whether it has batch norm of its own in the trunk's first three groups (paper, appendix B)."""
    reference: Mapping[str, object] = MappingProxyType({})
    """Fields of the recipe that fidelity=reference sets otherwise in sweeps that include it."""
    recipe: Recipe
    channels: int = 3
    """Channels of the images, 1 or 3."""

    def images_per_step(self, batch_size: int) -> int:
        """Return the number of images of its step beside a classification batch of this size: as many."""
        return batch_size

    def flops(self, recipe: Recipe) -> float:
        """Return the FLOPs of its step per image of the classification batch of the same step.

        Unless a task says otherwise: both passes of one example per image through the trunk.
        """
        return training_flops(recipe, self.channels, classes=0)

    def check_fits(self, recipe: Recipe) -> None:  # noqa: B027  # optional
        """Raise Mistake if the task cannot be trained with a recipe."""

    def shared(self, recipe: Recipe, workers: int) -> Recipe:
        """Return the recipe with each worker's share of what the task takes from a total over all workers."""
        return recipe

    @abstractmethod
    def build(self, network: WideResNet, recipe: Recipe) -> TaskModule:
        """Return the task's head, which fits the network, with its batch and its loss."""
