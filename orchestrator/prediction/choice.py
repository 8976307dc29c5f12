"""Which final cell's network looks at new images."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.cli.next_commands import keep_weights_command, resume_command
from orchestrator.cli.predict_options import PredictRequest
from orchestrator.execution.later_scores import LaterScoring
from orchestrator.ledger.ledger import Ledger
from orchestrator.planning.cells import Cell
from orchestrator.planning.hyperparameters import Hyperparameters
from orchestrator.planning.specification import Specification, StoredSweep
from orchestrator.reporting.results import ACCURACY, Results, collect
from trainables.mistake import Mistake, unknown
from trainables.run import NO_HOLDOUT


def choose_cell(request: PredictRequest, ledger: Ledger, stored: StoredSweep, scoring: LaterScoring) -> Cell:
    """Return the cell that the request names or, where it does not, the best; raise Mistake for none."""
    wanted = stored.specification
    if not wanted.trained:
        raise Mistake(f"No method of the sweep {ledger.name!r} trains a network, which predictions need.")
    holdout = _holdout(request, wanted)
    if request.method is not None:
        if request.method not in wanted.trained:
            raise unknown("method that trained a network", request.method, wanted.trained)
        methods: Sequence[str] = (request.method,)
    else:
        methods = [m for m in wanted.trained if any(c.holdout == holdout for c in _of(scoring, m))]
    method = methods[0] if len(methods) == 1 else _best(methods, request.detector, ledger)
    there = [cell for cell in _of(scoring, method) if cell.holdout == holdout]
    if request.seed is not None:
        there = [cell for cell in there if cell.seed == request.seed] or _refused(request, there)
    if not there:
        raise Mistake(
            f"No cell of {method or 'a method that trains'} with the holdout {holdout} is finished in the "
            f"sweep {ledger.name!r}; go on with it first: {resume_command(request.places, ledger.name)}"
        )
    return _with_weights(there, ledger.name, stored, scoring)


def _of(scoring: LaterScoring, method: str) -> list[Cell]:
    return [cell for cell in scoring.finished if cell.method == method]


def _holdout(request: PredictRequest, wanted: Specification) -> str:
    listed = ", ".join(wanted.holdouts)
    if request.holdout is None:
        if NO_HOLDOUT in wanted.holdouts:
            return NO_HOLDOUT
        raise Mistake(
            f"Every network of the sweep {request.name!r} was trained without one of the classes: say with "
            f"--holdout which one may be missing, out of {listed}, or sweep --holdouts {NO_HOLDOUT}, too."
        )
    if request.holdout not in wanted.holdouts:
        raise unknown(f"holdout in the sweep {request.name!r} called", request.holdout, wanted.holdouts)
    return request.holdout


def _best(methods: Sequence[str], detector: str, ledger: Ledger) -> str:
    """Return the method with the best report: the mean AP by the detector or, without AP, the accuracy.

    The first one, "" without any, if none has what the others could be compared with.
    """
    if not methods:
        return ""
    results = collect(ledger)
    found = {method: _reported(results, method, detector) for method in methods}
    return max(methods, key=lambda method: found[method])


def _reported(results: Results, method: str, detector: str) -> float:
    if not results.held_out:
        found = results.estimate(method, NO_HOLDOUT, ACCURACY)
    else:
        own = [metric for metric in results.aps if metric in (f"ap_{detector}", f"ap_{detector}_last")]
        found = results.average(method, (own or list(results.aps))[0])
    return -1.0 if found is None else found.mean


def _refused(request: PredictRequest, there: Sequence[Cell]) -> list[Cell]:
    """Raise Mistake for a seed of which no cell is finished, if those of others are."""
    if there:
        seeds = ", ".join(str(cell.seed) for cell in there)
        raise Mistake(
            f"{there[0].method} with the holdout {there[0].holdout} has no finished cell of seed "
            f"{request.seed} in the sweep {request.name!r}: give --seed out of {seeds}."
        )
    return []


def _with_weights(there: Sequence[Cell], name: str, stored: StoredSweep, scoring: LaterScoring) -> Cell:
    """Return the cell with the lowest seed that kept its weights; raise Mistake if none did."""
    kept = [cell for cell in there if scoring.results[cell.key].get("weights")]
    if kept:
        return min(kept, key=lambda cell: cell.seed)
    cell = min(there, key=lambda cell: cell.seed)
    found = Hyperparameters.of(scoring.results[cell.key])
    raise Mistake(
        f"The sweep {name!r} kept no weights of {cell.label} (version 0.1 kept none, nor does "
        "keep_weights=false), so there is no network to use: train it again, in a sweep that keeps them: "
        f"{keep_weights_command(cell, stored, found, name)}"
    )
