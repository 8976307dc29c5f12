"""A table of the paper: the sweeps that it needs, and the table as their ledgers have it so far."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from orchestrator.ledger.ledger import Ledger
from orchestrator.planning.cells import FINAL
from orchestrator.planning.request import Request
from orchestrator.planning.specification import PAPER, read_stored
from orchestrator.reporting.paper import (
    PAPER_SEEDS,
    Published,
    beside_ours,
    departures,
    found_in,
    network_of,
    of_table,
    published,
)
from orchestrator.reporting.results import Results, collect
from orchestrator.reporting.tables import Entry, to_markdown
from search_spaces import find_benchmark
from trainables.mistake import Mistake, counted, escaped, unknown
from trainables.run import NO_HOLDOUT, parse_method

AVERAGE, RANDOM = "average", "random"
"""What the paper's tables call the mean over the held-out classes, and the detector that knows nothing."""
EVERY_CLASS = ""


@dataclass(frozen=True)
class Part:
    """Numbers of a table that come from one sweep."""

    numbers: tuple[Published, ...]
    beside: str
    """What is scored: EVERY_CLASS in turn, NO_HOLDOUT for accuracy alone, or the name of an image set."""

    @property
    def benchmark(self) -> str:
        """The sweep's benchmark."""
        return self.numbers[0].benchmark

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods of its numbers."""
        return tuple(dict.fromkeys(n.method for n in self.numbers if n.method != RANDOM))

    @property
    def trains(self) -> bool:
        """Whether any of its methods trains a network."""
        return any(parse_method(method).trains for method in self.methods)

    @property
    def image_set(self) -> str | None:
        """The image set that it needs, if it needs one."""
        return None if self.beside in (EVERY_CLASS, NO_HOLDOUT) else self.beside

    def name(self, prefix: str) -> str:
        """Return the name of its sweep, which tables that can have cells in common share."""
        kind = network_of(self.numbers[0].table) if self.trains else "baselines"
        return "-".join(word for word in (prefix, self.benchmark, kind, self.beside) if word)


def tables() -> tuple[str, ...]:
    """Return the names of the paper's tables, in order."""
    return tuple(sorted({number.table for number in published()}))


def parts(table: str) -> list[Part]:
    """Return the parts of a table, one for each sweep."""
    found: dict[tuple[str, str], list[Published]] = {}
    for number in published():
        if number.table == table:
            found.setdefault((number.benchmark, _beside(number)), []).append(number)
    return [Part(tuple(numbers), beside) for (_, beside), numbers in found.items()]


def _beside(number: Published) -> str:
    classes = find_benchmark(number.benchmark).classes or ()
    return EVERY_CLASS if number.holdout in (AVERAGE, *classes) else number.holdout


def check_sets(table: str, words: Iterable[str]) -> None:
    """Raise Mistake for an image set NAME=PATH that is none of the table's."""
    names = [part.image_set for part in parts(table) if part.image_set]
    for word in words:
        if not names:
            raise Mistake(f"--ood {word} has no use: table {table} has no image sets; leave it out.")
        if word.partition("=")[0] not in names:
            raise unknown(f"image set in table {table}", word.partition("=")[0], names)


def request_of(part: Part, asked: Request, prefix: str) -> Request | None:
    """Return the sweep of a part under the paper's protocol; None if its image set was not named.

    `asked` says where and how it runs. A sweep that has more methods or seeds than the part needs keeps them.
    """
    sets = tuple(word for word in asked.ood if word.partition("=")[0] == part.image_set)
    if part.image_set is not None and not sets:
        return None
    if not sets:  # options of image sets have no use without any
        asked = dataclasses.replace(asked, ood_resize=None, crops_per_image=1, ood_seed=0)
    request = dataclasses.replace(
        asked,
        benchmark=part.benchmark,
        methods=part.methods,
        holdouts=() if part.beside == EVERY_CLASS else (NO_HOLDOUT,),
        seeds=asked.seeds if part.trains else 1,
        protocol=PAPER if part.trains else Request.protocol,
        executor=asked.executor if part.trains else "inline",
        ood=sets,
        name=part.name(prefix),
    )
    ledger = Ledger(request.storage, part.name(prefix))
    if not (ledger.exists() and ledger.begun()) or ledger.sweep_damage() is not None:
        return request
    there = read_stored(ledger).specification
    more = tuple(method for method in there.methods if method not in part.methods)
    return dataclasses.replace(request, methods=(*part.methods, *more), seeds=max(request.seeds, there.seeds))


