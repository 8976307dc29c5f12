"""A plug-in with a detector, a task and a benchmark, for the tests of several modules."""

from __future__ import annotations

import pytest

import search_spaces
from orchestrator.planning import plugins
from trainables.auxiliary import TASKS
from trainables.data.readers import reader
from trainables.detectors import DETECTORS

DETECTOR = '''\
from trainables.detectors import Detector


class Norm(Detector):
    """The length of the features: the shorter, the more anomalous."""

    name = "norm"
    label = "Norm"
    needs = "features"

    def score(self, features, logits):
        return -features.norm(dim=1)
'''

TASK = '''\
import torch
import torch.nn.functional as F
from torch import nn

from search_spaces import LogUniform
from trainables.auxiliary import AuxiliaryTask, Draws, TaskModule


class Negative(AuxiliaryTask):
    """Tell whether an image is a negative."""

    name = "negative"
    space = LogUniform(0.1, 3.0)

    def build(self, network, recipe):
        return Judge(network)


class Judge(TaskModule):
    def __init__(self, network):
        super().__init__()
        self.judge = nn.Linear(network.features, 2)

    def draw(self, rows, generator):
        return Draws(rows, {"turned": torch.randint(2, (len(rows),), generator=generator)})

    def loss(self, network, images_NHWC, draws, normalise):
        turned = draws.each["turned"]
        images = torch.where(turned.bool()[:, None, None, None], 255 - images_NHWC, images_NHWC)
        return F.cross_entropy(self.judge(network.embed(normalise(images), "negative")), turned)
'''

BENCHMARK = '''\
import numpy as np

from search_spaces import Benchmark
from trainables.data.readers.source import Source, Split
from trainables.recipe import Recipe


def read(request):
    """Give noise of four shades."""
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), 20)
    images = [np.clip(random.normal(60 * label, 20, (8, 8)), 0, 255).astype(np.uint8) for label in labels]
    split = Split(labels, lambda i: images[i], lambda i: f"image {i}")
    return Source(("a", "b", "c", "d"), {"train": split, "test": split})


def benchmarks():
    recipe = Recipe(depth=10, width=1, image_size=8, epochs=2, batch_size=16, ap_window=1)
    return {"shades": Benchmark("shades", read, recipe, ("classification", "rotation"), 1, channels=1)}
'''

MARK = """\
import os

if "PLUGIN_MARK" in os.environ:
    with open(os.environ["PLUGIN_MARK"], "a") as mark:
        mark.write("executed\\n")
"""
"""Leaves a mark whenever it is executed."""

WHOLE = "\n\n".join((MARK, DETECTOR, TASK, BENCHMARK))


def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing be brought, as in a fresh process, until the patch ends."""
    for place in (search_spaces, reader, TASKS, DETECTORS):
        monkeypatch.setattr(place, "_brought", {})
    plugins._load.cache_clear()
