"""A sweep's studies as a journal of Optuna's, written from the ledger for optuna-dashboard and others."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from orchestrator.ledger import attempts
from orchestrator.ledger.ledger import THREADS, Ledger
from orchestrator.planning.cells import Cell
from orchestrator.planning.hyperparameters import Hyperparameters
from orchestrator.planning.studies import distributions_of, mean_value, parameters
from orchestrator.reporting.results import Results, Selection

if TYPE_CHECKING:
    import optuna

JOURNAL = "studies.journal"

Curves = Mapping[str, Mapping[int, float]]
"""By cell's key and epoch, validation accuracies."""


def studies_journal(results: Results) -> bytes | None:
    """Return the journal's bytes, lines of JSON; None if nothing of a study has begun.

    A study is called METHOD/HOLDOUT. A trial is a search index: complete, pruned at a rung, failed in its
    last attempt, or still running. Its value and its intermediate values, by epoch, are means over its cells,
    which its user attributes name.
    """
    begun = [s for s in results.selections if any(c.key in results.cell_files for c in _cells(s))]
    if not begun:
        return None
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import BaseJournalBackend

    class Lines(BaseJournalBackend):
        """A journal in memory."""

        def __init__(self) -> None:
            self.logs: list[dict[str, Any]] = []

        def read_logs(self, log_number_from: int) -> Iterable[dict[str, Any]]:
            return list(self.logs[log_number_from:])

        def append_logs(self, logs: list[dict[str, Any]]) -> None:
            self.logs += [json.loads(json.dumps(log)) for log in logs]

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    lines, curves = Lines(), _curves(results, begun)
    storage = JournalStorage(lines)
    for selection in begun:
        study = optuna.create_study(storage=storage, study_name=selection.study.label, direction="maximize")
        for name, value in _about(results, selection).items():
            study.set_user_attr(name, value)
        for index in range(len(selection.study.searches)):
            trial = _trial(results, selection, index, curves)
            if trial is not None:
                study.add_trial(trial)
    return b"".join(json.dumps(log, separators=(",", ":")).encode() + b"\n" for log in lines.logs)


def _about(results: Results, selection: Selection) -> dict[str, Any]:
    """Return a study's user attributes."""
    definition = selection.study.definition
    about: dict[str, Any] = {
        "sweep": results.ledger.name,
        "method": definition.method,
        "holdouts": list(definition.holdouts),
        "spaces": {name: str(space) for name, space in definition.dimensions},
    }
    if selection.chosen is not None:
        about["chosen"] = parameters(definition, selection.chosen)
    return about


def _trial(
    results: Results, selection: Selection, index: int, curves: Curves
) -> optuna.trial.FrozenTrial | None:
    """Return a search index as a trial; None if none of its cells has begun."""
    from optuna.trial import FrozenTrial

    row, definition = selection.study.searches[index], selection.study.definition
    begun = [cell for cell in row if cell.key in results.cell_files]
    what = _what(results, begun)
    if what is None:
        return None
    params = parameters(definition, what)
    done = [results.searched[cell.key] for cell in row if cell.key in results.searched]
    complete = len(done) == len(row)
    value = mean_value(row, [float(each["values"]["value"]) for each in done])[0] if complete else None
    began, ended, seconds = _time_of(results, begun)
    state = _state(results, row, done, stopped=index in selection.stopped)
    epochs = set.intersection(*(set(curves.get(cell.key, {})) for cell in row))
    between = {e: mean_value(row, [curves[cell.key][e] for cell in row])[0] for e in sorted(epochs)}
    return FrozenTrial(
        number=index,
        state=state,
        value=value,
        datetime_start=_moment(began),
        datetime_complete=_moment(ended) if state.is_finished() else None,
        params=params,
        distributions={name: d for name, d in distributions_of(definition).items() if name in params},
        user_attrs={
            "search_index": index,
            "method": definition.method,
            "holdout": " ".join(dict.fromkeys(cell.holdout for cell in row)),
            "cell": " ".join(cell.key for cell in row),
            "seconds": seconds,
            "diverged": any(each["values"].get("diverged") for each in done),
        },
        system_attrs={},
        intermediate_values=between,
        trial_id=index,
    )


def _time_of(results: Results, cells: Iterable[Cell]) -> tuple[float, float, float]:
    """Return when the first attempt at some cells began, when the last ended, and the seconds of all."""
    spans = []
    for cell in cells:
        known = results.records.get(cell.key, ())
        spans += [(record["started"], record["ended"] or record["started"]) for record in known]
        if not known and cell.key in results.searched:  # by version 0.1
            last = results.searched[cell.key]["attempt"]
            spans.append((last["finished_at"] - last["seconds"], last["finished_at"]))
    first, last = min((start for start, _ in spans), default=0.0), max((end for _, end in spans), default=0.0)
    return first, last, sum(end - start for start, end in spans)


def _state(
    results: Results, row: Iterable[Cell], done: list[Mapping[str, Any]], *, stopped: bool
) -> optuna.trial.TrialState:
    from optuna.trial import TrialState

    if stopped:
        return TrialState.PRUNED
    left = [cell for cell in row if cell.key not in results.searched]
    if not left:
        return TrialState.COMPLETE
    endings = [records[-1]["ending"] for cell in left if (records := results.records.get(cell.key))]
    return TrialState.FAIL if attempts.FAILED in endings else TrialState.RUNNING


def _what(results: Results, begun: Iterable[Cell]) -> Hyperparameters | None:
    """Return what cells that have begun are trained with, by result.json or else by cell.json."""
    for cell in begun:
        if cell.key in results.searched:
            return Hyperparameters.of(results.searched[cell.key])
        run = results.cell_files[cell.key].get("run", {})
        recipe = run.get("recipe", {})
        if "aux_weights" in run:
            fields = {name: recipe[name] for name in results.specification.search if name in recipe}
            return Hyperparameters(run["aux_weights"], fields)
    return None


def _curves(results: Results, selections: Iterable[Selection]) -> Curves:
    """Return the validation accuracies of all search cells that have begun, read by many threads."""
    keys = [c.key for s in selections for c in _cells(s) if c.key in results.cell_files]
    with ThreadPoolExecutor(THREADS) as pool:
        found = pool.map(lambda key: _validated(results.ledger, key), keys)
        return dict(zip(keys, found, strict=True))


def _validated(ledger: Ledger, key: str) -> dict[int, float]:
    rows = ledger.read_curves(key)
    return {int(row["epoch"]): row["val/accuracy"] for row in rows if row.get("val/accuracy") is not None}


def _cells(selection: Selection) -> list[Cell]:
    return [cell for row in selection.study.searches for cell in row]


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
