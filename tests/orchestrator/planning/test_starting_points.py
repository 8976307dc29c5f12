"""Starting points: spread over the cube, the same for the same seed, and quick to import."""

from __future__ import annotations

import subprocess
import sys
import warnings

import numpy as np
import pytest

from orchestrator.planning.starting_points import starting_points


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7, 8, 16])
def test_one_dimension_has_one_point_in_the_middle_of_each_equal_interval(count: int) -> None:
    points = sorted(point for (point,) in starting_points(count, 1, seed=0))
    assert points == [(place + 0.5) / count for place in range(count)]


@pytest.mark.parametrize("count", [4, 8, 16])
def test_a_study_that_is_cut_short_has_looked_everywhere_as_well(count: int) -> None:
    points = [point for (point,) in starting_points(count, 1, seed=0)]
    # No place is farther than this from one of the first three; in ascending order: 1 - 2.5 / count.
    assert max(min(abs(place - point) for point in points[:3]) for place in np.linspace(0, 1, 101)) <= 0.38


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8, 13, 32])
@pytest.mark.parametrize("dimensions", [2, 3])
def test_several_dimensions_have_no_two_points_in_a_half_too_many(count: int, dimensions: int) -> None:
    points = np.array(starting_points(count, dimensions, seed=1))
    assert points.shape == (count, dimensions)
    assert points.min() > 0
    assert points.max() < 1
    low = (points < 0.5).sum(axis=0)
    assert abs(2 * low - count).max() <= 1 + (count & (count - 1) != 0)


@pytest.mark.parametrize("count", [8, 16])
def test_several_dimensions_are_spread_better_than_random_points(count: int) -> None:
    from scipy.stats import qmc

    ours = [qmc.discrepancy(np.array(starting_points(count, 2, seed))) for seed in range(20)]
    generator = np.random.default_rng(0)
    random = [qmc.discrepancy(generator.random((count, 2))) for _ in range(20)]
    assert max(ours) < np.mean(random)


def test_the_seed_determines_several_dimensions_and_does_not_matter_in_one() -> None:
    assert starting_points(6, 2, seed=3) == starting_points(6, 2, seed=3) != starting_points(6, 2, seed=4)
    assert starting_points(6, 1, seed=3) == starting_points(6, 1, seed=4)


def test_counts_that_are_no_power_of_2_warn_of_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert [len(starting_points(count, 2, seed=0)) for count in range(8)] == list(range(8))


@pytest.mark.parametrize(("count", "dimensions"), [(-1, 1), (4, 0)])
def test_what_cannot_be_is_refused(count: int, dimensions: int) -> None:
    with pytest.raises(ValueError, match="there are no"):
        starting_points(count, dimensions, seed=0)


def test_importing_it_imports_neither_scipy_nor_numpy() -> None:
    code = (
        "import sys, orchestrator.planning.starting_points as s; s.starting_points(4, 1, 0); "
        "assert not {'scipy', 'numpy'} & set(sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
