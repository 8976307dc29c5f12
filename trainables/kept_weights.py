"""The weights of a trained network as one safetensors file, and the network rebuilt from it.

The file holds what evaluation needs: the norms that an auxiliary task has for itself are left out. Its
metadata say what the outputs mean, so it can be used without a ledger: "classes", a JSON list of the kept
classes in the order of the logits; "normalisation", JSON with the channels' mean and std, of pixels scaled
to 0..1; and "recipe_digest", the SHA-256 of the recipe's fields (`settings.values_of`) as JSON with sorted
keys.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from trainables.data.normalisation import Normalisation
from trainables.mistake import one_line
from trainables.networks.wide_resnet import CLASSIFICATION, WideResNet
from trainables.recipe import Recipe
from trainables.settings import values_of

LENGTH_BYTES, ALIGNMENT = 8, 8
"""A file begins with the length of its header, which is padded to a multiple of 8 bytes."""


MALFORMED = (KeyError, TypeError, ValueError, AttributeError, RuntimeError, RecursionError, OverflowError)
"""What a header that says something else than it should leads to."""


class UnusableWeights(ValueError):
    """Bytes that are not the weights of the network that was asked for."""


@dataclass(frozen=True)
class Trained:
    """A network in evaluation mode, the classes of its logits in order, and its inputs' normalisation."""

    network: WideResNet
    classes: tuple[str, ...]
    normalisation: Normalisation


def recipe_digest(recipe: Recipe) -> str:
    """Return the SHA-256 of a recipe's fields."""
    return hashlib.sha256(json.dumps(values_of(recipe), sort_keys=True).encode()).hexdigest()


def to_bytes(trained: Trained, recipe: Recipe) -> bytes:
    """Return a network as the bytes of a safetensors file, equal for equal networks."""
    normalisation = {name: getattr(trained.normalisation, name).tolist() for name in ("mean", "std")}
    metadata = {
        "classes": json.dumps(list(trained.classes)),
        "normalisation": json.dumps(normalisation),
        "recipe_digest": recipe_digest(recipe),
    }
    weights = {name: value.cpu().contiguous() for name, value in _own(trained.network).items()}
    return _ordered(save(weights, metadata))


def from_bytes(data: bytes, recipe: Recipe, channels: int) -> Trained:
    """Return the network that the bytes hold, on the CPU; raise UnusableWeights if it is another recipe's."""
    try:
        metadata = _header(data)["__metadata__"]
        if metadata["recipe_digest"] != recipe_digest(recipe):
            raise UnusableWeights("the weights are of another recipe")
        classes = tuple(json.loads(metadata["classes"]))
        network = WideResNet(recipe, channels, len(classes))
        network.load_state_dict(load(data))
        normalisation = normalisation_of(data)
        if len(normalisation.mean) != channels:
            raise UnusableWeights(f"the weights are of images with {len(normalisation.mean)} channels")
    except (SafetensorError, *MALFORMED) as error:
        raise UnusableWeights(one_line(error)) from error
    # As it was trained: another layout in memory rounds otherwise.
    return Trained(network.eval().to(memory_format=torch.channels_last), classes, normalisation)


def normalisation_of(data: bytes) -> Normalisation:
    """Return the normalisation that a file of weights states; raise UnusableWeights if it has none."""
    try:
        numbers = json.loads(_header(data)["__metadata__"]["normalisation"])
        found = Normalisation(*(torch.tensor(numbers[name]) for name in ("mean", "std")))
        if found.mean.ndim != 1 or found.mean.shape != found.std.shape or not found.mean.is_floating_point():
            raise UnusableWeights("the normalisation is not a mean and a std of each channel")
    except MALFORMED as error:
        raise UnusableWeights(one_line(error)) from error
    return found


def _own(network: WideResNet) -> dict[str, torch.Tensor]:
    """Return the network's state without the norms of auxiliary tasks."""
    of_a_task = ".by_task."
    return {
        name: value
        for name, value in network.state_dict().items()
        if of_a_task not in name or name.split(of_a_task)[1].startswith(f"{CLASSIFICATION}.")
    }


def _header(data: bytes) -> dict[str, dict[str, str]]:
    length = int.from_bytes(data[:LENGTH_BYTES], "little")
    return dict(json.loads(data[LENGTH_BYTES : LENGTH_BYTES + length]))


def _ordered(data: bytes) -> bytes:
    """Return a safetensors file with its header's keys sorted: the library writes metadata in any order."""
    length = int.from_bytes(data[:LENGTH_BYTES], "little")
    text = json.dumps(_header(data), sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    return len(text).to_bytes(LENGTH_BYTES, "little") + text + data[LENGTH_BYTES + length :]
