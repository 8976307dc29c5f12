"""What a GPU makes of training: speed, waits, memory, compilation, resuming, and runs that share it.

    python -m benchmarks.gpu_check [--device cuda] [--budget 520] [--output gpu_check.json] [--only PART ...]

It needs the checkout and what trainables/ imports (torch, numpy, pyarrow), and pytest for the tests. Each
part is a process of its own, which is ended when its time is over:

    tests       the tests that need a GPU
    rate        the rate of a large bfloat16 matrix product, with which speeds are compared
    networks    per network: images per second, and the share of that rate; what the first epoch takes beyond
                the others (compilation, and convolutions that are timed); waits for the GPU within an epoch's
                steps; peak memory; evaluation in both memory layouts
    resuming    whether a training that was saved and loaded ends as one that was not
    sharing     images per second of 1, 2 and 4 processes on the GPU, summed
    nested      a group of one worker that Ray Train starts within a task, as a sweep's cells do; needs Ray

With --device cpu it takes tiny networks, which shows that it runs and nothing else. The images are noise.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from search_spaces import find_benchmark
from trainables.arithmetic import full_precision
from trainables.auxiliary import find_task
from trainables.compiling import can_compile, uncompiled
from trainables.data.augment import center_crop
from trainables.data.holdout import FinalData, Part
from trainables.data.image_table import ImageTable
from trainables.networks.flops import training_flops
from trainables.recipe import Recipe
from trainables.run import Run, parse_method
from trainables.train import Training
from trainables.workers import Workers

ROOT = Path(__file__).parent.parent
CLASSES = 9
LEAST = 10.0
"""Seconds below which a part is not begun."""
GPU_TESTS = ("test_waiting.py", "test_compiling.py", "data/test_image_table.py")
SHARING = (1, 2, 4)
AFTER_NETWORKS = {"resuming": 30.0, "sharing": 80.0, "nested": 30.0}
"""Seconds that the parts after the networks need, which no network is to take from them."""


@dataclass(frozen=True)
class Case:
    """A training to measure: a benchmark's recipe with changes, and the steps of an epoch."""

    name: str
    benchmark: str
    method: str = "classification"
    changes: tuple[tuple[str, Any], ...] = ()
    steps: int = 12
    budget: float = 90.0

    def recipe(self, device: str) -> Recipe:
        """Return the recipe in the device's precision, of tiny networks and batches on a CPU."""
        recipe = find_benchmark(self.benchmark).recipe_for(parse_method(self.method).auxiliary)
        recipe = replace(
            recipe, precision="bfloat16" if device == "cuda" else "float32", **dict(self.changes)
        )
        if device == "cuda":
            return recipe
        side = 56 if recipe.image_size > 96 else 16
        parts = recipe.batch_size // (recipe.micro_batch or recipe.batch_size)
        tiny = {"depth": 2 * recipe.groups + 4, "width": 1, "image_size": side, "stored_size": side}
        return replace(
            recipe, **tiny, batch_size=8, micro_batch=8 // parts % 8, cpc_batch_size=2, cpc_channels=16
        )


CASES = (
    Case("WRN-28-10, 4 x 128", "cifar10"),
    Case("WRN-28-10, 512", "cifar10", changes=(("micro_batch", 0),)),
    Case(
        "WRN-16-4, 128",
        "cifar10",
        changes=(("depth", 16), ("width", 4), ("batch_size", 128), ("micro_batch", 0)),
        steps=48,
        budget=60.0,
    ),
    Case("STL-10, 4 x 64", "stl10"),
    Case("ImageNet, 64", "imagenet-dog"),
    Case("ImageNet, 64, and CPC, 32", "imagenet-dog", "cpc", budget=120.0),
    Case("WRN-28-10, 4 x 128, and rotation", "cifar10", "rotation"),
)
SMALL = CASES[2]
"""The one that is resumed, and that shares the GPU: it leaves some of it idle."""