def assembled(table: str, prefix: str, storage: str, failed: Mapping[str, str]) -> tuple[str, bool]:
    """Return a table with the paper's numbers and ours as Markdown, and whether all of ours are there.

    What is missing is named below it, with what `failed` says of a sweep, and where a recipe departs from the
    paper's.
    """
    entries: dict[Published, Entry] = {}
    missing, sweeps = [], []
    for part in parts(table):
        name = part.name(prefix)
        results = _results(storage, name)
        found = {number: _entry(results, number) for number in part.numbers}
        entries |= found
        lacking = [number for number, entry in found.items() if entry is None]
        why = f": {failed[name]}" if name in failed else ""
        if lacking:
            missing.append(f"- {_described(part, lacking)} ({_state(name, results)}{why})")
        elif _lacks_seeds(part, results):
            missing.append(f"- {part.benchmark}: some of the seeds ({_state(name, results)}{why})")
        elif name in failed:  # its numbers are there, and something about it is wrong
            missing.append(f"- {part.benchmark}: certainty, since the sweep did not end well{why}")
        if results is not None:
            sweeps.append(_about(name, results))
    caption = (
        f"The paper's table {table} beside ours, in percent: mean ± standard deviation over the seeds, "
        f"{PAPER_SEEDS} in the paper. A dash is a number that is missing."
    )
    in_order = {number: entries[number] for number in published() if number in entries}
    texts = [f"# Table {table}", to_markdown(beside_ours(in_order, caption, f"tab:paper-{table}"))]
    texts += ["\n".join(["## Missing", "", *missing])] if missing else []
    texts += ["\n".join(["## Sweeps", "", *sweeps])] if sweeps else []
    return "\n\n".join(texts) + "\n", not missing


def _results(storage: str, name: str) -> Results | None:
    """Return what a sweep has so far; None if there is none that can be read."""
    ledger = Ledger(storage, name)
    return collect(ledger) if ledger.exists() and ledger.sweep_damage() is None else None


def _entry(results: Results | None, number: Published) -> Entry:
    if results is None or not of_table(results.specification, find_benchmark(number.benchmark), number.table):
        return None
    return results.average_skew() if number.method == RANDOM else found_in(results, number)


def _lacks_seeds(part: Part, results: Results | None) -> bool:
    """Return whether a final cell of a part's methods is not done, so that some mean is over fewer seeds."""
    return results is not None and any(
        cell.phase == FINAL and cell.method in part.methods and cell.key not in results.done
        for cell in results.states
    )


def _described(part: Part, lacking: Sequence[Published]) -> str:
    """Return which numbers are missing: all of a part, or those of some methods and held-out classes."""
    if len(lacking) == len(part.numbers):
        beside = f" on {part.beside}" if part.image_set else ""
        return f"{part.benchmark}: all of {_listed(part.methods)}{beside}"
    by_method: dict[str, dict[str, None]] = {}
    for number in lacking:
        by_method.setdefault(number.method, {})[number.holdout] = None
    return f"{part.benchmark}: " + "; ".join(f"{m} ({_listed(of)})" for m, of in by_method.items())


def _state(name: str, results: Results | None) -> str:
    if results is None:
        return f"sweep {name} was not begun"
    return f"{len(results.done)} of {counted(len(results.states), 'cell')} of sweep {name} are done"


def _about(name: str, results: Results) -> str:
    """Return what a sweep is, and where it is not as the paper has it."""
    departing = departures(results.specification, find_benchmark(results.specification.benchmark))
    if results.specification.trained and results.specification.seeds != PAPER_SEEDS:
        departing.append(f"seeds {results.specification.seeds} (paper: {PAPER_SEEDS})")
    how = f"departs from the paper in {'; '.join(departing)}" if departing else "as the paper has it"
    return f"- {_state(name, results)}; {how}."


def _listed(names: Iterable[str]) -> str:
    return escaped(", ".join(names))
