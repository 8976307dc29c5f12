"""The verdict in words: which method flags best, what is guessing, and how many images are noticed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from orchestrator.planning.cells import Cell
from orchestrator.reporting.findings import findings
from orchestrator.reporting.noticed import sureness
from orchestrator.reporting.results import collect
from orchestrator.reporting.scored import read_scored
from tests.hand_made_ledger import finish, plain_value, scores_of, specification, write_sweep

CLASSES = tuple("0123456")


def said(
    storage: Path, *, shift: float = 2.0, value: Callable[[Cell, str], float] = plain_value, **changes: object
) -> list[str]:
    """The sentences of a sweep whose held-out images score higher by `shift`."""
    given = {} if "methods" in changes else {"aux_weight": ("0.4",)}
    wanted = specification(**given, **changes)  # type: ignore[arg-type]
    ledger, cells = write_sweep(storage, wanted)
    for cell in cells.all():
        finish(ledger, wanted, cell, value=value, scores=scores_of(cell, shift=shift))
    results = collect(ledger)
    return findings(results, sureness(results, read_scored(results)))


def test_few_classes_have_a_mean_and_no_interval(tmp_path: Path) -> None:
    by_msp, by_odin, _, noticed, _ = said(tmp_path, seeds=1)
    assert by_msp == (
        "By AP-MSP, rotation has the highest mean, 35.00% over 2 held-out classes, 5.00 points more than "
        "classification; guessing gives 10.00%. With fewer than 5 classes no interval is given, so this may "
        "be chance."
    )
    assert by_odin.startswith("By AP-ODIN, rotation has the highest mean, 40.00%")
    assert noticed.startswith("At 5% false alarms, ")
    assert noticed.endswith(" of 20 held-out images would be noticed by classification (MSP).")


def test_many_classes_have_an_interval(tmp_path: Path) -> None:
    (first, *_) = said(tmp_path, seeds=1, holdouts=CLASSES)
    assert first == (
        "By AP-MSP, rotation flags held-out images best: 35.00% over 7 held-out classes, 5.00 points more "
        "than classification (95% interval [+5.00, +5.00]); guessing gives 10.00%."
    )


def test_no_method_is_best_where_the_interval_includes_no_difference(tmp_path: Path) -> None:
    def value(cell: Cell, metric: str) -> float:
        return 0.3 + (0.02 * (int(cell.holdout) - 2.9) if cell.method == "rotation" else 0.0)

    first = said(tmp_path, seeds=1, holdouts=CLASSES, value=value)[0]
    assert first.startswith(
        "By AP-MSP, no method is measurably the best: rotation has 30.20% over 7 held-out classes, 0.20 "
        "points more than classification, with a 95% interval of [-2."
    )


def test_guessing_is_called_so_by_class_and_overall(tmp_path: Path) -> None:
    def value(cell: Cell, metric: str) -> float:
        return 0.1 + 0.01 * (int(cell.holdout) - 3)

    first, _, guessing, *_ = said(
        tmp_path, seeds=1, holdouts=CLASSES, methods=("classification",), value=value, shift=0.0
    )
    assert first == (
        "By AP-MSP, classification has 10.00% over 7 held-out classes; guessing gives 10.00%, so that it is "
        "no better than guessing."
    )
    assert guessing.startswith(
        "No better than guessing, since the 95% interval of AP does not lie above the share of anomalies: "
        "classification (MSP) with 0 held out ("
    )


def test_one_held_out_class_is_singular_and_seeds_count_each_image(tmp_path: Path) -> None:
    first, _, better, noticed = said(tmp_path, holdouts=("3",), methods=("classification",), shift=9.0)
    assert first == "By AP-MSP, classification has 31.00% over 1 held-out class; guessing gives 10.00%."
    assert better == "Every held-out class is flagged better than guessing by every method."
    assert noticed == (
        "At 5% false alarms, 30 of 30 held-out images would be noticed by classification (MSP), each image "
        "counted once for each seed."
    )


def test_what_trains_nothing_has_a_sentence_of_its_own(tmp_path: Path) -> None:
    *_, own, better, noticed, also = said(tmp_path, methods=("classification", "edge-energy"), shift=9.0)
    assert own == (
        "By the score of what trains nothing (AP), edge-energy has 20.00% over 2 held-out classes; guessing "
        "gives 10.00%."
    )
    assert better.startswith("Every held-out class")
    assert noticed.startswith(
        "At 5% false alarms, 60 of 60 held-out images would be noticed by classification"
    )
    assert also == "At 5% false alarms, 20 of 20 held-out images would be noticed by edge-energy."


def test_accuracy_without_a_held_out_class_and_no_best_of_half_a_sweep(tmp_path: Path) -> None:
    wanted = specification(holdouts=("none",), aux_weight=("0.4",))
    ledger, cells = write_sweep(tmp_path, wanted)
    assert findings(collect(ledger), []) == []
    finish(ledger, wanted, cells.all()[0])
    finish(ledger, wanted, cells.all()[-1])
    assert findings(collect(ledger), []) == [
        "Accuracy on the test images: classification 90.00%, rotation 97.00%."
    ]
    wanted = specification(aux_weight=("0.4",))
    ledger, cells = write_sweep(tmp_path, wanted, name="half")
    first, *others = cells.all()
    finish(ledger, wanted, first)
    assert findings(collect(ledger), []) == [
        "No method is done with every held-out class yet, so nothing is said of which one flags best."
    ]
    for cell in others:
        if cell.method == "classification":
            finish(ledger, wanted, cell)
    assert findings(collect(ledger), [])[0] == (
        "By AP-MSP, classification has 31.00% over 2 held-out classes; guessing gives 10.00%. No other "
        "method is done with every held-out class yet."
    )
    for cell in others:
        if cell.method == "rotation" and cell.seed == 0:
            finish(ledger, wanted, cell)
    said_now = findings(collect(ledger), [])[0]
    assert "5.00 points more than classification over the seeds that both have" in said_now
