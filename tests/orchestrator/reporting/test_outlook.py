"""What a sweep is expected to take, as the dry run prints it."""

from __future__ import annotations

import dataclasses

from orchestrator.planning.forecast import Expected, Measured, Range, Storage
from orchestrator.reporting.outlook import describe
from tests.hand_made_ledger import specification
from trainables.pace import Pace

STORAGE = Storage(scores=1_000_000, windows=0, weights=2_000_000, records=8000, checkpoints=500_000)
PACE = Pace(1, 1, 1, 1, 1, steps=46, evaluated_images=1438)
MEASURED = Measured({("final", "classification"): PACE}, 20.0, "this machine", 2, 2, 3.0)
EXPECTED = Expected(Range(40.2, 61.0), Range(4 * 3600, 6 * 3600), 2, STORAGE, MEASURED)


def test_hours_and_money_are_ranges() -> None:
    wanted = dataclasses.replace(specification(), device="cuda")
    said = describe(EXPECTED, wanted, price=2.5)
    assert "Time: 40.2 to 61 GPU-hours, or 4.0 h to 6.0 h with 2 cells at a time." in said
    assert "Money: 100.50 to 152.50 at 2.5 a GPU-hour." in said
    assert "Money: none" in describe(EXPECTED, specification(), price=2.5)
    assert "Money" not in describe(EXPECTED, wanted)


def test_how_it_was_found_is_said() -> None:
    said = describe(EXPECTED, specification())
    assert "From 46 steps and 1438 evaluated images of classification (final) in 20 s on this machine" in said
    assert "in 2 processes beside each other, with 1 thread each" in said
    assert "Other work" not in said
    assumed = describe(dataclasses.replace(EXPECTED, measured=None), specification())
    assert "assumes 3.00 GFLOP/s to 150.00 GFLOP/s of a CPU thread" in assumed
    assert "--probe measures it" in assumed


def test_a_machine_that_others_use_and_what_was_not_measured_are_said() -> None:
    paces = {("final", "classification"): dataclasses.replace(PACE, share=0.5)}
    shared = dataclasses.replace(EXPECTED, measured=dataclasses.replace(MEASURED, paces=paces))
    assert "which left a process its CPU for 50% of the time: the lower ends are without it" in describe(
        shared, specification()
    )
    several = dataclasses.replace(specification(), workers=4)
    assert "What the 4 workers of a cell say to each other was not measured." in describe(shared, several)
    searched = specification(search=("batch_size=16..64",))
    assert "Of the batch sizes that are searched, the recipe's was measured." in describe(shared, searched)


def test_storage_names_its_parts() -> None:
    said = describe(EXPECTED, specification())
    assert "Storage: about 3.01 MB (scores 1.00 MB, weights 2.00 MB, records 8.00 kB)" in said
    assert "up to 500.00 kB of checkpoints while it runs; --set keep_weights=false keeps no weights." in said
    none = dataclasses.replace(EXPECTED, storage=dataclasses.replace(STORAGE, weights=0))
    assert "keep_weights" not in describe(none, specification())
