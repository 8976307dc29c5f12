"""Networks compiled for a GPU where the machine can: asked once a process, before anything trains."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import os
import shutil
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

from trainables.networks.wide_resnet import WideResNet

OLDEST_GPU = (7, 0)
"""The compute capability below which Triton compiles nothing."""

COMPILERS = {"cuda": ("CC", "gcc", "clang"), "cpu": ("CXX", "g++", "clang++")}
"""By kind of device: the variable that names the compiler, and the names looked for without it."""


def compile_trunk(network: WideResNet, device: torch.device) -> None:
    """Compiles a network's trunk, in place, for a GPU; it stays as it is elsewhere and where that fails."""
    if device.type == "cuda" and can_compile(device):
        network.trunk = torch.compile(network.trunk)  # type: ignore[method-assign]


@contextlib.contextmanager
def uncompiled(network: WideResNet) -> Iterator[None]:
    """The trunk as it was written: for passes whose Python would cut a compiled one into pieces."""
    compiled = network.__dict__.pop("trunk", None)
    try:
        yield
    finally:
        if compiled is not None:
            network.trunk = compiled  # type: ignore[method-assign]


@functools.cache
def can_compile(device: torch.device) -> bool:
    """Whether torch.compile works on a device, found by training a tiny network; warns where it does not."""
    tiny = nn.Sequential(nn.BatchNorm2d(2), nn.ReLU()).to(device)  # initialised without random draws
    images = torch.ones(2, 2, 4, 4, device=device)
    try:
        torch.compile(tiny)(images).sum().backward()
    except Exception as error:  # whatever compilers, headers and drivers make inductor raise
        missing, remedy = _diagnosis(device, error)
        warnings.warn(
            f"Networks train uncompiled on this machine, which is slower, since {missing}: {remedy}.",
            stacklevel=2,
        )
        return False
    return True


def _diagnosis(device: torch.device, error: Exception) -> tuple[str, str]:
    """What is missing, and what to do about it."""
    gpu = device.type == "cuda"
    if gpu and importlib.util.find_spec("triton") is None:
        return "Triton is not installed", "install it (pip install triton; triton-windows on Windows)"
    if gpu and torch.cuda.get_device_capability(device) < OLDEST_GPU:
        oldest = ".".join(map(str, OLDEST_GPU))
        return f"its GPU's compute capability is below {oldest}", "only a newer GPU changes that"
    variable, *names = COMPILERS[device.type]
    if not any(map(shutil.which, [os.environ[variable]] if variable in os.environ else names)):
        language = "C" if gpu else "C++"
        return f"there is no {language} compiler", f"install gcc and g++, or name a compiler in {variable}"
    if not Path(sysconfig.get_path("include"), "Python.h").exists():
        return "Python's header Python.h is missing", "install python3-dev (on Debian and Ubuntu)"
    reason = " ".join(str(error).split())[:300]
    return f"torch.compile failed ({reason})", "see that Triton, gcc, g++ and Python's headers are there"
