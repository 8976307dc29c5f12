"""Who may import whom: the arrows of the house point one way."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from trainables.auxiliary import TASKS

ROOT = Path(__file__).parent.parent
PACKAGES = ("trainables", "search_spaces", "orchestrator")
SIDES = {"orchestrator/planning", "orchestrator/ledger"}
WORK = {"orchestrator/tracking", "orchestrator/machines", "orchestrator/cli", *SIDES, "search_spaces"}
MAY_IMPORT = {
    "trainables/data/readers": set(),
    "trainables/data": {"trainables/data/readers"},
    "trainables/networks": set(),
    "trainables/auxiliary": {"trainables/auxiliary/modules", "trainables/networks"},
    "trainables/auxiliary/modules": {"trainables/data", "trainables/networks"},
    "trainables/detectors": {"trainables/data", "trainables/networks"},
    "trainables/training_free": set(),
    "search_spaces": set(),
    "orchestrator/ledger": set(),
    "orchestrator/planning": {"orchestrator/ledger", "search_spaces"},
    "orchestrator/cli": {*SIDES, "search_spaces"},
    "orchestrator/machines": SIDES,
    "orchestrator/tracking": SIDES,
    "orchestrator/execution": WORK,
    "orchestrator/reporting": WORK,
    "orchestrator/prediction": {"orchestrator/execution", "orchestrator/reporting", *WORK},
}
"""Beside itself, which folders a folder's modules may import; commands may import all of orchestrator.

Every folder outside trainables/ may import what is in it.
"""
RAY_SIDE = (
    "orchestrator.execution.tune",
    "orchestrator.execution.train_group",
    "orchestrator.execution.pulse",
    "orchestrator.execution.ray_watch",
    "orchestrator.execution.trial_deaths",
    "orchestrator.execution.probe_on_ray",
    "orchestrator.machines.nodes",
    "orchestrator.machines.cluster_file",
    "orchestrator.machines.preflight",
    "orchestrator.machines.cluster_checkup",
)
ONLY_IN = {
    "ray": {f"{name.replace('.', '/')}.py" for name in RAY_SIDE},
    "mlflow": {"orchestrator/tracking/client.py", "orchestrator/tracking/tracker.py"},
    "optuna": {"orchestrator/planning/studies.py", "orchestrator/reporting/journal.py"},
}
BENCHMARKS_WORDS = re.compile("digits|imagenet", re.IGNORECASE)
"""Names of benchmarks, with which nothing but their own files has to do."""
THEIR_OWN = {f"trainables/data/readers/{name}.py" for name in ("digits", "imagenet", "imagenet_classes")}
OTHER_SENSES = {
    "at most six digits": "of a number's text",
    "use up to 100 letters, digits, dots": "of which names are made",
}
"""Sentences in which such a word means something else, and what."""
TASK_OWNS = {
    "cpc": {
        "search_spaces/image_folder.py": "a search space",
        "search_spaces/imagenet.py": "a search space",
        "trainables/recipe.py": "the fields cpc_batch_size and cpc_channels",
        "orchestrator/reporting/paper.py": "the paper's tables",
    },
    "rotation": {
        "search_spaces/benchmark.py": "the default methods",
        "search_spaces/cifar10.py": "a search space",
        "search_spaces/digits.py": "a search space",
        "search_spaces/image_folder.py": "a search space",
        "search_spaces/imagenet.py": "a search space",
        "search_spaces/stl10.py": "a search space",
        "trainables/recipe.py": "the field rotation_set",
    },
}
"""The only files outside trainables/auxiliary/ that may name a task, and why."""
THE_FIRST_DETECTORS = {
    "trainables/detectors/__init__.py": "the default detectors",
    "trainables/recipe.py": "the field odin_units",
    "trainables/auxiliary/cpc.py": "the field odin_units",
    "trainables/data/image_sets.py": "the repository called ODIN",
    "orchestrator/reporting/paper.py": "the paper's tables",
    "search_spaces/cifar10.py": "the paper's numbers",
    "search_spaces/digits.py": "the numbers to expect",
    "search_spaces/imagenet.py": "the paper's numbers",
    "search_spaces/stl10.py": "the paper's numbers",
}
"""The only files outside trainables/detectors/ that may name msp or odin, and why."""
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def imported(path: Path) -> set[str]:
    """Return the dotted names of the modules that a file imports anywhere, and of what it takes from them."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module or ""}
    return names


