"""Where a study looks first: points that are spread over the unit cube, each axis a space's own scale."""

from __future__ import annotations


def starting_points(count: int, dimensions: int, seed: int) -> list[tuple[float, ...]]:
    """Return points in the unit cube (0, 1)^d, in the order in which they should be tried.

    In one dimension they are the middles of equal intervals, whatever the seed; each comes as far from those
    before it as it can, so that a study that is cut short has looked everywhere, too. In several dimensions
    they are a scrambled Sobol' sequence, which the seed determines. Raises ValueError for counts below 0 and
    dimensions below 1.
    """
    if count < 0 or dimensions < 1:
        raise ValueError(f"there are no {count} points in {dimensions} dimensions")
    if dimensions == 1:
        return [((place + 0.5) / count,) for place in _spread_order(count)]
    from scipy.stats import qmc  # 0.5 s: not before a search needs it

    # Sobol' points are balanced in powers of 2, and random() warns of other counts.
    exponent = max(0, count - 1).bit_length()
    drawn = qmc.Sobol(dimensions, scramble=True, rng=seed).random_base2(exponent)
    inside = drawn.clip(1e-9, 1 - 1e-9)  # a coordinate can be 0
    return [tuple(float(coordinate) for coordinate in point) for point in inside[:count]]


def _spread_order(count: int) -> list[int]:
    """Return 0 to count - 1 from the middle on, each the farthest from those before it, ties by size."""
    order = [count // 2] if count else []
    distances = [abs(place - count // 2) for place in range(count)]
    while len(order) < count:
        following = max(range(count), key=lambda place: (distances[place], -place))
        order.append(following)
        distances = [min(known, abs(place - following)) for place, known in enumerate(distances)]
    return order
