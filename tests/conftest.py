"""What many tests share: the digits, prepared once, and runs small enough for a test."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

OF_A_PERSON = (
    *("RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "HOLDOUT_BUCKET"),
    *("MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "AWS_PROFILE"),
    *("FORCE_COLOR", "TTY_COMPATIBLE", "TORCH_COMPILE_DISABLE", "TORCHDYNAMO_DISABLE"),
)
"""Settings of whoever runs the tests, with which they would reach that person's cluster, server or bucket, or
see another program than is tested."""

for _name in OF_A_PERSON:
    os.environ.pop(_name, None)
os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1,localhost"
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs a GPU where there is none."""
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("needs a GPU")


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Prepared data and matplotlib's fonts go to folders of the test session, not to the user's."""
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))
    os.environ["MPLCONFIGDIR"] = str(tmp_path_factory.mktemp("matplotlib"))


@pytest.fixture(autouse=True, scope="module")
def _own_home(_own_cache: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Each file of tests has an empty home, and leaves the environment to the next as it found it."""
    before = dict(os.environ)
    os.environ["HOME"] = str(tmp_path_factory.mktemp("home"))
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(autouse=True, scope="module")
def _own_plugins() -> Iterator[None]:
    """What a file of tests brings by plug-ins is gone with it."""
    from tests.plugins import forget

    with pytest.MonkeyPatch.context() as patch:
        forget(patch)
        yield


@pytest.fixture(scope="session")
def digits(_own_cache: None):
    """Scikit-learn's digits, prepared."""
    import torch

    from orchestrator.planning.request import Request, draft
    from orchestrator.planning.specification import data_request
    from trainables.data.cache import prepare

    torch.set_num_threads(1)
    specification = draft(Request()).complete("cpu", tuple("0123456789"))
    return prepare(data_request(specification, "./data", cache="", download=False))


@pytest.fixture
def quick_run() -> Callable:
    """Makes runs of two epochs of the smallest network on digits."""
    from dataclasses import replace

    from search_spaces import find_benchmark
    from trainables.run import Run, parse_method

    def make(method: str = "classification", *, search: bool = False, **changes: object) -> Run:
        fields = {
            "holdout": "3",
            "seed": 0,
            **{k: changes.pop(k) for k in ("holdout", "seed", "sweep_seed") if k in changes},
        }
        recipe = replace(find_benchmark("digits").recipe, **{"epochs": 2, "ap_window": 1, **changes})  # type: ignore[arg-type]
        weights = dict.fromkeys(parse_method(method).auxiliary, 0.5)
        return Run("digits", method=method, recipe=recipe, aux_weights=weights, search=search, **fields)  # type: ignore[arg-type]

    return make


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real images that are not part of the project; skips where there is none."""
    folder = Path(
        os.environ.get("HOLDOUT_TEST_DATA", Path(__file__).parent.parent.parent / "shared" / "data")
    )
    if not (folder / "cifar10_train.parquet").exists():
        pytest.skip("no real images here: name their folder in HOLDOUT_TEST_DATA")
    return folder
