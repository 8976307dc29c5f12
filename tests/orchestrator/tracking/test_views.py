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


def test_the_paper_s_methods_have_the_same_colours_in_every_sweep_and_others_by_their_name() -> None:
    paper = ["classification", "rotation", "cpc"]
    for methods in (paper, ["pixel-gaussian", *reversed(paper)], [*paper, "rotation+cpc"]):
        assert [colour_of(method, methods) for method in paper] == list(COLOURS[:3])
    assert colour_of("pixel-gaussian", ["pixel-gaussian"]) == colour_of(
        "pixel-gaussian", [*paper, "pixel-gaussian"]
    )


def test_no_two_of_a_sweep_s_methods_have_one_colour_as_long_as_there_are_enough() -> None:
    many = [f"method-{number}" for number in range(7)]
    for number in range(1, 7):
        assert len({colour_of(method, many[:number]) for method in many[:number]}) == number
    for shown in (["rotation"], many[:3]):  # a sweep that grows keeps the colours that it has
        grown = [*shown, "method-9"]
        assert [colour_of(m, shown) for m in shown] == [colour_of(m, grown) for m in shown]
    assert colour_of(many[6], many) in COLOURS
