"""Shapes of a network's layers, from its recipe alone and without torch."""

from __future__ import annotations

from trainables.recipe import Recipe


def block_shapes(recipe: Recipe) -> list[list[tuple[int, int, int]]]:
    """Return (channels in, channels out, stride) of every block, group by group.

    In the published variant the first convolution has 16 channels, and a group widens and strides in its
    first block. In the wide variant the first convolution has the first group's width, and a group strides in
    its first block and widens in its last one for the next group.
    """
    blocks = (recipe.depth - 4) // (2 * recipe.groups)
    widths = [16 * recipe.width * 2 ** min(group, 2) for group in range(recipe.groups)]
    strides = [1] + [2] * (recipe.groups - 1)
    plan = []
    if recipe.variant == "published":
        before = [16, *widths[:-1]]
        for c_in, c_out, stride in zip(before, widths, strides, strict=True):
            plan.append([(c_in, c_out, stride)] + [(c_out, c_out, 1)] * (blocks - 1))
        return plan
    after = [*widths[1:], widths[-1]]
    for width, widened, stride in zip(widths, after, strides, strict=True):
        group = [(width, width, 1)] * (blocks - 1) + [(width, widened, 1)]
        plan.append([(group[0][0], group[0][1], stride), *group[1:]])
    return plan


def stem_shape(recipe: Recipe) -> tuple[int, int]:
    """Return the number of channels and the kernel size of the first convolution."""
    if recipe.variant == "published":
        return 16, 3
    return 16 * recipe.width, 7 if recipe.stem_pool else 3
