"""How many held-out images would be noticed at few false alarms, and how sure a class's AP is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from orchestrator.reporting.main_table import WIDTH
from orchestrator.reporting.results import Results
from orchestrator.reporting.scored import Scored, Scores
from orchestrator.reporting.statistics import FEWEST, LEVEL
from orchestrator.reporting.tables import (
    CHANCE,
    COUNT,
    INTERVAL,
    TEXT,
    Chance,
    Column,
    Count,
    Entry,
    Interval,
    Table,
    to_text,
)
from trainables.metrics import average_precision
from trainables.mistake import counted
from trainables.run import parse_method

FALSE_ALARMS = 20
"""One of so many kept images may be flagged: 5%."""
RESAMPLES = 400
CHUNK = 4_000_000
"""Most numbers that are resampled at a time."""


@dataclass(frozen=True)
class Sureness:
    """A method's AP of a held-out class at the last evaluation, and what it notices at 5% false alarms."""

    method: str
    holdout: str
    skew: float
    ap: Interval | None
    """None with fewer held-out images than an interval is given for."""
    noticed: Count
    """Held-out images that are flagged, each counted once for each seed."""

    @property
    def guesses(self) -> bool:
        """Whether the interval includes the share of anomalies, or lies below it."""
        return self.ap is not None and self.ap.low <= self.skew


def sureness(results: Results, scores: Scores) -> list[Sureness]:
    """Return what the scores tell by method and held-out class, in the specification's order."""
    found = []
    for method in results.specification.methods:
        for holdout in results.held_out:
            seeds = scores.get((method, holdout))
            if seeds:
                skew = float(seeds[0].is_anomaly.mean())
                found.append(
                    Sureness(
                        method, holdout, skew, ap_interval(seeds), add([noticed(each) for each in seeds])
                    )
                )
    return found


