"""What the held-out class's images are taken for: the kept classes that each method names most often."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from orchestrator.reporting.results import Results
from orchestrator.reporting.scored import Scored, Scores
from orchestrator.reporting.tables import TEXT, Column, Table
from trainables.mistake import counted

SHOWN = 3
"""Classes that are named of each method and held-out class."""


def kept_classes(results: Results, holdout: str) -> list[str]:
    """Return the classes that a network knows, in the order of its answers."""
    return [name for name in results.classes if name != holdout]


def taken_for_table(results: Results, scores: Scores) -> Table | None:
    """Return a row per held-out class with what its images are taken for; None without answers."""
    known = {pair: seeds for pair, seeds in scores.items() if all(each.answers is not None for each in seeds)}
    methods = [m for m in results.specification.methods if any(m == method for method, _ in known)]
    shown = [name for name in results.held_out if any(name == holdout for _, holdout in known)]
    if not shown:
        return None
    columns = [Column("held out", TEXT, "holdout"), *(Column(m, TEXT, f"{m}_taken_for") for m in methods)]
    rows = tuple(
        (name, *(_most(results, name, known[m, name]) if (m, name) in known else None for m in methods))
        for name in shown
    )
    n = results.specification.seeds
    seeds = f" over {counted(n, 'seed')}" if n > 1 else ""
    caption = f"The {SHOWN} kept classes that the held-out images are taken for most often{seeds}."
    return Table(tuple(columns), rows, caption, f"tab:{results.ledger.name}-taken-for")


def _most(results: Results, holdout: str, seeds: Sequence[Scored]) -> str:
    """Return the most frequent answers, such as "8 (31 of 74), 9 (20)"."""
    names = kept_classes(results, holdout)
    found = [each.answers.classes[each.is_anomaly] for each in seeds if each.answers is not None]
    counts = np.bincount(np.concatenate(found), minlength=len(names))
    order = np.argsort(-counts, kind="stable")[:SHOWN]
    parts = [f"{names[place]} ({counts[place]} of {counts.sum()})" for place in order if counts[place]]
    return ", ".join(parts)
