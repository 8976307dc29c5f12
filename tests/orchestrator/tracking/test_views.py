"""The pages on which MLflow compares a sweep, as their saved state says."""

from __future__ import annotations

import json
from urllib.parse import parse_qs, urlsplit

import pytest

from orchestrator.tracking.views import COLOURS, LONGEST_STATE, colour_of, saved_views, view_address

METRICS = ["final/ap_msp", "final/ap_odin", "final/test_accuracy"]


def test_each_sweep_has_a_page_of_dots_by_class_and_one_of_means() -> None:
    views = {tag: json.loads(state) for tag, state in saved_views("mine", "f" * 32, METRICS).items()}
    assert list(views) == ["mlflow.sharedViewState.mine", "mlflow.sharedViewState.mine-means"]
    dots, means = views.values()
    for view in views.values():
        assert "tags.sweep = 'mine'" in view["searchFilter"]
        assert "tags.kind = 'final'" in view["searchFilter"]
        (section,) = view["compareRunSections"]
        assert {chart["metricSectionId"] for chart in view["compareRunCharts"]} == {section["uuid"]}
    assert [(c["xaxis"]["key"], c["yaxis"]["key"]) for c in dots["compareRunCharts"]] == [
        ("holdout", metric) for metric in METRICS
    ]
    assert dots["groupBy"] is None
    assert [chart["metricKey"] for chart in means["compareRunCharts"]] == METRICS
    assert means["groupBy"]["groupByKeys"] == [{"mode": "param", "groupByData": "method"}]


def test_a_state_is_as_short_as_mlflow_takes() -> None:
    many = [f"ood/set-{number}/ap_msp" for number in range(100)]
    for state in saved_views("mine", "f" * 32, many).values():
        assert len(state) <= LONGEST_STATE
        assert many[9] in state


@pytest.mark.parametrize(
    ("uri", "origin"),
    [
        ("sqlite:////data/mlflow.db", "http://127.0.0.1:5000"),
        ("http://me:secret@head:5000/", "http://head:5000"),
    ],
)
def test_the_address_is_short_and_opens_the_page_under_model_training(uri: str, origin: str) -> None:
    address = view_address(uri, "3", "digits-1234567890")
    assert len(address) < 200
    assert address.startswith(f"{origin}/#/experiments/3/runs?")
    words = parse_qs(urlsplit(address).fragment.partition("?")[2])
    assert words == {
        "workflowType": ["machine_learning"],
        "viewStateShareKey": ["digits-1234567890"],
        "compareRunsMode": ["CHART"],
    }


def test_a_method_has_one_colour_and_the_paper_s_methods_have_different_ones() -> None:
    named = ["classification", "rotation", "cpc", "rotation+cpc"]
    assert len({colour_of(method) for method in named}) == 4
    assert colour_of("classification") == COLOURS[0]
    assert colour_of("pixel-gaussian") == colour_of("pixel-gaussian")
    assert colour_of("pixel-gaussian") in COLOURS
