"""A report's sentences: what is missing, problems in the choice of lambda, and comparisons."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from orchestrator.planning.cells import Cell
from orchestrator.planning.hyperparameters import Hyperparameters
from orchestrator.reporting.collapse import collapsed
from orchestrator.reporting.paper import Pair, Published, comparable, departures, describe_absent
from orchestrator.reporting.results import (
    AT_RUNG,
    BASELINE,
    BEGUN,
    BLOCKED,
    DONE,
    NOT_BEGUN,
    Results,
    Selection,
)
from orchestrator.reporting.statistics import compare, describe_comparison
from search_spaces.benchmark import Benchmark
from trainables.mistake import counted
from trainables.run import parse_method

NAMED = 8
"""Most names in a list; it counts the others."""


def missing(results: Results, command: str) -> str:
    """Return which cells are not done, with the command that resumes the sweep."""
    lists: dict[str, list[str]] = {BEGUN: [], AT_RUNG: [], BLOCKED: [], NOT_BEGUN: []}
    for cell, state in results.states.items():
        if state != DONE:
            lists[state].append(_with_attempts(results, cell))
    count = sum(map(len, lists.values()))
    if not count:
        all_cells = "the one cell is" if len(results.states) == 1 else f"all {len(results.states)} cells are"
        return f"Missing: nothing; {all_cells} done."
    words = {
        BEGUN: "begun without a result (failed, or still running)",
        AT_RUNG: "at a rung, where they wait for others",
        BLOCKED: "blocked by a search that is not complete",
        NOT_BEGUN: "not begun",
    }
    parts = [f"{len(names)} {words[state]}: {_listed(names)}" for state, names in lists.items() if names]
    return f"Missing: {counted(count, 'cell')}; {'; '.join(parts)}. Go on with: {command}"


def damaged(results: Results, command: str) -> list[str]:
    """Return which files are damaged, with the command that makes them again; else nothing."""
    if not results.damaged:
        return []
    names = _listed([each.sentence for each in results.damaged])
    return [f"Damaged: {names}. These cells do not count; run them again with: {command}"]


def strangers(results: Results) -> list[str]:
    """Return a warning of cells in the ledger that are none of those that sweep.json describes."""
    if not results.strangers:
        return []
    return [
        f"WARNING: left out, since they are none of the sweep that sweep.json describes: "
        f"{counted(len(results.strangers), 'cell')} in its folder ({_listed(results.strangers)}). Was "
        "sweep.json edited, or were cells copied there? Restore the file from a copy, or move them away."
    ]


def kept_files(results: Results) -> str:
    """Return why the report's files must not take the place of those that are there, empty if they may."""
    if results.strangers:
        return "they would leave out cells that are in the ledger"
    return (
        "" if results.done or not results.ledger.has_report() else "no cell is done, so they would be empty"
    )


def lacking(results: Results, command: str) -> list[str]:
    """Return which detectors some finished cells lack, with the command that adds them; else nothing."""
    if not results.incomplete:
        return []
    names = [f"{name} in {counted(count, 'cell')}" for name, count in results.incomplete.items()]
    return [f"Detectors that finished cells lack: {_listed(names)}. Add them with: {command}"]


def edited(results: Results, command: Callable[[list[str]], str]) -> list[str]:
    """Return a warning of detectors that were edited between cells, with the command that mends it."""
    if not results.edited:
        return []
    return [
        f"WARNING: edited between cells: {', '.join(results.edited)}, so their numbers are of several "
        f"sources. Score every cell by one: {command(results.edited)}"
    ]


def selection(results: Results) -> list[str]:
    """Return warnings of final cells whose lambda is not the chosen or given one, and of diverged cells."""
    odd = [_disagreement(study) for study in results.selections if study.disagrees] + _not_as_given(results)
    found = []
    if odd:
        found.append(f"WARNING: lambda is not what it should be: {_listed(odd, '; ')}.")
    diverged = sum(bool(result["values"].get("diverged")) for result in results.searched.values())
    if diverged:
        found.append(f"Diverged: {counted(diverged, 'search cell')}; a diverged cell's accuracy counts as 0.")
    return found


