"""From what was typed to a specification, and which sweeps may grow into which."""

from __future__ import annotations

import json

import pytest

from orchestrator.planning.request import Request, draft
from orchestrator.planning.specification import Specification, check_extends
from trainables.mistake import Mistake
from trainables.spaces import Choices, Integers, LogUniform, Space, Uniform

DIGITS = tuple("0123456789")


def specification(device: str = "cpu", **changes: object) -> Specification:
    return draft(Request(**changes)).complete(device, DIGITS)  # type: ignore[arg-type]


def test_the_default_is_the_whole_digits_benchmark() -> None:
    default = specification()
    assert default.holdouts == DIGITS
    assert default.methods == ("classification", "rotation")
    assert (default.seeds, default.select) == (3, "holdout")
    assert default.spaces == {"rotation": LogUniform(0.05, 5)}


def test_the_order_of_a_method_s_parts_makes_no_other_method() -> None:
    wanted = specification(methods=("center-mask+rotation",))
    assert wanted.methods == ("rotation+center-mask",)


def test_gpus_train_in_bfloat16_unless_it_is_set() -> None:
    assert specification().recipe.precision == "float32"
    assert specification(device="cuda").recipe.precision == "bfloat16"
    asked = specification(device="cuda", assignments=("precision=float32", "fidelity=reference"))
    assert asked.recipe.precision == "float32"


def test_a_specification_survives_json_and_names_itself() -> None:
    asked = specification(aux_weight=("0.5",), assignments=("epochs=3", "lambda.rotation=0.5,1"))
    again = Specification.from_json(json.loads(json.dumps(asked.as_json())))
    assert again == asked
    assert asked.default_name() == again.default_name() != specification().default_name()
    assert asked.default_name().startswith("digits-")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"benchmark": "digit"}, "no benchmark 'digit'.*Did you mean 'digits'"),
        ({"methods": ("rotaton",)}, "no method 'rotaton'"),
        ({"methods": ("cpc",)}, "digits cannot run the method 'cpc'"),
        ({"methods": ("rotation", "rotation")}, "names 'rotation' twice"),
        ({"holdouts": ("ten",)}, "no class to hold out 'ten'; valid: 0, 1"),
        ({"holdouts": ("3", "3")}, "names '3' twice"),
        ({"assignments": ("epohcs=3",)}, "no field 'epohcs'.*Did you mean 'epochs'"),
        ({"assignments": ("retries=-1",)}, "retries=-1 is not valid"),
        ({"assignments": ("lambda.rotation=5..0.05",)}, "no space for lambda"),
        ({"assignments": ("lambda.rotation=0,1",)}, "no space for lambda"),
        ({"assignments": ("lambda.cpc=1,2",)}, "has no use"),
        ({"aux_weight": ("nan",)}, "--aux-weight nan is not valid"),
        ({"aux_weight": ("-1",)}, "--aux-weight -1 is not valid"),
        ({"aux_weight": ("cpc=1",)}, "names no task"),
        ({"assignments": ("sweep_seed=-1",)}, "sweep_seed=-1 is not valid"),
    ],
)
def test_mistakes_are_sentences(changes: dict, words: str) -> None:
    with pytest.raises(Mistake, match=words):
        specification(**changes)


@pytest.mark.parametrize(
    ("text", "space"),
    [
        ("learning_rate=0.01..0.3", LogUniform(0.01, 0.3)),
        ("learning_rate=linear:0.01..0.3", Uniform(0.01, 0.3)),
        ("dropout=0..0.5", Uniform(0.0, 0.5)),
        ("batch_size=16..64", Integers(16, 64, log=True)),
        ("batch_size=linear:16..64", Integers(16, 64, log=False)),
        ("batch_size=16..18", Choices((16, 17, 18))),
        ("decay=weights,all", Choices(("weights", "all"))),
    ],
)
def test_a_field_s_space_has_its_own_scale_and_reads_back(text: str, space: Space) -> None:
    found = specification(search=(text,))
    (name,) = found.search
    assert found.search[name] == space
    assert Specification.from_json(json.loads(json.dumps(found.as_json()))).search == found.search


def test_a_sweep_grows_by_holdouts_methods_and_seeds() -> None:
    old = specification(holdouts=("3",), methods=("classification",), seeds=1)
    grown = specification(holdouts=("8", "3"), methods=("classification", "rotation"), seeds=2)
    check_extends(old, old, "mine")
    check_extends(grown, old, "mine")
    with pytest.raises(Mistake, match=r"'mine' exists .*holdouts .*seeds 2 \(asked: 1\)"):
        check_extends(old, grown, "mine")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"assignments": ("epochs=3",)}, "epochs"),
        ({"assignments": ("sweep_seed=1",)}, "sweep_seed"),
        ({"select": "benchmark"}, "select"),
        ({"aux_weight": ("0.5",)}, "aux_weights"),
        ({"cpus_per_worker": 2.0}, "threads"),
        ({"workers": 2}, "workers"),
    ],
)
def test_any_other_difference_is_named(changes: dict, field: str) -> None:
    with pytest.raises(Mistake, match=f"exists with another specification: {field} "):
        check_extends(specification(**changes), specification(), "mine")


def test_one_lambda_for_the_benchmark_does_not_grow_by_holdouts() -> None:
    old = specification(select="benchmark", holdouts=("3",))
    with pytest.raises(Mistake, match="holdouts"):
        check_extends(specification(select="benchmark", holdouts=("3", "8")), old, "mine")


def test_fidelity_sets_its_switches_and_single_ones_still_count() -> None:
    recipe = specification(assignments=("fidelity=reference", "stem=published")).recipe
    assert (recipe.odin_units, recipe.rotation_set, recipe.stem) == ("byte", "transposes", "published")


@pytest.mark.parametrize("methods", [("classification", "rotation"), ("classification", "cpc")])
@pytest.mark.parametrize(("workers", "shares"), [(1, (64, 32)), (4, (16, 8)), (64, (2, 1))])
def test_workers_share_the_paper_s_batches(
    methods: tuple[str, ...], workers: int, shares: tuple[int, int]
) -> None:
    """CPC's too where nothing trains it, since keys hold the whole recipe."""
    request = Request("imagenet-dog", methods=methods, workers=workers)
    recipe = draft(request).complete("cpu", None).recipe
    assert (recipe.batch_size, recipe.cpc_batch_size) == shares


def test_images_that_cpc_cannot_cut_up_are_refused() -> None:
    request = Request("image-folder", methods=("classification", "cpc"), assignments=("image_size=64",))
    with pytest.raises(Mistake, match=r"image_size=64 .* such as 56"):
        draft(request)