def folder_of(module: str) -> str | None:
    """Return the folder of this project that a dotted module is in, or None for others' modules."""
    path = ROOT.joinpath(*module.split("."))
    if module.split(".")[0] not in PACKAGES or not (path.with_suffix(".py").exists() or path.is_dir()):
        return None
    found = path if path.is_dir() else path.parent
    return found.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_arrows_point_one_way(path: Path) -> None:
    place, folder = path.relative_to(ROOT).as_posix(), path.parent.relative_to(ROOT).as_posix()
    names = imported(path)
    folders = {found for name in names if (found := folder_of(name)) is not None} - {folder}
    if place.startswith("trainables/"):
        assert {found.split("/")[0] for found in folders} <= {"trainables"}
    else:
        folders = {found for found in folders if not found.startswith("trainables")}
    if folder in MAY_IMPORT:
        assert folders - {"trainables", "orchestrator"} <= MAY_IMPORT[folder]
    else:
        assert folder in PACKAGES, f"{folder} has no line in MAY_IMPORT"
    for package, files in ONLY_IN.items():
        assert package not in {name.split(".")[0] for name in names} or place in files
    assert path.name not in ("utils.py", "common.py", "base.py", "helpers.py")


def test_no_module_imports_itself_by_a_detour() -> None:
    names = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in FILES}
    graph = {name: imported(path) & names.keys() - {name} for name, path in names.items()}
    done: set[str] = set()
    while len(done) < len(graph):
        free = {name for name, needs in graph.items() if name not in done and needs <= done}
        assert free, f"a circle among {sorted(graph.keys() - done)}"
        done |= free


@pytest.mark.parametrize("task", TASKS.built_in)
def test_a_task_owns_all_of_itself(task: str) -> None:
    """Its name is in its own files, in the search spaces that have it, and where TASK_OWNS says why."""
    naming = {
        path.relative_to(ROOT).as_posix()
        for path in FILES
        if task in path.read_text().lower() and "trainables/auxiliary" not in path.as_posix()
    }
    assert naming == TASK_OWNS.get(task, {}).keys()


def test_no_file_but_its_own_names_a_detector() -> None:
    naming = {
        path.relative_to(ROOT).as_posix()
        for path in FILES
        if re.search(r"\b(msp|odin)(\b|_)", path.read_text(), re.IGNORECASE)
    }
    own = {f"trainables/detectors/{name}.py" for name in ("msp", "odin")}
    assert naming - own == THE_FIRST_DETECTORS.keys()


def modules(package: str) -> list[str]:
    paths = [path for path in FILES if path.relative_to(ROOT).parts[0] == package]
    return [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in paths]


def run_blocked(blocked: list[str], code: str) -> subprocess.CompletedProcess:
    """Runs code in a fresh process in which these packages cannot be imported."""
    block = "import sys\n" + "".join(f"sys.modules[{name!r}] = None\n" for name in blocked)
    return subprocess.run([sys.executable, "-c", block + code], cwd=ROOT, capture_output=True, text=True)


def test_the_training_core_imports_without_scheduler_tracker_or_search() -> None:
    code = "import importlib\n" + "".join(
        f"importlib.import_module({name!r})\n" for name in modules("trainables")
    )
    done = run_blocked(["ray", "mlflow", "optuna", "orchestrator", "search_spaces"], code)
    assert done.returncode == 0, done.stderr


def test_all_but_the_ray_side_imports_without_ray_and_mlflow() -> None:
    names = [name for name in modules("orchestrator") if name not in RAY_SIDE]
    code = "import importlib\n" + "".join(f"importlib.import_module({name!r})\n" for name in names)
    done = run_blocked(["ray", "mlflow", "optuna"], code)
    assert done.returncode == 0, done.stderr


def test_plans_and_help_import_neither_torch_nor_scikit_learn() -> None:
    code = "import search_spaces\nsearch_spaces.all_benchmarks()\nimport trainables.run\n"
    code += "from orchestrator.sweep import main\nassert main(['--dry-run']) == 0\n"
    code += "from trainables.auxiliary import TASKS\nfrom trainables.training_free import TRAINING_FREE\n"
    code += "methods = ['classification', *TASKS.built_in]\n"
    code += "assert main(['imagenet-dog', '--methods', *methods, '--workers', '2', '--dry-run']) == 0\n"
    code += "assert main(['cifar10', '--methods', *TRAINING_FREE.built_in, '--dry-run']) == 0\n"
    done = run_blocked(["torch", "sklearn", "ray", "mlflow", "optuna", "matplotlib"], code)
    assert done.returncode == 0, done.stderr


def words_of_benchmarks(text: str) -> list[str]:
    """Return the lines that name a benchmark."""
    for sentence in OTHER_SENSES:
        text = text.replace(sentence, "")
    return [line for line in text.splitlines() if BENCHMARKS_WORDS.search(line)]


def test_nothing_but_its_own_files_names_a_benchmark() -> None:
    places = {path.relative_to(ROOT).as_posix(): path for path in (*FILES, *ROOT.glob("*.py"))}
    outside = {place: path for place, path in places.items() if not place.startswith("search_spaces/")}
    assert outside.keys() >= THEIR_OWN
    found = {place: words_of_benchmarks(path.read_text()) for place, path in outside.items()}
    assert {place for place, lines in found.items() if lines} == THEIR_OWN, found
