"""What later detectors add to a cell's result: which records count, and what they replace."""

from __future__ import annotations

from typing import Any

from orchestrator.ledger.later_scores import counted_later, curves_with_later, sources, with_later

VALUES = {
    "epochs": 2,
    "final/test_accuracy": 0.9,
    "final/ap_odin": 0.5,
    "final/ap_odin_last": 0.4,
    "final/auroc_odin": 0.7,
    "final/fpr95_odin": 0.2,
    "final/ap_odin-2_last": 0.1,
}


def record(source: str, **metrics: float) -> dict[str, Any]:
    named = {f"final/{name}": value for name, value in metrics.items()}
    return {"source": source, "metrics": named, "by_epoch": {"2": 0.6}}


def test_a_detector_that_the_cell_lacks_is_added() -> None:
    result = {"values": VALUES, "detectors": {"odin": "a"}}
    later = {"knn": record("k", ap_knn_last=0.6)}
    assert with_later(result, counted_later(result, later)) == {**VALUES, "final/ap_knn_last": 0.6}
    assert sources(result, later) == {"odin": "a", "knn": "k"}


def test_the_same_source_replaces_nothing_and_another_replaces_all_values_of_its_name() -> None:
    result = {"values": VALUES, "detectors": {"odin": "a"}}
    same, other = ({"odin": record(source, ap_odin_last=0.6)} for source in "ab")
    assert counted_later(result, same) == {}
    assert with_later(result, counted_later(result, other)) == {
        "epochs": 2,
        "final/test_accuracy": 0.9,
        "final/ap_odin_last": 0.6,
        "final/ap_odin-2_last": 0.1,
    }
    assert sources(result, other) == {"odin": "b"}


def test_a_result_that_does_not_state_its_sources_is_kept() -> None:
    result = {"values": {**VALUES, "final/ap_mine_last": 0.3}}
    later = {name: record("b") for name in ("msp", "odin", "mine", "knn")}
    assert set(counted_later(result, later)) == {"knn"}
    assert sources(result, later) == {"msp": None, "odin": None, "odin-2": None, "mine": None, "knn": "b"}


def test_records_of_a_network_that_was_trained_again_do_not_count() -> None:
    result = {"values": VALUES, "detectors": {}, "checksums": {"scores.parquet": "new"}}
    later = {"knn": {**record("k"), "of": "new"}, "vim": {**record("v"), "of": "old"}}
    assert set(counted_later(result, later)) == {"knn"}


def test_curves_have_the_ap_at_the_epochs_that_it_is_known_for() -> None:
    rows = [{"epoch": 1, "train/loss": 2.0}, {"epoch": 2, "train/loss": 1.0}]
    assert curves_with_later(rows, {"knn": record("k")}) == [
        {"epoch": 1, "train/loss": 2.0, "ap/knn": None},
        {"epoch": 2, "train/loss": 1.0, "ap/knn": 0.6},
    ]
