"""On a machine that cannot compile, networks train uncompiled and a warning says what is missing."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import warnings
from collections.abc import Callable, Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest
import torch
from torch._dynamo.testing import CompileCounter
from torch._dynamo.utils import counters

from tests.sweeps import ROOT
from trainables import compiling, train
from trainables.cell import CellRun
from trainables.compiling import can_compile, compile_trunk
from trainables.data.prepared import Prepared
from trainables.networks.wide_resnet import WideResNet
from trainables.recipe import Recipe

CPU, GPU = torch.device("cpu"), torch.device("cuda")

ASK_TWICE = """
import json, warnings
import torch
from trainables.compiling import can_compile
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    answers = [can_compile(torch.device("cpu")) for _ in range(2)]
said = [str(each.message) for each in caught if "uncompiled" in str(each.message)]
print(json.dumps([answers, said]))
"""


def asked(cache: Path, **environment: str) -> tuple[list[bool], list[str]]:
    """Return the answers and warnings of a new process that asks twice, with an empty compilation cache."""
    done = subprocess.run(
        [sys.executable, "-c", ASK_TWICE],
        cwd=ROOT,
        env={**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(cache), **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    answers, said = json.loads(done.stdout.splitlines()[-1])
    return answers, said


def test_without_a_compiler_a_machine_says_so_once(tmp_path: Path) -> None:
    answers, said = asked(tmp_path, CXX="/nonexistent")
    assert answers == [False, False]
    assert said == [
        "Networks train uncompiled on this machine, which is slower, since there is no C++ compiler: "
        "install gcc and g++, or name a compiler in CXX."
    ]


@pytest.mark.slow
def test_an_empty_path_has_no_compiler(tmp_path: Path) -> None:
    answers, said = asked(tmp_path, PATH="/nonexistent")
    assert answers == [False, False]
    assert len(said) == 1


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a compiler")
def test_with_a_compiler_it_compiles_and_says_nothing(tmp_path: Path) -> None:
    assert asked(tmp_path) == ([True, True], [])


@pytest.fixture
def _unasked() -> Iterator[None]:
    can_compile.cache_clear()
    yield
    can_compile.cache_clear()


@pytest.mark.usefixtures("_unasked")
def test_any_error_of_a_compiler_becomes_one_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def fails(module: torch.nn.Module) -> None:
        tried.append(module)
        raise NotImplementedError("no such\n  architecture")

    monkeypatch.setattr(torch, "compile", fails)
    monkeypatch.setattr(compiling, "_diagnosis", lambda device, error: (f"{device}: {error!r}", "do this"))
    before = torch.get_rng_state()
    with pytest.warns(UserWarning, match=r"since cpu: NotImplementedError.*: do this\.$") as caught:
        assert [can_compile(CPU), can_compile(CPU)] == [False, False]
    assert (len(caught), len(tried)) == (1, 1)
    assert torch.equal(torch.get_rng_state(), before)


def machine(patch: pytest.MonkeyPatch, *, triton: bool = True, capability: tuple[int, int] = (9, 0)) -> None:
    """Simulate a machine with a GPU, a compiler and Python's headers."""
    spec = ModuleSpec("triton", None) if triton else None
    patch.setattr("importlib.util.find_spec", lambda name: spec)
    patch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    patch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    patch.setattr(Path, "exists", lambda path: True)
    patch.delenv("CC", raising=False)


def diagnosed(error: str = "BackendError: failed") -> str:
    return " - ".join(compiling._diagnosis(GPU, RuntimeError(error)))


def test_the_warning_names_what_a_gpu_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch)
    assert diagnosed("failed:\n  no room").startswith("torch.compile failed (failed: no room) - see that")
    monkeypatch.setattr(Path, "exists", lambda path: path != Path(sysconfig.get_path("include"), "Python.h"))
    assert diagnosed() == "Python's header Python.h is missing - install python3-dev (on Debian and Ubuntu)"
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert diagnosed().startswith("there is no C compiler - install gcc and g++, or name a compiler in CC")
    machine(monkeypatch, capability=(6, 1))
    assert diagnosed().startswith("its GPU's compute capability is below 7.0")
    machine(monkeypatch, triton=False)
    assert diagnosed().startswith("Triton is not installed - install it")


def test_a_named_compiler_is_the_only_one_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch)
    monkeypatch.setattr(shutil, "which", lambda name: None if name == "mine" else f"/usr/bin/{name}")
    assert "compiler" not in diagnosed().split(" - ")[0]
    monkeypatch.setenv("CC", "mine")
    assert diagnosed().startswith("there is no C compiler")


@pytest.mark.parametrize(
    ("device", "able", "compiled"), [(GPU, True, True), (GPU, False, False), (CPU, True, False)]
)
def test_only_networks_on_gpus_that_can_compile_are_compiled(
    monkeypatch: pytest.MonkeyPatch, device: torch.device, able: bool, compiled: bool
) -> None:
    monkeypatch.setattr(compiling, "can_compile", lambda device: able)
    monkeypatch.setattr(torch, "compile", lambda function, dynamic: lambda *arguments: "compiled")
    network = WideResNet(Recipe(), 3, 2)
    compile_trunk(network, device)
    found = network.trunk(torch.zeros(1, 3, 8, 8))
    assert (found == "compiled") if compiled else (found.shape == (1, 64, 2, 2))


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> Iterator[CompileCounter]:
    """Capture graphs on the CPU where a GPU would compile them, with room for two shapes by default."""
    counter, compile_it = CompileCounter(), torch.compile
    torch.compiler.reset()
    counters.clear()
    monkeypatch.setattr(compiling, "can_compile", lambda device: True)
    monkeypatch.setattr(torch, "compile", functools.partial(compile_it, backend=counter))
    monkeypatch.setattr(train, "compile_trunk", lambda network, device: compile_trunk(network, GPU))
    with torch._dynamo.config.patch(recompile_limit=2, accumulated_recompile_limit=2):
        yield counter
    torch.compiler.reset()


def test_every_shape_has_a_static_graph_and_equal_cells_share_it(
    digits: Prepared, quick_run: Callable, graphs: CompileCounter
) -> None:
    """What a process compiles for a cell is used for the next, and torch's limit is out of reach."""
    small = {"train_fraction": 0.1, "epochs": 1}  # 125 images or more
    for expected, changes in enumerate(
        [{"batch_size": 20}, {"batch_size": 30}, {"batch_size": 40}, {"batch_size": 40, "width": 2}], start=1
    ):
        for seed in (0, 1):
            cell = CellRun(quick_run(holdout=str(seed), seed=seed, **small, **changes), digits)
            cell.training.train_epoch()
            assert graphs.frame_count == expected
    assert counters["frames"]["ok"] == counters["frames"]["total"]  # none was left to run uncompiled
    assert not counters["unimplemented"]


def test_evaluations_are_not_compiled(digits: Prepared, quick_run: Callable, graphs: CompileCounter) -> None:
    few = {"train_fraction": 0.1, "epochs": 1, "batch_size": 50}
    for search in (False, True):
        for _ in CellRun(
            quick_run(search=search, **few), digits, detectors=() if search else ("odin", "vim")
        ).epochs():
            pass
    assert graphs.frame_count == 1


@pytest.mark.gpu
@pytest.mark.usefixtures("_unasked")
def test_a_gpu_answers_without_an_error() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        able = can_compile(GPU)
    assert able != any("uncompiled" in str(each.message) for each in caught)