def noticed(scored: Scored) -> Count:
    """Return how many held-out images score above all kept ones but a twentieth."""
    kept = np.sort(scored.kept)[::-1]
    threshold = kept[len(kept) // FALSE_ALARMS]
    return Count(int(np.count_nonzero(scored.held_out > threshold)), len(scored.held_out))


def add(counts: Sequence[Count]) -> Count:
    """Return the sum of counts."""
    return Count(sum(count.found for count in counts), sum(count.of for count in counts))


def ap_interval(seeds: Sequence[Scored]) -> Interval | None:
    """Return AP, the mean over seeds, with its 95% interval over test images.

    Kept and held-out images are resampled separately, the same for all seeds. Resampling repeats images,
    which raises AP; so the interval is the basic bootstrap's, which takes that back. Of random scores it lies
    above the share of anomalies in at most 1 of 100 draws, a percentile interval in 10 to 18. None with
    fewer than FEWEST held-out images, or if seeds do not have the same images.
    """
    is_anomaly = seeds[0].is_anomaly
    alike = all(np.array_equal(each.is_anomaly, is_anomaly) for each in seeds)
    if int(is_anomaly.sum()) < FEWEST or not alike:
        return None
    ap = float(np.mean([average_precision(each.scores, is_anomaly) for each in seeds]))
    draws, ranked = np.random.default_rng(0), [_Ranked.of(each) for each in seeds]
    again: list[float] = []
    while len(again) < RESAMPLES:
        count = min(RESAMPLES - len(again), max(1, CHUNK // len(is_anomaly)))
        weights = _resampled(draws, is_anomaly, count)
        again += list(np.mean([each.ap(weights) for each in ranked], axis=0))
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.percentile(again, [tail, 100 - tail])
    return Interval(ap, max(0.0, 2 * ap - float(high)), min(1.0, 2 * ap - float(low)))


def _resampled(draws: np.random.Generator, is_anomaly: np.ndarray, count: int) -> np.ndarray:
    """Return how often each image is drawn, (count, n): as many kept and held-out ones as there are."""
    weights = np.empty((count, len(is_anomaly)), np.float32)
    for part in (is_anomaly, ~is_anomaly):
        n = int(part.sum())
        drawn = draws.integers(0, n, (count, n)) + n * np.arange(count)[:, None]
        weights[:, part] = np.bincount(drawn.ravel(), minlength=count * n).reshape(count, n)
    return weights


@dataclass(frozen=True)
class _Ranked:
    """Images from the highest score on, in runs that end with the equal scores of some held-out image."""

    order: np.ndarray
    starts: np.ndarray
    """Where each run begins."""
    is_anomaly: np.ndarray

    @staticmethod
    def of(scored: Scored) -> _Ranked:
        order = np.argsort(-scored.scores, kind="stable")
        ranked, is_anomaly = scored.scores[order], scored.is_anomaly[order]
        last_of_tie = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))
        hits = np.diff(np.cumsum(is_anomaly)[last_of_tie], prepend=0)
        ends = last_of_tie[hits > 0]
        length = int(ends[-1]) + 1  # what is ranked lower than all held-out images does not count
        starts = np.append(0, ends[:-1] + 1)
        return _Ranked(order[:length], starts, is_anomaly[:length])

    def ap(self, weights: np.ndarray) -> np.ndarray:
        """Return AP with images repeated by their weights (count, n); equal scores are one threshold."""
        drawn = weights[:, self.order]
        flagged = np.cumsum(np.add.reduceat(drawn, self.starts, axis=1), axis=1)
        gains = np.add.reduceat(drawn * self.is_anomaly, self.starts, axis=1)
        hits = np.cumsum(gains, axis=1)
        return np.asarray(np.sum(hits / np.maximum(flagged, 1) * gains, axis=1) / hits[:, -1], np.float64)


def noticed_tables(results: Results, found: Sequence[Sureness]) -> list[Table]:
    """Return a row per held-out class in one table or, if that is too wide, in one per method."""
    methods = list(dict.fromkeys(each.method for each in found))
    if not methods:
        return []
    whole = noticed_table(results, found)
    if max(map(len, to_text(whole).splitlines())) <= WIDTH:
        return [whole]
    return [_table(results, found, [method], f"noticed-{method}") for method in methods]


def noticed_table(results: Results, found: Sequence[Sureness]) -> Table:
    """Return a row per held-out class in one table of any width, for files."""
    return _table(results, found, list(dict.fromkeys(each.method for each in found)), "noticed")


def _table(results: Results, found: Sequence[Sureness], methods: list[str], kind: str) -> Table:
    by_pair = {(each.method, each.holdout): each for each in found}
    shown = [name for name in results.held_out if any((method, name) in by_pair for method in methods)]
    columns = [Column("held out", TEXT, "holdout"), Column("random AP", CHANCE, "random_ap")]
    skews = {each.holdout: each.skew for each in found}
    entries: list[list[Entry]] = [
        list(shown),
        [Chance(skews[name], results.positives(name)) for name in shown],
    ]
    for method in methods:
        title = f"AP-{results.detectors[0].label}" if parse_method(method).trains else "AP"
        columns.append(Column(title, INTERVAL, f"{method}_ap", method))
        columns.append(Column("noticed", COUNT, f"{method}_noticed", method))
        known = [by_pair.get((method, name)) for name in shown]
        entries.append([None if each is None else each.ap for each in known])
        entries.append([None if each is None else each.noticed for each in known])
    rows = tuple(zip(*entries, strict=True))
    return Table(tuple(columns), rows, _caption(results), f"tab:{results.ledger.name}-{kind}")


def _caption(results: Results) -> str:
    n = results.specification.seeds
    seeds = f", over {counted(n, 'seed')}" if n > 1 and results.specification.trained else ""
    each = ", each image counted once for each seed" if seeds else ""
    return (
        f"AP at the last evaluation{seeds}, in percent, with its 95% bootstrap interval over test images; "
        "random AP, with the number of held-out images in brackets; and how many of these would be noticed "
        f"at 5% false alarms{each}."
    )
