"""The held-out class, the validation split, and what the leak firewall keeps from a search run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields

import pytest
import torch

from trainables.data.holdout import ANOMALY, check_counts, kept_classes, open_final, open_search, open_test
from trainables.data.prepared import Prepared
from trainables.mistake import Mistake
from trainables.recipe import Recipe

DIGITS = tuple("0123456789")


def test_classes_keep_their_order_without_the_held_out_one() -> None:
    assert kept_classes(DIGITS, "3") == tuple("012456789")
    assert kept_classes(DIGITS, "none") == DIGITS
    with pytest.raises(Mistake, match="no class to hold out 'x'"):
        kept_classes(DIGITS, "x")


def test_the_split_is_disjoint_stratified_complete_and_seeded(digits: Prepared, quick_run: Callable) -> None:
    data = open_search(digits, quick_run(search=True))
    rows = torch.cat([data.training.rows, data.validation.rows]).sort().values
    assert torch.equal(rows, torch.arange(len(data.training.images)))
    for label in range(9):
        validated = int((data.validation.labels == label).sum())
        trained = int((data.training.labels == label).sum())
        assert validated == round(0.2 * (validated + trained))
    again = open_search(digits, quick_run(search=True, seed=5))
    other = open_search(digits, quick_run(search=True, sweep_seed=1))
    assert torch.equal(again.validation.rows, data.validation.rows)
    assert not torch.equal(other.validation.rows, data.validation.rows)


def test_search_data_leads_to_no_test_image_and_no_held_out_class(
    digits: Prepared, quick_run: Callable
) -> None:
    data = open_search(digits, quick_run(search=True))
    assert {field.name for field in fields(data)} == {"classes", "training", "validation", "whole_count"}
    for part in (data.training, data.validation):
        assert part.images.split == "train"
        assert part.images.classes == tuple("012456789")
        assert len(part.images) == sum(digits.counts["train"]) - digits.counts["train"][3]


def test_a_final_run_trains_on_all_kept_images_and_is_tested_on_every_class(
    digits: Prepared, quick_run: Callable
) -> None:
    run = quick_run()
    data, test = open_final(digits, run), open_test(digits, run)
    assert len(data.training) == sum(digits.counts["train"]) - digits.counts["train"][3]
    assert int((test.labels == ANOMALY).sum()) == digits.counts["test"][3]
    assert len(test.labels) == sum(digits.counts["test"])
    assert test.labels.max() == 8


def test_labels_follow_the_images(digits: Prepared, quick_run: Callable) -> None:
    """Each kept image's label names the class that it was stored under."""
    data = open_final(digits, quick_run()).training
    for label, name in enumerate(tuple("012456789")):
        rows = data.rows[data.labels == label]
        assert rows.tolist() == list(data.images.rows_of(name))


def test_a_fraction_of_the_training_images_is_stratified_and_shared(
    digits: Prepared, quick_run: Callable
) -> None:
    parts = [
        open_final(digits, quick_run(train_fraction=0.25, seed=seed, holdout=h)).training
        for seed, h in ((0, "3"), (1, "8"))
    ]
    for name, count in zip(digits.classes, digits.counts["train"], strict=True):
        used = []
        for part in parts:
            if name in part.images.classes:
                rows = [r for r in part.rows.tolist() if r in part.images.rows_of(name)]
                assert len(rows) == round(0.25 * count)
                used.append(sorted(part.images.indices[rows].tolist()))
        assert all(one == used[0] for one in used)


def test_too_few_images_of_a_class_are_named() -> None:
    with pytest.raises(Mistake, match="'rare' has 2 training images"):
        check_counts(("common", "rare"), (100, 2), Recipe(), searching=True)
    check_counts(("common", "rare"), (100, 2), Recipe(), searching=False)
