"""Compilation of networks for GPUs, if the machine supports it: tested once per process, before training."""

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

from trainables.heartbeat import beat
from trainables.networks.wide_resnet import WideResNet

OLDEST_GPU = (7, 0)
"""The lowest compute capability that Triton supports."""

MOST_GRAPHS = 10_000
"""Graphs of the trunk that one process may compile.

A process trains one cell after another, and each shape, kind of step and recipe is a graph of its own. From
the ninth on torch would, by default, run the trunk uncompiled and only log it.
"""

COMPILERS = {"cuda": ("CC", "gcc", "clang"), "cpu": ("CXX", "g++", "clang++")}
"""By kind of device: the environment variable that names the compiler, and the default names."""


def compile_trunk(network: WideResNet, device: torch.device) -> None:
    """Compile a network's trunk in place for training, if the device is a GPU and compilation works.

    Every shape has a graph of its own: those of a process that meets a second shape would otherwise become
    dynamic, which are slower. Cells of equal shapes share their graphs.
    """
    if device.type == "cuda" and can_compile(device):
        beat("compilation")  # which the first step does
        limits = torch._dynamo.config
        limits.recompile_limit = limits.accumulated_recompile_limit = MOST_GRAPHS
        network.trunk = torch.compile(network.trunk, dynamic=False)  # type: ignore[method-assign]


@contextlib.contextmanager
def uncompiled(network: WideResNet) -> Iterator[None]:
    """Use the uncompiled trunk: for evaluations, whose many shapes would each be compiled for a few batches.

    It is also for passes whose Python code would break a compiled graph into pieces.
    """
    compiled = network.__dict__.pop("trunk", None)
    try:
        yield
    finally:
        if compiled is not None:
            network.trunk = compiled  # type: ignore[method-assign]


@functools.cache
def can_compile(device: torch.device) -> bool:
    """Return whether torch.compile works on a device, by training a tiny network; warn if it does not."""
    beat("compilation")
    tiny = nn.Sequential(nn.BatchNorm2d(2), nn.ReLU()).to(device)  # initialised without random draws
    images = torch.ones(2, 2, 4, 4, device=device)
    try:
        torch.compile(tiny)(images).sum().backward()
    except Exception as error:  # compilers, headers and drivers make inductor raise many kinds
        missing, remedy = _diagnosis(device, error)
        warnings.warn(
            f"Networks train uncompiled on this machine, which is slower, since {missing}: {remedy}.",
            stacklevel=2,
        )
        return False
    return True


def _diagnosis(device: torch.device, error: Exception) -> tuple[str, str]:
    """Return what is missing, and what to do about it."""
    gpu = device.type == "cuda"
    if gpu and importlib.util.find_spec("triton") is None:
        return "Triton is not installed", "install it (pip install triton; triton-windows on Windows)"
    if gpu and torch.cuda.get_device_capability(device) < OLDEST_GPU:
        oldest = ".".join(map(str, OLDEST_GPU))
        return f"its GPU's compute capability is below {oldest}", "only a newer GPU changes that"
    variable, *names = COMPILERS[device.type]
    if variable in os.environ:
        names = [os.environ[variable]]
    if not any(map(shutil.which, names)):
        language = "C" if gpu else "C++"
        return f"there is no {language} compiler", f"install gcc and g++, or name a compiler in {variable}"
    if not Path(sysconfig.get_path("include"), "Python.h").exists():
        return "Python's header Python.h is missing", "install python3-dev (on Debian and Ubuntu)"
    reason = " ".join(str(error).split())[:300]
    return f"torch.compile failed ({reason})", "see that Triton, gcc, g++ and Python's headers are there"
