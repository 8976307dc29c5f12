"""Within an epoch nothing waits for a GPU: no value is asked back, and no copy is waited for."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tests.images import folder_request, write_folder
from trainables import train
from trainables.data import image_table
from trainables.data.holdout import open_final
from trainables.data.prepared import Prepared
from trainables.recipe import Recipe
from trainables.run import Run, parse_method
from trainables.train import Training

METHODS = ("classification", "rotation", "center-mask", "cpc", "rotation+cpc+center-mask")
ASKING = {
    "_local_scalar_dense",
    "nonzero",
    "masked_select",
    "equal",
    "is_nonzero",
    "repeat_interleave.Tensor",
}
"""Operations whose result or its shape depends on values, so that a GPU must be done before they return."""


class Waiting(TorchDispatchMode):
    """Lists the operations at which a process would wait for its GPU."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(function).removeprefix("aten.")
        given = [each for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)]
        result = function(*args, **(kwargs or {}))
        if ASKING & {name, name.split(".")[0]} or (name.startswith("index") and _by_truth(args)):
            self.seen.append(name)
        devices = {each.device.type for each in (*given, *tree_leaves(result)) if isinstance(each, Tensor)}
        copies = name.startswith(("_to_copy", "copy_"))
        asynchronous = (kwargs or {}).get("non_blocking") or (
            name.startswith("copy_") and args[2:] == (True,)
        )
        if copies and len(devices) > 1 and not asynchronous:
            self.seen.append(f"{name} {' '.join(sorted(devices))}")
        return result


def _by_truth(args: tuple) -> bool:
    indices = args[1] if isinstance(args[1], list | tuple) else [args[1]]
    return any(isinstance(index, Tensor) and index.dtype in (torch.bool, torch.uint8) for index in indices)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """Small images that CPC can divide into patches."""
    from trainables.data.cache import prepare

    root = tmp_path_factory.mktemp("images")
    counts = {split: {"ant": n, "bee": n, "cow": 1} for split, n in (("train", 4), ("test", 1))}
    write_folder(root / "images", counts, side=56)
    return prepare(folder_request(root / "images", root / "cache", side=56))


def run_of(method: str, device: str = "cpu", **changes: object) -> Run:
    small = {"depth": 10, "width": 1, "image_size": 56, "stem_stride": 2, "cpc_channels": 8, "epochs": 2}
    batch = {"batch_size": 4, "micro_batch": 2, "cpc_batch_size": 2, "dropout": 0.1, "padding": "symmetric"}
    recipe = Recipe(**{**small, **batch, **changes})  # type: ignore[arg-type]
    weights = dict.fromkeys(parse_method(method).auxiliary, 0.5)
    return Run("image-folder", "cow", method, 0, recipe, weights, search=False, device=device)


def steps_within(training: Training, around: contextlib.AbstractContextManager) -> None:
    """Make the steps of an epoch, all from the first to the last, within a context."""
    steps = training._steps

    def watched(*given: Any) -> Any:
        with around:
            return steps(*given)

    training._steps = watched  # type: ignore[method-assign]
    training.train_epoch()


@pytest.mark.parametrize("method", [method for method in METHODS if method != "cpc"])  # it is in the last
def test_the_steps_of_an_epoch_ask_for_no_value(photographs: Prepared, method: str) -> None:
    run, waiting = run_of(method), Waiting()
    steps_within(Training(run, open_final(photographs, run)), waiting)
    assert waiting.seen == []


def test_what_waits_is_seen() -> None:
    values = torch.arange(4.0)
    for expected, wait in {
        "_local_scalar_dense.default": lambda: values.sum().item(),
        "nonzero.default": lambda: values.nonzero(),
        "index.Tensor": lambda: values[values > 1],
        "index_put_.default": lambda: values.__setitem__(values > 5, torch.ones(0)),
        "masked_select.default": lambda: values.masked_select(values > 1),
        "_to_copy.default cpu meta": lambda: values.to("meta"),
        "copy_.default cpu meta": lambda: torch.empty(4, device="meta").copy_(values),
    }.items():
        with Waiting() as waiting:
            wait()
        assert expected in waiting.seen
    with Waiting() as waiting:
        values.to("meta", non_blocking=True)
        torch.empty(4, device="meta").copy_(values, non_blocking=True)
        values[torch.tensor([1])]
    assert waiting.seen == []


class Reached(Exception):
    """The steps of an epoch are done; what follows needs values, which a device without memory has not."""


@pytest.mark.parametrize("fits", [True, False])
@pytest.mark.parametrize("method", METHODS)
def test_no_step_waits_for_a_copy_to_the_device(
    monkeypatch: pytest.MonkeyPatch, photographs: Prepared, method: str, fits: bool
) -> None:
    """Train on the meta device, which knows shapes alone and has no value to give back."""
    monkeypatch.setattr(Training, "_autocast", lambda training: contextlib.nullcontext())
    monkeypatch.setattr(Training, "_optimiser", lambda training, parameters, decay: _plain(parameters))
    monkeypatch.setattr(image_table, "free_memory", lambda device: None if fits else 0)
    run = run_of(method, "meta", rotation_set="transposes")
    training = Training(run, open_final(photographs, run))
    waiting, steps = Waiting(), training._steps

    def watched(*given: Any) -> Any:
        with waiting:
            steps(*given)
        raise Reached

    monkeypatch.setattr(training, "_steps", watched)
    with pytest.raises(Reached):
        training.train_epoch()
    assert waiting.seen == []


def _plain(parameters: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9, foreach=True)


@pytest.mark.gpu
@pytest.mark.parametrize("fits", [True, False])
@pytest.mark.parametrize("method", METHODS)
def test_on_a_gpu_no_step_waits(
    monkeypatch: pytest.MonkeyPatch, photographs: Prepared, method: str, fits: bool
) -> None:
    monkeypatch.setattr(train, "compile_trunk", lambda network, device: None)  # which takes its time
    if not fits:
        monkeypatch.setattr(image_table, "free_memory", lambda device: 0)
    _train_without_waiting(photographs, method)


@pytest.mark.gpu
def test_on_a_gpu_no_compiled_step_waits(photographs: Prepared) -> None:
    _train_without_waiting(photographs, METHODS[-1])


def _train_without_waiting(photographs: Prepared, method: str) -> None:
    run = run_of(method, "cuda", precision="bfloat16")
    training = Training(run, open_final(photographs, run))
    training.train_epoch()  # which compiles and times convolutions
    steps_within(training, _refused())


@contextlib.contextmanager
def _refused() -> Iterator[None]:
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")
