"""A sweep goes on under other versions only where nothing can differ, or the person accepts what may."""

from __future__ import annotations

import pytest

from orchestrator.ledger.provenance import Made
from orchestrator.planning.cells import SEARCH, lay_out
from orchestrator.planning.versions import check_versions, mixture
from tests.hand_made_ledger import specification
from trainables.mistake import Mistake

OLD = {"holdout-sweeps": "0.2.0", "torch": "2.13.0", "numpy": "2.4.5", "optuna": "4.9.0", "ray": "2.59.0"}


def here(**changes: str | None) -> Made:
    found = {**OLD, **{name.replace("_", "-"): version for name, version in changes.items()}}
    return Made({name: version for name, version in found.items() if version})


def said(
    changed: Made, *, done: str = "nothing", space: str = "0.05..5", before: tuple = (Made(OLD),)
) -> str:
    """What refuses the changed versions; empty if they are not refused."""
    wanted = specification(seeds=1, assignments=(f"lambda.rotation={space}",))
    cells = lay_out(wanted, "f")
    keys = {c.key for c in cells.all() if done == "all" or (done == "searches" and c.phase == SEARCH)}
    accepted = check_versions("mine", before, changed, cells, keys, accepted=True)
    if not accepted:
        return check_versions("mine", before, changed, cells, keys, accepted=False)
    with pytest.raises(Mistake) as refused:
        check_versions("mine", before, changed, cells, keys, accepted=False)
    assert accepted.removeprefix("Other versions than before: ").rstrip(".") in str(refused.value)
    return str(refused.value)


def test_other_arithmetic_may_change_last_digits_of_what_is_left() -> None:
    sentence = said(here(torch="2.14.1", numpy="2.5.0"), done="searches")
    assert (
        "torch 2.13.0, now 2.14.1, so the last places of numbers of the 4 cells left may differ" in sentence
    )
    assert "numpy 2.4.5, now 2.5.0" in sentence
    assert "--accept-versions" in sentence
    assert "'mine'" in sentence


def test_another_sampler_matters_while_lambdas_are_to_be_asked_for() -> None:
    assert "optuna 4.9.0, now 5.0.0, so lambdas that were not asked for yet may be others" in said(
        here(optuna="5.0.0")
    )
    assert said(here(optuna="5.0.0"), done="searches") == ""
    assert said(here(optuna="5.0.0"), space="0.5,1") == ""


@pytest.mark.parametrize("changed", [here(torch="9", numpy="9", optuna="9", holdout_sweeps="9.0.0")])
def test_a_finished_sweep_is_not_concerned(changed: Made) -> None:
    assert said(changed, done="all") == ""


def test_packages_that_only_read_schedule_and_record_do_not_matter() -> None:
    assert said(here(ray="9", pyarrow="9", torchvision="9", mlflow="9", python="3.13.0")) == ""


def test_the_project_s_own_version_matters_only_where_numbers_changed() -> None:
    first = tuple(name for name in OLD if name != "holdout-sweeps")
    assert said(here(), before=(Made({name: OLD[name] for name in first}),)) == ""
    assert said(here(holdout_sweeps="0.2.7")) == ""
    older = said(here(holdout_sweeps="0.1.9"))
    assert "holdout-sweeps 0.2.0, now 0.1.9, so cells that are left may have other numbers" in older


def test_versions_that_were_accepted_before_are_not_asked_about_again() -> None:
    other = here(torch="2.14.1")
    assert said(other, before=(Made(OLD), other)) == ""
    assert said(here(), before=(Made(OLD), other)) == ""
    assert said(here(torch="2.15.0"), before=(Made(OLD), other)) != ""


def test_what_is_not_known_is_not_guessed() -> None:
    assert said(here(torch="2.14.1"), before=(Made(),)) == ""
    assert said(here(torch=None)) == ""


def test_a_mixture_is_one_sentence() -> None:
    assert mixture((Made(OLD),)) == []
    assert mixture((Made(OLD), here(ray="9"))) == []
    (sentence,) = mixture((Made(OLD), here(torch="2.14.1"), here(torch="2.14.1", optuna="5.0.0")))
    assert sentence == (
        "Versions: the sweep went on with others than before: torch 2.13.0, now 2.14.1, so last places of "
        "numbers may differ between cells; optuna 4.9.0, now 5.0.0, so lambdas were asked of both."
    )
