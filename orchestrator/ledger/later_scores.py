"""What detectors and image sets that came later add to a final cell's result, which is not rewritten."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.ledger.ledger import SCORES
from trainables.detectors import DEFAULT_DETECTORS

Result = Mapping[str, Any]
"""A cell's result.json, or the record of a later detector."""


def scored_by(result: Result) -> dict[str, str | None]:
    """Return the detectors of a cell's own result, with the digest of each one's source.

    Version 0.1 wrote down neither: it had the default detectors, whose source then is not known.
    """
    if "detectors" in result:
        return dict(result["detectors"])
    prefix, suffix = "final/ap_", "_last"
    metrics = [name for name in result["values"] if name.startswith(prefix) and name.endswith(suffix)]
    known = (name.removeprefix(prefix).removesuffix(suffix) for name in metrics)
    return dict.fromkeys([*DEFAULT_DETECTORS, *known])


def counted_later(result: Result, later: Mapping[str, Result]) -> dict[str, Result]:
    """Return the later records that count: of detectors that the result lacks or has from another source.

    A cell that lost its result is trained again; records of the network before that, which state other
    scores, do not count.
    """
    own = scored_by(result)
    return {
        name: record
        for name, record in counted_sets(result, later).items()
        if name not in own or own[name] not in (None, record["source"])
    }


def counted_sets(result: Result, later: Mapping[str, Result]) -> dict[str, Result]:
    """Return the records of image sets that were scored later and count: those of the result's network."""
    scores = result.get("checksums", {}).get(SCORES)
    return {name: record for name, record in later.items() if record.get("of", scores) == scores}


def sources(result: Result, later: Mapping[str, Result]) -> dict[str, str | None]:
    """Return the source that each detector's values of a cell are from; None if it is not known."""
    counting = counted_later(result, later)
    return scored_by(result) | {name: record["source"] for name, record in counting.items()}


def own_values(result: Result, later: Mapping[str, Result]) -> dict[str, float]:
    """Return a result's values without those of detectors that count from later records."""
    replaced = {metric for name in later for metric in _metrics(name)}
    return {name: value for name, value in result["values"].items() if name not in replaced}


def with_later(result: Result, later: Mapping[str, Result]) -> dict[str, float]:
    """Return a result's values with those of later records that count."""
    values = own_values(result, later)
    for record in later.values():
        values |= record["metrics"]
    return values


def with_sets(values: Mapping[str, float], sets: Mapping[str, Result]) -> dict[str, float]:
    """Return a cell's values with those of image sets that were scored later instead of its own of them."""
    added = {name: value for record in sets.values() for name, value in record["metrics"].items()}
    return {**without_sets(values, sets), **added}


def without_sets(values: Mapping[str, float], sets: Mapping[str, Result]) -> dict[str, float]:
    """Return a cell's values without those of image sets that were scored later."""
    replaced = tuple(f"ood/{name}/" for name in sets)
    return {name: value for name, value in values.items() if not name.startswith(replaced)}


def curves_with_later(rows: list[dict[str, Any]], later: Mapping[str, Result]) -> list[dict[str, Any]]:
    """Return a cell's curves with the AP of later records that count, at the epochs that they have."""
    added = {f"ap/{name}": record["by_epoch"] for name, record in later.items()}
    return [
        {**row, **{metric: by_epoch.get(str(row["epoch"])) for metric, by_epoch in added.items()}}
        for row in rows
    ]


def _metrics(detector: str) -> tuple[str, ...]:
    """Return the names of a detector's values in a result."""
    ap = f"final/ap_{detector}"
    return ap, f"{ap}_last", f"final/auroc_{detector}", f"final/fpr95_{detector}"