def training_of(case: Case, device: str, **changes: Any) -> Training:
    """Return a case's training on noise: as many images as its steps take."""
    recipe = replace(case.recipe(device), **changes)
    steps = case.steps if device == "cuda" else 2
    each = -(-recipe.batch_size * steps // CLASSES)
    rng = np.random.default_rng(0)
    shape = (each, recipe.prepared_size, recipe.prepared_size, 3)
    table = ImageTable.from_arrays(
        "train", {f"class {n}": rng.integers(0, 256, shape, dtype=np.uint8) for n in range(CLASSES)}
    )
    labels = torch.arange(CLASSES).repeat_interleave(each)
    data = FinalData(table.classes, Part(table, torch.arange(len(table)), labels), len(table))
    weights = dict.fromkeys(parse_method(case.method).auxiliary, 0.5)
    run = Run(case.benchmark, "none", case.method, 0, recipe, weights, search=False, device=device)
    return Training(run, data)


def flops_of(case: Case, recipe: Recipe) -> float:
    """Return the FLOPs of training per classification image, auxiliary steps included."""
    tasks = [find_task(name, recipe, 3) for name in parse_method(case.method).auxiliary]
    return training_flops(recipe, 3, CLASSES) + sum(task.flops(recipe) for task in tasks)


@contextlib.contextmanager
def waits_of(training: Training) -> Iterator[list[str]]:
    """List the waits for the GPU within the steps of the epochs that are trained meanwhile."""
    seen: list[str] = []
    steps = training._steps

    def watched(*given: Any) -> Any:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                return steps(*given)
            finally:
                torch.cuda.set_sync_debug_mode("default")
                seen.extend(f"{w.filename}:{w.lineno}" for w in caught if "synchroniz" in str(w.message))

    training._steps = watched  # type: ignore[method-assign]
    try:
        yield seen
    finally:
        training._steps = steps  # type: ignore[method-assign]


def measure_case(case: Case, device: str, seconds: float) -> dict[str, Any]:
    """Return a case's measurements; epochs are timed for about so many seconds, and three at least."""
    recipe, gpu = case.recipe(device), device == "cuda"
    training = training_of(case, device)
    first = timed(training.train_epoch)
    found: dict[str, Any] = {
        "compiled": gpu and can_compile(training.device),
        "steps": training.steps_per_epoch,
    }
    if gpu:
        with waits_of(training) as waits:
            training.train_epoch()
        found |= {"waits": len(waits), "places of waits": sorted(set(waits))}
        torch.cuda.reset_peak_memory_stats()
    speeds, over = [], time.perf_counter() + seconds
    while len(speeds) < 3 or time.perf_counter() < over:
        speeds.append(training.train_epoch()["speed/images_per_second"])
    speed = statistics.median(speeds)
    epoch = training.steps_per_epoch * training.batch_size / speed
    found |= {
        "images per second": speed,
        "TFLOP per second": speed * flops_of(case, recipe) / 1e12,
        "extra seconds of the first epoch": first - epoch,
    }
    if gpu:
        found["peak GiB"] = torch.cuda.max_memory_allocated() / 2**30
    for name, layout in (("channels last", torch.channels_last), ("contiguous", torch.contiguous_format)):
        found[f"evaluation, {name}"] = evaluation_speed(training, layout, seconds / 4)
    return found


def evaluation_speed(training: Training, layout: torch.memory_format, seconds: float) -> float:
    """Return the images per second of evaluation in float32 in one memory layout."""
    images = training.part.images
    rows = torch.arange(min(len(images), 256 if images.side <= 96 else 32))
    network = training.network.eval().to(memory_format=layout)
    with full_precision(training.device), uncompiled(network), torch.no_grad():
        inputs = training.normalisation(center_crop(images.gather(rows), training.recipe.image_size))
        inputs = inputs.contiguous(memory_format=layout)
        network(inputs).sum().item()
        passes, started = 0, time.perf_counter()
        while passes < 3 or time.perf_counter() < started + seconds:
            network(inputs).sum().item()
            passes += 1
        speed = passes * len(rows) / (time.perf_counter() - started)
    network.train().to(memory_format=torch.channels_last)
    return speed


def timed(work: Callable[[], Any]) -> float:
    """Return the seconds that a piece of work takes; what it returns must wait for the device."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def measure_rate(device: str) -> dict[str, Any]:
    """Return the rate of a bfloat16 matrix product of 8192 rows and columns, the best of some rounds."""
    side, rounds = (8192, 20) if device == "cuda" else (256, 3)
    one, other = (torch.randn(side, side, device=device).bfloat16() for _ in range(2))

    def multiply() -> None:
        for _ in range(rounds):
            one @ other
        if device == "cuda":
            torch.cuda.synchronize()

    multiply()
    seconds = min(timed(multiply) for _ in range(5))
    found: dict[str, Any] = {"TFLOP per second": rounds * 2 * side**3 / seconds / 1e12}
    if device == "cuda":
        about = torch.cuda.get_device_properties(0)
        found |= {"device": about.name, "GiB": about.total_memory / 2**30}
    return found


def measure_resuming(device: str) -> dict[str, Any]:
    """Train two epochs, twice without and once with an interruption; compare the weights.

    A GPU adds in any order, so that two equal trainings differ, too: by how much is measured beside it.
    """
    few = replace(SMALL, method="rotation", steps=8)
    small = {"depth": 10, "epochs": 2}
    whole, again, stopped = (training_of(few, device, **small) for _ in range(3))
    for training in (whole, whole, again, again, stopped):
        training.train_epoch()
    saved = io.BytesIO()
    torch.save(stopped.state(), saved)
    torch.rand(17)  # other use of the process must not matter
    resumed = training_of(few, device, **small)
    resumed.load(torch.load(io.BytesIO(saved.getvalue()), map_location=device, weights_only=True))
    resumed.train_epoch()
    return {
        "equal": difference(whole, resumed) == 0,
        "difference": difference(whole, resumed),
        "difference without an interruption": difference(whole, again),
        "norm of the change": difference(whole, training_of(few, device, **small)),
    }


def difference(one: Training, other: Training) -> float:
    """Return the Euclidean distance of two networks' weights."""
    pairs = zip(one.network.parameters(), other.network.parameters(), strict=True)
    return torch.stack([(a - b).detach().double().square().sum() for a, b in pairs]).sum().sqrt().item()


def measure_sharer(device: str, gate: Path, number: int, seconds: float) -> dict[str, Any]:
    """Train for some seconds, once all that share the GPU are warm; return the images per second."""
    training = training_of(SMALL, device)
    for _ in range(2):
        training.train_epoch()
    (gate / f"ready-{number}").touch()
    while not (gate / "go").exists():
        gate.stat()  # which fails if the check has ended
        time.sleep(0.01)
    epochs, started = 0, time.perf_counter()
    while time.perf_counter() < started + seconds:
        training.train_epoch()
        epochs += 1
    images = epochs * training.steps_per_epoch * training.batch_size
    return {"images per second": images / (time.perf_counter() - started)}


def measure_nested(device: str) -> dict[str, Any]:
    """Average gradients in a group of one worker that Ray Train starts within a task."""
    import ray

    gpus = int(device == "cuda")
    ray.init(num_cpus=2, num_gpus=gpus, include_dashboard=False, log_to_driver=False)
    try:
        with tempfile.TemporaryDirectory() as scratch:
            ray.get(ray.remote(num_cpus=0.01)(_group).remote(scratch, gpus))
            return dict(json.loads((Path(scratch) / "found.json").read_text()))
    finally:
        ray.shutdown()


def _group(scratch: str, gpus: int) -> None:
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    TorchTrainer(
        _member,
        train_loop_config={"scratch": scratch},
        torch_config=TorchConfig(backend="nccl" if gpus else "gloo"),
        scaling_config=ScalingConfig(num_workers=1, use_gpu=bool(gpus)),
        run_config=RunConfig(storage_path=scratch),
    ).fit()


def _member(config: dict[str, str]) -> None:
    """Average gradients as the first of two workers would: alone in its group, it halves them."""
    import torch.distributed as dist
    from ray.train.torch import get_device

    parameter = torch.nn.Parameter(torch.zeros(3, 2, 3, 3, device=get_device()))
    parameter.grad = torch.ones_like(parameter)
    Workers(0, 2).average_gradients([parameter])
    found = {"backend": dist.get_backend(), "halved": bool((parameter.grad == 0.5).all())}
    (Path(config["scratch"]) / "found.json").write_text(json.dumps(found))


class Check:
    """The parts of the check, each with what is left of the budget, and what they found."""

    def __init__(self, device: str, budget: float) -> None:
        self.device = device
        self._over = time.monotonic() + budget
        self._kept = 0.0
        self.found: dict[str, Any] = {"device": device, "torch": torch.__version__, "host": platform.node()}

    def room(self, budget: float) -> float:
        """Return the seconds that a part may take, 0 if it is not to be begun."""
        left = min(budget, self._over - self._kept - time.monotonic())
        return left if left >= LEAST else 0.0

    def tests(self) -> dict[str, Any]:
        """Run the tests that are marked gpu."""
        files = [str(ROOT / "tests" / "trainables" / name) for name in GPU_TESTS]
        line = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", *files]
        room = self.room(150.0)
        if not room:
            return {"error": "out of time"}
        try:
            done = subprocess.run(
                line, cwd=ROOT, env=_environment(), timeout=room, capture_output=True, text=True
            )
        except subprocess.TimeoutExpired:
            return {"error": f"out of time after {room:.0f} s"}
        said = (done.stdout + done.stderr).strip().splitlines()
        failed = [each for each in said if each.startswith(("FAILED", "ERROR"))]
        return {"passed": done.returncode == 0, "said": said[-1] if said else "", "failed": failed}

    def child(self, part: str, budget: float, **given: Any) -> dict[str, Any]:
        """Measure a part in a process of its own; return what it found, or its error."""
        room = self.room(budget)
        if not room:
            return {"error": "out of time"}
        process = _started(part, self.device, given)
        return _heard(process, room)

    def networks(self) -> dict[str, Any]:
        """Measure every network."""
        found = {}
        for number, case in enumerate(CASES):
            found[case.name] = self.child("networks", case.budget, number=number)
            print(f"  {case.name}: {json.dumps(found[case.name])}", flush=True)
        return found

    def sharing(self) -> dict[str, Any]:
        """Let several processes train on the GPU at once; return the sums of their images per second."""
        found: dict[str, Any] = {}
        for count in SHARING:
            room = self.room(75.0)
            if not room:
                found[str(count)] = {"error": "out of time"}
                continue
            over = time.monotonic() + room
            with tempfile.TemporaryDirectory() as folder:
                gate = Path(folder)
                children = [
                    _started("sharing", self.device, {"gate": folder, "number": n}) for n in range(count)
                ]
                while len(list(gate.glob("ready-*"))) < count and time.monotonic() < over:
                    if any(child.poll() is not None for child in children):
                        break  # one has failed, and says why
                    time.sleep(0.05)
                (gate / "go").touch()
                answers = [_heard(child, max(1.0, over - time.monotonic())) for child in children]
            errors = [each["error"] for each in answers if "error" in each]
            speeds = [each["images per second"] for each in answers if "error" not in each]
            found[str(count)] = {"error": errors[0]} if errors else {"images per second": sum(speeds)}
        return found

    def run(self, only: list[str]) -> None:
        """Run the parts that are asked for, in order."""
        parts: dict[str, Callable[[], dict[str, Any]]] = {
            "rate": lambda: self.child("rate", 60.0),
            "tests": self.tests,
            "networks": self.networks,
            "resuming": lambda: self.child("resuming", 90.0),
            "sharing": self.sharing,
            "nested": lambda: self.child("nested", 90.0),
        }
        for name in [each for each in parts if each in only]:
            started = time.monotonic()
            later = [seconds for part, seconds in AFTER_NETWORKS.items() if part in only]
            self._kept = sum(later) if name == "networks" else 0.0
            self.found[name] = parts[name]()
            seconds = time.monotonic() - started
            said = "" if name == "networks" else f": {json.dumps(self.found[name])}"
            print(f"{name}, {seconds:.0f} s{said}", flush=True)


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}


