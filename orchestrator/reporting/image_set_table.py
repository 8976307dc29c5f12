"""The table of image sets: how well each method tells each set from the test images of the kept classes."""

from __future__ import annotations

from orchestrator.planning.dry_run import describe_network
from orchestrator.reporting.main_table import WIDTH, about_untrained
from orchestrator.reporting.results import Results
from orchestrator.reporting.tables import ESTIMATE, SHARE, TEXT, Column, Entry, Table, to_text
from trainables.run import parse_method


def image_set_tables(results: Results) -> list[Table]:
    """Return a row per image set in one table or, if that is too wide, in one table per method."""
    if not results.image_sets:
        return []
    whole = wide_image_set_table(results)
    if max(map(len, to_text(whole).splitlines())) <= WIDTH:
        return [whole]
    return [_table(results, (method,), f"image-sets-{method}") for method in results.specification.methods]


def wide_image_set_table(results: Results) -> Table:
    """Return a row per image set in one table of any width, for files."""
    return _table(results, results.specification.methods, "image-sets")


def _table(results: Results, methods: tuple[str, ...], label: str) -> Table:
    columns = [Column("image set", TEXT, "image_set"), Column("random AP", SHARE, "random_ap")]
    entries: list[list[Entry]] = [list(results.image_sets), [_skew(results, s) for s in results.image_sets]]
    for method in methods:
        kind = ESTIMATE if parse_method(method).trains else SHARE
        for detector, title in results.detectors_of(method).items():
            columns.append(Column(title, kind, f"{method}_ap_{detector}", method))
            found = [results.beside(method, f"ood/{s}/ap_{detector}") for s in results.image_sets]
            entries.append([e if e is None or kind == ESTIMATE else e.mean for e in found])
    return Table(
        tuple(columns),
        tuple(zip(*entries, strict=True)),
        _caption(results),
        f"tab:{results.ledger.name}-{label}",
        full=results.specification.seeds,
    )


def _caption(results: Results) -> str:
    specification = results.specification
    parts = [
        f"{specification.benchmark}, {describe_network(specification)}: AP of image sets, whose images are "
        "the positives, beside the test images of the kept classes, at the last evaluation, in percent."
    ]
    if len(specification.holdouts) > 1:
        parts.append(f"Each seed's value is the mean over the {len(specification.holdouts)} holdouts.")
    if specification.trained and specification.seeds > 1:
        parts.append(f"Mean ± standard deviation (ddof = 1) over n = {specification.seeds} seeds.")
    parts.append("Random AP is the share of the set's images.")
    return " ".join([*parts, *([] if results.held_out else about_untrained(specification))])


def _skew(results: Results, image_set: str) -> Entry:
    """Return the set's share of the images, the mean over the held-out classes."""
    for method in results.specification.methods:
        found = results.beside(method, f"ood/{image_set}/skew")
        if found is not None:
            return found.mean
    return None
