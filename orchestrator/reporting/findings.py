"""A report's verdict in words: which method flags best, by how much, and what is no better than guessing."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.reporting.noticed import Sureness, add
from orchestrator.reporting.results import ACCURACY, OWN_AP, Results
from orchestrator.reporting.scored import label_of
from orchestrator.reporting.statistics import FEWEST, Comparison, compare, paired_differences
from trainables.mistake import counted
from trainables.run import NO_HOLDOUT, parse_method

NAMED = 8
"""Most classes in a list; it counts the others."""


def findings(results: Results, sure: Sequence[Sureness]) -> list[str]:
    """Return the verdict's sentences, on accuracy if no class is held out; none if no final cell is done."""
    if not results.finals:
        return []
    if not results.held_out:
        return _accuracies(results)
    return [*_best(results), *_guessing(results, sure), *_noticed(results, sure)]


def _accuracies(results: Results) -> list[str]:
    known = {m: results.estimate(m, NO_HOLDOUT, ACCURACY) for m in results.specification.trained}
    listed = [f"{method} {100 * found.mean:.2f}%" for method, found in known.items() if found is not None]
    return [f"Accuracy on the test images: {', '.join(listed)}."] if listed else []


def _best(results: Results) -> list[str]:
    """Return, for each detector, which method has the highest AP, and by how much."""
    found = []
    for title, metrics in results.ap_panels.items():
        ranked = sorted(
            ((average.mean, method) for method, metric in metrics.items()
             if (average := results.average(method, metric)) is not None),
            key=lambda pair: -pair[0],
        )  # fmt: skip
        if ranked:
            found.append(_ranking(results, title, metrics, [method for _, method in ranked]))
    if found:
        return found
    return ["No method is done with every held-out class yet, so nothing is said of which one flags best."]


def _ranking(results: Results, title: str, metrics: dict[str, str], ranked: list[str]) -> str:
    best, chance = ranked[0], results.average_skew()
    average = results.average(best, metrics[best])
    assert average is not None
    over = counted(len(results.held_out), "held-out class", "held-out classes")
    by = f"By {title}," if title != OWN_AP else f"By the score of what trains nothing ({title}),"
    guess = "" if chance is None else f"; guessing gives {100 * chance:.2f}%"
    if len(ranked) == 1:
        guess += _if_guessing(results, best, metrics[best])
        alone = "" if len(metrics) == 1 else " No other method is done with every held-out class yet."
        return f"{by} {best} has {100 * average.mean:.2f}% over {over}{guess}.{alone}"
    by_class = [results.by_class(method, metrics[method]) for method in ranked[:2]]
    lead = compare(paired_differences(*by_class).values())
    more = f"{abs(100 * lead.mean):.2f} points {'more' if lead.mean >= 0 else 'less'} than {ranked[1]}"
    more += " over the seeds that both have" if results.lacks_seeds else ""
    if lead.interval is None:
        return (
            f"{by} {best} has the highest mean, {100 * average.mean:.2f}% over {over}, {more}{guess}. "
            f"With fewer than {FEWEST} classes no interval is given, so this may be chance."
        )
    low, high = (f"{100 * bound:+.2f}" for bound in lead.interval)
    guess += _if_guessing(results, best, metrics[best])
    if not _above(lead):
        return (
            f"{by} no method is measurably the best: {best} has {100 * average.mean:.2f}% over "
            f"{over}, {more}, with a 95% interval of [{low}, {high}]{guess}."
        )
    return (
        f"{by} {best} flags held-out images best: {100 * average.mean:.2f}% over {over}, {more} "
        f"(95% interval [{low}, {high}]){guess}."
    )


def _if_guessing(results: Results, method: str, metric: str) -> str:
    """Return that a method is no better than guessing, where its interval over classes includes that."""
    chances = {name: results.skew(name) for name in results.held_out}
    values = results.by_class(method, metric)
    margins = [
        sum(values[name].values()) / len(values[name]) - chance
        for name, chance in chances.items()
        if chance is not None and name in values
    ]
    if len(margins) < FEWEST or _above(compare(margins)):
        return ""
    return ", so that it is no better than guessing"


def _above(comparison: Comparison) -> bool:
    return comparison.interval is not None and comparison.interval[0] > 0


def _guessing(results: Results, sure: Sequence[Sureness]) -> list[str]:
    """Return which classes a method flags no better than guessing, by the interval over test images."""
    known = [each for each in sure if each.ap is not None]
    if not known:
        return []
    guessed = [_guess(results, each) for each in known if each.guesses]
    if not guessed:
        whole = len(known) == len(results.specification.methods) * len(results.held_out)
        return ["Every held-out class is flagged better than guessing by every method."] if whole else []
    listed = "; ".join(guessed[:NAMED])
    more = f"; and {len(guessed) - NAMED} more" if len(guessed) > NAMED else ""
    return [
        "No better than guessing, since the 95% interval of AP does not lie above the share of anomalies: "
        f"{listed}{more}."
    ]


def _guess(results: Results, each: Sureness) -> str:
    assert each.ap is not None
    numbers = (each.ap.value, each.ap.low, each.ap.high, each.skew)
    value, low, high, skew = (f"{100 * number:.2f}" for number in numbers)
    label = label_of(results, each.method)
    return f"{label} with {each.holdout} held out ({value} [{low}, {high}], guessing gives {skew})"


def _noticed(results: Results, sure: Sequence[Sureness]) -> list[str]:
    """Return how many held-out images each method would notice at 5% false alarms, over all classes."""
    found = []
    for method in results.specification.methods:
        counts = [each.noticed for each in sure if each.method == method]
        if not counts:
            continue
        count = add(counts)
        seeds = results.specification.seeds_of(method) if parse_method(method).trains else 1
        each = ", each image counted once for each seed" if seeds > 1 else ""
        found.append(
            f"At 5% false alarms, {count.found} of {counted(count.of, 'held-out image')} would be noticed by "
            f"{label_of(results, method)}{each}."
        )
    return found