def _started(part: str, device: str, given: dict[str, Any]) -> subprocess.Popen[str]:
    line = [
        sys.executable,
        "-m",
        "benchmarks.gpu_check",
        "--device",
        device,
        "--measure",
        part,
        json.dumps(given),
    ]
    return subprocess.Popen(
        line,
        cwd=ROOT,
        env=_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,  # so that it is ended with the processes that compile, and Ray's
    )


def _heard(process: subprocess.Popen[str], seconds: float) -> dict[str, Any]:
    """Return what a measuring process says in its last line, or what went wrong."""
    try:
        said, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        return {"error": f"out of time after {seconds:.0f} s"}
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    lines = said.strip().splitlines() or [""]
    if process.returncode:
        return {"error": lines[-1]}
    return dict(json.loads(lines[-1]))


def measure(part: str, device: str, given: dict[str, Any]) -> dict[str, Any]:
    """Return one part's measurements, in the process that was started for it."""
    seconds = 4.0 if device == "cuda" else 0.2
    if device == "cpu":
        torch.set_num_threads(1)
    if part == "rate":
        return measure_rate(device)
    if part == "networks":
        return measure_case(CASES[given["number"]], device, seconds)
    if part == "resuming":
        return measure_resuming(device)
    if part == "sharing":
        return measure_sharer(device, Path(given["gate"]), given["number"], 1.5 * seconds)
    return measure_nested(device)


