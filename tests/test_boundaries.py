"""Who may import whom: the arrows of the house point one way."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("trainables", "search_spaces", "orchestrator")
MAY_IMPORT = {
    "trainables": {"trainables"},
    "search_spaces": {"search_spaces", "trainables"},
    "orchestrator": {"orchestrator", "search_spaces", "trainables"},
}
RAY_SIDE = (
    "orchestrator.execution.tune",
    "orchestrator.execution.train_group",
    "orchestrator.machines.nodes",
    "orchestrator.machines.cluster_file",
    "orchestrator.machines.preflight",
    "orchestrator.machines.cluster_checkup",
)
ONLY_IN = {
    "ray": {f"{name.replace('.', '/')}.py" for name in RAY_SIDE},
    "mlflow": {"orchestrator/tracking/tracker.py"},
    "optuna": {"orchestrator/planning/studies.py"},
}
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def imported(path: Path) -> set[str]:
    """The top-level packages that a file imports anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            names.add((node.module or "").split(".")[0])
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_arrows_point_one_way(path: Path) -> None:
    place = path.relative_to(ROOT).as_posix()
    names = imported(path)
    assert names & set(PACKAGES) <= MAY_IMPORT[place.split("/")[0]]
    for package, files in ONLY_IN.items():
        assert package not in names or place in files
    assert path.name not in ("utils.py", "common.py", "base.py", "helpers.py")


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
    done = run_blocked(["torch", "sklearn", "ray", "mlflow", "optuna", "matplotlib"], code)
    assert done.returncode == 0, done.stderr
