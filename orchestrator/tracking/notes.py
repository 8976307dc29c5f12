"""The note of an experiment in MLflow: what it holds, and a line for each of its sweeps; needs no MLflow.

A person may write into the note, too. Ours is what stands between two markers; the rest is left as it is.
"""

from __future__ import annotations

import re

from orchestrator.planning.cells import FINAL

BEGINS, ENDS = "<!-- sweeps: kept by the orchestrator -->", "<!-- end of sweeps -->"

LONGEST_NOTE = 5000
"""Characters that MLflow's databases take of an experiment's tag."""

_OURS = re.compile(f"{re.escape(BEGINS)}.*?(?:{re.escape(ENDS)}|$)", re.DOTALL)


def about(benchmark: str, phase: str) -> str:
    """Return what the experiment with a benchmark's cells of a phase holds, in Markdown."""
    if phase == FINAL:
        return (
            f"**{benchmark}**: a run for each final cell (a method, a held-out class, a seed), and one for "
            "each sweep with its report. The sweeps, newest first, each with its page:"
        )
    return (
        f"**{benchmark}-search**: a run for each cell by which hyperparameters were chosen, on validation "
        "images of the kept classes; none has a metric of test images. The sweeps, newest first, each with "
        "the page of its final cells:"
    )


def sweep_line(name: str, page: str, states: str, results: str) -> str:
    """Return a sweep's line in Markdown: its name, which leads to its page, its cells, and its results."""
    return f"- [**{name}**]({page}): {states}{f'. {results}' if results else ''}"


def with_line(note: str, said: str, name: str, line: str) -> str:
    """Return an experiment's note with a sweep's line, the first of all, and what is `said` before the lines.

    Lines of other sweeps stay; the last, which are the oldest, are left out where MLflow takes no more. A
    note in which a person left no room comes back as it is.
    """
    found = _OURS.search(note)
    kept = [] if found is None else [each for each in found[0].splitlines() if each.startswith("- [**")]
    lines = [line, *(each for each in kept if not each.startswith(f"- [**{name}**]"))]
    while lines:
        ours = "\n".join([BEGINS, said, "", *lines, "", ENDS])
        if found is None:
            new = f"{note}\n\n{ours}" if note else ours
        else:
            new = note[: found.start()] + ours + note[found.end() :]
        if len(new) <= LONGEST_NOTE:
            return new
        lines.pop()
    return note
