"""Images in groups, such as those of one patient, all of which stay on one side of every split.

A group is told by a path or a column, and may have images of several classes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import numpy as np

from trainables.mistake import Mistake


def compiled(pattern: str) -> re.Pattern[str]:
    """Return a pattern of paths; raise Mistake for one that names no group."""
    try:
        found = re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise Mistake(
            f"--groups {pattern!r} is no regular expression ({error}): correct it, or name a column of "
            "Parquet files."
        ) from None
    if not found.groups:
        raise Mistake(
            f"--groups {pattern!r} has no part in parentheses, which would name the group: put that part of "
            "the path in some, as in '/(patient[0-9]+)_'."
        )
    return found


def groups_of_paths(pattern: str, paths: Iterable[str]) -> list[str]:
    """Return the group of each path: what the first parentheses of the pattern match, wherever it is found.

    Raise Mistake for a path in which they match nothing.
    """
    expression, groups = compiled(pattern), []
    for path in paths:
        found = expression.search(path)
        if found is None or not found[1]:
            raise Mistake(
                f"--groups {pattern!r} finds no group in {path}: every image needs one; correct the pattern."
            )
        groups.append(found[1])
    return groups


def groups_aside(
    labels: np.ndarray, groups: Sequence[str], wanted: Sequence[int], random: np.random.Generator
) -> np.ndarray:
    """Return which images are set aside, bool (n,): whole groups, in all about `wanted` images of each label.

    Groups are gone through in random order, and one is set aside if that brings the counts nearer to those
    that are wanted. A label that then lacks images on a side gets the smallest group that does not take those
    of another label away. Labels, int64 (n,), are 0 to len(wanted) - 1; for one of fewer than two groups
    nothing can be done, and one of its sides stays empty.
    """
    names, number = np.unique(np.asarray(groups), return_inverse=True)
    counts = np.zeros((len(names), len(wanted)), np.int64)
    np.add.at(counts, (number, labels), 1)
    total, target = counts.sum(0), np.asarray(wanted)
    chosen = np.zeros(len(names), bool)
    aside = np.zeros(len(wanted), np.int64)
    order = random.permutation(len(names))
    for group in order:
        after = aside + counts[group]
        nearer = np.square(after - target).sum() < np.square(aside - target).sum()
        if nearer and not ((after == total) & (total > 0)).any():
            chosen[group], aside = True, after
    for label in np.flatnonzero((aside == 0) & (total > 0)):
        if aside[label]:
            continue
        for group in sorted(order[counts[order, label] > 0], key=lambda g: int(counts[g].sum())):
            after = aside + counts[group]
            if not ((after == total) & (total > 0)).any():
                chosen[group], aside = True, after
                break
    return chosen[number]
