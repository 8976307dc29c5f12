"""Weights that are kept give the same network again, and say what its outputs mean."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from trainables.cell import CellRun
from trainables.data.normalisation import Normalisation
from trainables.data.prepared import Prepared
from trainables.kept_weights import Trained, UnusableWeights, from_bytes, recipe_digest, to_bytes
from trainables.networks.size import weight_bytes
from trainables.networks.wide_resnet import WideResNet, initialise
from trainables.recipe import Recipe
from trainables.scoring import Scorer
from trainables.workers import Workers


@pytest.fixture
def trained(digits: Prepared, quick_run: Callable) -> CellRun:
    cell = CellRun(quick_run("rotation", epochs=1), digits)
    for _ in cell.epochs():
        pass
    return cell


def test_the_network_that_comes_back_scores_alike(trained: CellRun) -> None:
    kept = from_bytes(trained.weights(), trained.run.recipe, channels=1)
    assert kept.classes == trained.data.classes
    assert trained.test is not None
    assert trained.scores is not None
    assert not kept.network.training
    scorer = Scorer(("msp", "odin"), trained.run.recipe, kept.normalisation, Workers())
    again = scorer.score(kept.network, trained.test)
    np.testing.assert_array_equal(again.logits, trained.scores.logits)
    for name, scores in again.by_detector.items():
        np.testing.assert_array_equal(scores, trained.scores.by_detector[name])


def test_the_file_needs_nothing_of_this_project_to_be_read(trained: CellRun, tmp_path: Path) -> None:
    path, data = tmp_path / "weights.safetensors", trained.weights()
    path.write_bytes(data)
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    assert json.loads(metadata["classes"]) == list(trained.data.classes)
    normalisation = json.loads(metadata["normalisation"])
    assert normalisation["std"] == trained.training.normalisation.std.tolist()
    assert metadata["recipe_digest"] == recipe_digest(trained.run.recipe)
    for name, value in trained.training.network.state_dict().items():
        assert torch.equal(state[name], value)
    size = weight_bytes(trained.run.recipe, 1, len(trained.data.classes))
    assert size < len(data) < size + 10_000  # the header


def test_norms_of_an_auxiliary_task_are_left_out() -> None:
    recipe = Recipe(depth=10, width=1, image_size=8)
    network = WideResNet(recipe, 1, 3, own_tasks=("cpc",))
    initialise(network, torch.Generator().manual_seed(0))
    normalisation = Normalisation(torch.tensor([0.5]), torch.tensor([0.25]))
    data = to_bytes(Trained(network, ("a", "b", "c"), normalisation), recipe)
    kept = from_bytes(data, recipe, channels=1)
    images = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        trained = network.eval().to(memory_format=torch.channels_last)
        assert torch.equal(kept.network(images), trained(images))
    assert not any("cpc" in name for name in kept.network.state_dict())


def test_equal_networks_have_equal_bytes_in_every_process() -> None:
    code = (
        "import hashlib, torch\n"
        "from trainables.kept_weights import Trained, to_bytes\n"
        "from trainables.data.normalisation import Normalisation\n"
        "from trainables.networks.wide_resnet import WideResNet, initialise\n"
        "from trainables.recipe import Recipe\n"
        "recipe = Recipe(depth=10, width=1, image_size=8)\n"
        "network = WideResNet(recipe, 1, 3)\n"
        "initialise(network, torch.Generator().manual_seed(0))\n"
        "half = torch.tensor([0.5])\n"
        "data = to_bytes(Trained(network, ('é', 'b', 'c'), Normalisation(half, half)), recipe)\n"
        "print(hashlib.sha256(data).hexdigest())"
    )
    done = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True) for _ in range(4)]
    assert len({each.stdout for each in done}) == 1
    assert len(done[0].stdout.strip()) == len(hashlib.sha256().hexdigest()), done[0].stderr


@pytest.mark.parametrize("spoil", [lambda data: data[:1000], lambda data: b"", lambda data: data[8:]])
def test_a_file_that_is_not_whole_is_refused(trained: CellRun, spoil: Callable[[bytes], bytes]) -> None:
    with pytest.raises(UnusableWeights):
        from_bytes(spoil(trained.weights()), trained.run.recipe, channels=1)


def test_weights_of_another_recipe_are_refused(trained: CellRun) -> None:
    with pytest.raises(UnusableWeights, match="another recipe"):
        from_bytes(trained.weights(), Recipe(depth=16, width=1, image_size=8), channels=1)


HEADERS = {
    "normalisation": ["5", "[]", '{"mean": 1, "std": 2}', '{"mean": ["x"], "std": [1]}', "[" * 100_000],
    "classes": ["5", "null", '"ab"', "{", '["a"]'],
}


@pytest.mark.parametrize(("field", "text"), [(name, text) for name in HEADERS for text in HEADERS[name]])
def test_a_header_that_says_something_else_is_refused(field: str, text: str) -> None:
    recipe = Recipe(depth=10, width=1, image_size=8)
    network = WideResNet(recipe, 1, 3)
    data = to_bytes(Trained(network, ("a", "b", "c"), Normalisation(torch.ones(1), torch.ones(1))), recipe)
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    header["__metadata__"][field] = text
    spoilt = json.dumps(header).encode()
    with pytest.raises(UnusableWeights):
        from_bytes(len(spoilt).to_bytes(8, "little") + spoilt + data[8 + length :], recipe, channels=1)


def test_weights_of_images_with_other_channels_are_refused() -> None:
    recipe = Recipe(depth=10, width=1, image_size=8)
    network = WideResNet(recipe, 1, 3)
    data = to_bytes(Trained(network, ("a", "b", "c"), Normalisation(torch.ones(3), torch.ones(3))), recipe)
    with pytest.raises(UnusableWeights, match="3 channels"):
        from_bytes(data, recipe, channels=1)
