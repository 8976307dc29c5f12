"""The table of detectors: a row for each, with averages over the held-out classes by method."""

from __future__ import annotations

from orchestrator.reporting.main_table import WIDTH
from orchestrator.reporting.results import LAST, Results
from orchestrator.reporting.tables import ESTIMATE, TEXT, Column, Entry, Table, to_text
from trainables.run import parse_method

FEW = 2
"""Detectors that the main table shows well enough."""
BESIDE_AP = {"auroc": "AUROC", "fpr95": "FPR95"}


def detector_tables(results: Results) -> list[Table]:
    """Return the detectors' AP, AUROC and FPR at 95% TPR in one table, or in one per method if that is wide.

    None if there are few of them.
    """
    methods = [m for m in results.specification.methods if parse_method(m).trains]
    if len(results.aps) <= FEW or not methods or not results.held_out:
        return []
    whole = _table(results, methods, "detectors")
    if max(map(len, to_text(whole).splitlines())) <= WIDTH:
        return [whole]
    return [_table(results, [method], f"detectors-{method}") for method in methods]


def _table(results: Results, methods: list[str], kind: str) -> Table:
    columns, entries = [Column("detector", TEXT, "detector")], [_labels(results)]
    for method in methods:
        columns.append(Column("AP", ESTIMATE, f"{method}_ap", method))
        entries.append([results.average(method, metric) for metric in results.aps])
        for metric, title in BESIDE_AP.items():
            columns.append(Column(title, ESTIMATE, f"{method}_{metric}", method))
            entries.append([results.average(method, f"{metric}_{d.name}") for d in results.detectors])
    return Table(
        columns=tuple(columns),
        rows=tuple(zip(*entries, strict=True)),
        caption=_caption(results),
        label=f"tab:{results.ledger.name}-{kind}",
        full=results.specification.seeds,
    )


def _labels(results: Results) -> list[Entry]:
    return [title.removeprefix("AP-") for title in results.aps.values()]


def _caption(results: Results) -> str:
    n, seeds = len(results.held_out), results.specification.seeds
    over = "the held-out class" if n == 1 else f"averages over {n} held-out classes"
    spread = f", ± the standard deviation over {seeds} seeds" if seeds > 1 else ""
    return (
        f"{results.specification.benchmark}: {over}, in percent{spread}. AUROC, and FPR at 95% TPR (less is "
        f"better), are of the last evaluation; so is AP where the detector is marked{LAST}."
    )