def nothing_learned(results: Results) -> list[str]:
    """Return a warning of cells whose network learned nothing, else nothing."""
    found = collapsed(results)
    if not found:
        return []
    named = _listed([f"{each.label} ({each.sign})" for each in found])
    return [
        f"WARNING: {counted(len(found), 'final cell')} learned nothing, so the numbers mean nothing: "
        f"{named}. A smaller learning_rate or more epochs may help."
    ]


def image_sets(results: Results, command: Callable[[str], str]) -> list[str]:
    """Return which image sets some finished cells lack, with the command that adds each, and which differ."""
    found = []
    for name in results.image_sets:
        lacks = sum(final.value(f"ood/{name}/skew") is None for final in results.finals)
        if lacks:
            of = f"{lacks} of {counted(len(results.finals), 'finished final cell')}"
            found.append(f"Image set {name}: no scores of it by {of}. Add them with: {command(name)}")
        opened = [each for about in results.cell_files.values() for each in about.get("image_sets", ())]
        opened += [each["image_set"] for final in results.finals for each in final.later_sets.values()]
        if len({each["digest"] for each in opened if each["name"] == name}) > 1:
            found.append(f"WARNING: the image set {name} was not the same images in all cells.")
    return found


def recipe_departures(results: Results, benchmark: Benchmark) -> list[str]:
    """Return a warning if the recipe is not the paper's, else nothing."""
    listed = departures(results.specification, benchmark)
    if not listed:
        return []
    return [
        f"WARNING: the recipe departs from the paper's, which may explain differences from its numbers: "
        f"{'; '.join(listed)}."
    ]


def comparisons(results: Results) -> list[str]:
    """Return a sentence per metric that compares each other method with classification."""
    methods = results.specification.methods
    if BASELINE not in methods or not results.held_out:
        return []
    sentences = []
    for method in methods:
        if method == BASELINE:
            continue
        for metric, title in results.metrics_of(method).items():
            if not parse_method(method).trains:
                title = f"{title} (beside classification's {next(iter(results.aps.values()))})"
            differences = results.differences(method, metric)
            if differences:
                sentences.append(describe_comparison(method, title, compare(differences.values())))
            else:
                sentences.append(f"{method}, {title}: no class and seed is done with both methods yet.")
    return sentences


def about_paper(
    results: Results, benchmark: Benchmark, pairs: Sequence[Pair], absent: Sequence[Published]
) -> str:
    """Return why the sweep is not compared with the paper, or which of its numbers it lacks; else nothing."""
    if not benchmark.paper_tables:
        return ""
    if not comparable(results.specification, benchmark):
        return f"Beside the paper: it has no numbers for {benchmark.name} with this network."
    nothing = "" if pairs else "Beside the paper: this sweep has none of its numbers yet. "
    listed = describe_absent(results, absent)
    return nothing + (f"The paper's numbers that this sweep lacks: {listed}." if listed else "")


def _disagreement(study: Selection) -> str:
    used = " and ".join(map(str, study.recorded))
    chosen = "nothing, being incomplete" if study.chosen is None else str(study.chosen)
    return f"final cells of {study.study.label} were trained with {used}, its search chooses {chosen}"


def _not_as_given(results: Results) -> list[str]:
    """Return the final cells that were not trained with the weights that were given."""
    found = []
    for final in results.finals:
        expected = results.specification.given_weights(final.cell.method)
        if expected is not None and final.what.aux_weights != expected:
            used, wanted = Hyperparameters(final.what.aux_weights), Hyperparameters(expected)
            found.append(f"{final.cell.label} was trained with {used}, given was {wanted}")
    return found


def _with_attempts(results: Results, cell: Cell) -> str:
    attempts = results.attempts(cell)
    return f"{cell.label} ({attempts} attempts)" if attempts > 1 else cell.label


def _listed(names: Sequence[str], between: str = ", ") -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return between.join(names[:NAMED]) + more
