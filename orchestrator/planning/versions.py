"""The versions under which a sweep's cells were made, and what may differ if it goes on under others.

Packages that only read images do not count: what they read is in the data's fingerprint, which has to be the
same. Nor do those that schedule and record.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence

from orchestrator.ledger.provenance import PROJECT, Made
from orchestrator.planning.cells import Cells, Study
from trainables.mistake import Mistake, counted

ARITHMETIC = ("torch", "numpy")
"""Packages that compute what is reported."""
SAMPLER = "optuna"

SAME_NUMBERS_SINCE = "0.1.0"
"""The first version of the project that gives the numbers that this one gives; CHANGELOG.md names changes."""


def check_versions(
    name: str, made: Sequence[Made], here: Made, cells: Cells, done: Collection[str], *, accepted: bool
) -> str:
    """Return what may differ if a sweep goes on with what is installed here; empty if nothing may.

    `done` has the keys of finished cells. Raise Mistake if something may differ and this was not accepted.
    """
    left = [cell for cell in cells.all() if cell.key not in done]
    searches = [cell for study in cells.studies if _samples(study) for row in study.searches for cell in row]
    asks = any(cell.key not in done for cell in searches)
    may = {SAMPLER: "lambdas that were not asked for yet may be others"} if asks else {}
    if left:
        rounding = f"the last places of numbers of the {counted(len(left), 'cell')} left may differ"
        may |= dict.fromkeys(ARITHMETIC, rounding)
        may[PROJECT] = "cells that are left may have other numbers (CHANGELOG.md says which)"
    said = "; ".join(_differences(made, here, may))
    if not said or accepted:
        return said and f"Other versions than before: {said}."
    raise Mistake(
        f"The sweep {name!r} was made with other versions than are installed here: {said}. Add "
        "--accept-versions to go on all the same, or install those versions."
    )


def mixture(made: Sequence[Made]) -> list[str]:
    """Return a sentence if a sweep was made with several versions of what can change its numbers."""
    may = dict.fromkeys(ARITHMETIC, "last places of numbers may differ between cells")
    may |= {SAMPLER: "lambdas were asked of both", PROJECT: "numbers may differ between cells (CHANGELOG.md)"}
    found = [said for n in range(1, len(made)) for said in _differences(made[:n], made[n], may)]
    return [f"Versions: the sweep went on with others than before: {'; '.join(found)}."] if found else []


def _differences(made: Sequence[Made], here: Made, may: Mapping[str, str]) -> Iterator[str]:
    """Yield, for packages of which there is another version here than ever before, what may come of it."""
    for package, consequence in may.items():
        known = list(dict.fromkeys(v for each in made if (v := each.version(package)) is not None))
        now = here.version(package)
        same = package == PROJECT and now is not None and all(_same_numbers(each, now) for each in known)
        if known and now is not None and now not in known and not same:
            yield f"{package} {' and '.join(known)}, now {now}, so {consequence}"


def _same_numbers(before: str, now: str) -> bool:
    """Return whether a version of the project is known to give the numbers of the one that is here."""
    return _numbers(SAME_NUMBERS_SINCE) <= _numbers(before) <= _numbers(now)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version)[:3]))


def _samples(study: Study) -> bool:
    """Return whether a study asks a sampler for its lambdas; lists are tried in order."""
    return not study.definition.lists_alone
