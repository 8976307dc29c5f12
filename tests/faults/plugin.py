"""A plug-in that makes the trouble that FAULTS_TROUBLE names; the file FAULTS_MARK counts how often."""

import math
import os
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn

from search_spaces import LogUniform
from trainables.auxiliary import AuxiliaryTask, Draws, TaskModule
from trainables.detectors import Detector

TIMES = 2
"""How often trouble is made before the code behaves."""


def make_trouble() -> None:
    """Raise, exit or never return, the first times that any process comes here."""
    trouble, mark = os.environ.get("FAULTS_TROUBLE", ""), os.environ.get("FAULTS_MARK")
    if mark is None or not trouble.startswith("plugin-"):
        return
    with open(mark, "a+b") as file:
        if file.tell() >= TIMES:
            return
        file.write(b".")
    if trouble == "plugin-raise":
        raise ValueError("the detector is in a bad mood")
    if trouble == "plugin-sys.exit":
        sys.exit(3)
    if trouble == "plugin-os._exit":
        os._exit(3)
    while trouble == "plugin-hang":
        time.sleep(1)


class Troubled(Detector):
    """The largest logit, with trouble."""

    name = "troubled"
    label = "Troubled"
    needs = "logits"

    def score(self, logits):
        make_trouble()
        scores = -logits.max(dim=1).values
        return scores * math.nan if os.environ.get("FAULTS_TROUBLE") == "nan-scoring" else scores


class Fragile(AuxiliaryTask):
    """Tell whether an image is a negative; some batches break it, always the same ones."""

    name = "fragile"
    space = LogUniform(0.1, 3.0)

    def build(self, network, recipe):
        return Judge(network)


class Judge(TaskModule):
    """A linear layer on the features."""

    def __init__(self, network):
        super().__init__()
        self.judge = nn.Linear(network.features, 2)

    def draw(self, rows, generator):
        """Draw which images are turned."""
        return Draws(rows, {"turned": torch.randint(2, (len(rows),), generator=generator)})

    def loss(self, network, images_NHWC, draws, normalise):
        """Return the cross-entropy, or break."""
        turned = draws.each["turned"]
        images = torch.where(turned.bool()[:, None, None, None], 255 - images_NHWC, images_NHWC)
        loss = F.cross_entropy(self.judge(network.embed(normalise(images), "fragile")), turned)
        trouble, unlucky = os.environ.get("FAULTS_TROUBLE"), int(turned.sum()) % 5 == 0
        if trouble == "nan-loss" and unlucky:
            return loss * math.nan
        if trouble == "nan-validation" and unlucky:  # training goes on with the batch's own statistics
            for name, buffer in network.named_buffers():
                if name.endswith("running_var"):
                    buffer.fill_(math.nan)
        return loss
