"""What a report says of a sweep, whatever the format: its tables and its sentences."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from orchestrator.cli.next_commands import resume_command, score_command, score_sets_command
from orchestrator.planning.cells import Cell
from orchestrator.planning.request import Request
from orchestrator.planning.versions import mixture
from orchestrator.reporting import search_sentences
from orchestrator.reporting import sentences as said
from orchestrator.reporting.costs import Cost, total
from orchestrator.reporting.detector_table import detector_tables
from orchestrator.reporting.findings import findings
from orchestrator.reporting.image_set_table import image_set_tables
from orchestrator.reporting.leak_check import Verdict
from orchestrator.reporting.main_table import main_tables
from orchestrator.reporting.noticed import Sureness, noticed_tables, sureness
from orchestrator.reporting.paper import Pair, Published, difference_tables, pair_with_paper, paper_tables
from orchestrator.reporting.results import BEGUN, DONE, Results
from orchestrator.reporting.scored import Scores, read_scored
from orchestrator.reporting.tables import Table
from orchestrator.reporting.taken_for import taken_for_table
from search_spaces.benchmark import Benchmark
from trainables.data.named_images import NamedImages
from trainables.mistake import counted

PAIRED = "mean difference, 95% bootstrap interval, p of Wilcoxon's signed-rank test, uncorrected"
"""What stands in brackets after a difference."""


@dataclass(frozen=True)
class Content:
    """What a report says of a sweep, whatever the format."""

    results: Results
    verdict: Verdict
    benchmark: Benchmark
    request: Request
    """Where and how the sweep ran, for the commands that the report names."""

    @property
    def sound(self) -> bool:
        """Whether the leak firewall held; if it did not, no number counts."""
        return self.verdict.holds

    @property
    def missing(self) -> list[Cell]:
        """The cells that are not done."""
        return [cell for cell, state in self.results.states.items() if state != DONE]

    @property
    def failed(self) -> dict[Cell, int]:
        """The cells that have begun and are not done, with their numbers of attempts."""
        return {
            cell: self.results.attempts(cell) for cell, state in self.results.states.items() if state == BEGUN
        }

    @cached_property
    def tables(self) -> tuple[list[Table], ...]:
        """The tables of the sweep's numbers: by held-out class, how sure, by detector, and of image sets."""
        found = self.results
        return (
            main_tables(found),
            noticed_tables(found, self.sureness),
            detector_tables(found),
            image_set_tables(found),
        )

    @cached_property
    def scores(self) -> Scores:
        """The scores of single test images."""
        return read_scored(self.results)

    @cached_property
    def sureness(self) -> list[Sureness]:
        """What the scores tell by method and held-out class."""
        return sureness(self.results, self.scores)

    @cached_property
    def findings(self) -> list[str]:
        """The verdict in words: what flags best, by how much, and what is no better than guessing."""
        return findings(self.results, self.sureness) if self.sound else []

    @property
    def sentences(self) -> list[str]:
        """What is missing, the verdict, problems with lambda, and departures from the paper."""
        return [
            *self.missing_sentences,
            self.verdict.sentence,
            *self.scoring_sentences,
            *self.search_sentences,
            *self.doubts,
            *self.departures,
            self.cost.sentence,
        ]

    @cached_property
    def missing_sentences(self) -> list[str]:
        """What is missing or damaged, with the commands that make it."""
        results, command = self.results, resume_command(self.request, self.results.ledger.name)
        return [
            said.missing(results, command),
            *said.damaged(results, command),
            *said.strangers(results),
            *said.lacking(results, self._score_command(results.incomplete)),
        ]

    @cached_property
    def scoring_sentences(self) -> list[str]:
        """What scores are missing or differ."""
        return [
            *said.image_sets(self.results, self._set_command),
            *said.edited(self.results, self._score_command),
        ]

    @cached_property
    def search_sentences(self) -> list[str]:
        """How what was searched was chosen, and how sure that is."""
        results = self.results
        return [
            *said.selection(results),
            *search_sentences.protocol(results.specification, self.benchmark),
            *search_sentences.certainty(results),
            *search_sentences.halving(results),
        ]

    @cached_property
    def doubts(self) -> list[str]:
        """Why numbers may mean little."""
        return [*said.nothing_learned(self.results), *mixture(self.results.stored.made)]

    @cached_property
    def departures(self) -> list[str]:
        """How the recipe departs from the paper's."""
        return said.recipe_departures(self.results, self.benchmark)

    @property
    def cost(self) -> Cost:
        """What the sweep took so far, lost work included."""
        return total(self.results.spent, self.request.price_per_gpu_hour)

    @cached_property
    def taken_for(self) -> Table | None:
        """What held-out images are taken for."""
        return taken_for_table(self.results, self.scores)

    @property
    def beside_paper(self) -> list[Table]:
        """Differences from the paper's numbers, and its tables with the sweep's beside."""
        return [*self.differences, *self.paper_tables]

    @cached_property
    def differences(self) -> list[Table]:
        """Ours minus the paper's."""
        return difference_tables(self.results, self._paired_with_paper[0])

    @cached_property
    def paper_tables(self) -> list[Table]:
        """The paper's tables with the sweep's numbers."""
        return paper_tables(self.results, self._paired_with_paper[0], self.benchmark)

    @cached_property
    def about_paper(self) -> str:
        """Which of the paper's numbers the sweep lacks."""
        return said.about_paper(self.results, self.benchmark, *self._paired_with_paper)

    @cached_property
    def comparisons(self) -> list[str]:
        """A sentence for each comparison with classification."""
        return said.comparisons(self.results)

    @property
    def head(self) -> str:
        """What was reported, and how far it is."""
        ledger, total = self.results.ledger, len(self.results.states)
        done = f"{total - len(self.missing)} of {counted(total, 'cell')} done"
        return f"Sweep {ledger.name} in {ledger.storage}: {done}"

    def _score_command(self, detectors: Iterable[str]) -> str:
        """Return the command that adds detectors to the finished cells."""
        return score_command(self.request, self.results.ledger.name, detectors)

    def _set_command(self, image_set: str) -> str:
        """Return the command that adds an image set to the finished cells."""
        asked = {each.name: each for each in self.results.asked_sets}
        named = asked.get(image_set, NamedImages(image_set, "PATH"))
        return score_sets_command(self.request, self.results.ledger.name, named)

    @cached_property
    def _paired_with_paper(self) -> tuple[list[Pair], list[Published]]:
        return pair_with_paper(self.results, self.benchmark)