def table(found: dict[str, Any]) -> str:
    """Return the networks' measurements as lines of text."""
    rate = found.get("rate", {}).get("TFLOP per second")
    columns = ("images/s", "TFLOP/s", "of rate", "first +s", "waits", "GiB", "eval last", "eval cont.")
    lines = [f"{'network':34}" + "".join(f"{name:>11}" for name in columns)]
    for name, each in found.get("networks", {}).items():
        if "error" in each:
            lines.append(f"{name:34}  {each['error']}")
            continue
        speed = each["TFLOP per second"]
        words = [
            f"{each['images per second']:.0f}",
            f"{speed:.1f}",
            f"{speed / rate:.0%}" if rate else "",
            f"{each['extra seconds of the first epoch']:.1f}",
            f"{each.get('waits', '')}",
            f"{each['peak GiB']:.1f}" if "peak GiB" in each else "",
            f"{each['evaluation, channels last']:.0f}",
            f"{each['evaluation, contiguous']:.0f}",
        ]
        lines.append(f"{name:34}" + "".join(f"{word:>11}" for word in words))
    return "\n".join(lines)


PARTS = ("tests", "rate", "networks", "resuming", "sharing", "nested")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--budget", type=float, default=520.0, help="seconds for all parts (520)")
    parser.add_argument("--output", type=Path, help="a file for everything that was measured, as JSON")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART")
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        part, details = given.measure
        print(json.dumps(measure(part, given.device, json.loads(details))))
        return 0
    if given.device == "cuda" and not torch.cuda.is_available():
        parser.error("torch sees no GPU here: --device cpu shows that the check itself runs")
    check = Check(given.device, given.budget)
    with tempfile.TemporaryDirectory() as compiled:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = compiled  # so that nothing was compiled before
        check.run(given.only)
    if "networks" in check.found:
        print(table(check.found))
    if given.output:
        given.output.write_text(json.dumps(check.found, indent=1) + "\n")
    return 0 if check.found.get("tests", {}).get("passed", True) else 1


if __name__ == "__main__":
    sys.exit(main())
