"""What a sweep is: everything that decides its cells and their results, apart from where and how it runs."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.ledger.ledger import Ledger
from search_spaces import find_benchmark
from trainables.data.named_images import NamedImages
from trainables.data.readers.request import DataRequest
from trainables.detectors import DEFAULT_DETECTORS, DEFAULT_LABELS, DETECTORS
from trainables.detectors.contract import FEATURES
from trainables.mistake import Mistake
from trainables.recipe import Recipe
from trainables.run import parse_method
from trainables.settings import check, setting, values_of
from trainables.spaces import Space, parse_space

GROWING = ("methods", "holdouts", "seeds")
"""Fields in which a sweep that exists may grow."""

SETTINGS = "conduct"
"""The key of the run settings in sweep.json, which keeps the name that version 0.1 gave it."""

Weights = dict[str, float]
"""lambda by auxiliary task."""


@dataclass(frozen=True)
class RunSettings:
    """How a sweep is carried out; none of it changes a result, so it may differ when the sweep goes on."""

    retries: int = setting(3, "further attempts at a cell that fails", at_least=0)
    checkpoint_seconds: float = setting(60.0, "seconds between checkpoints, 0 for every epoch", at_least=0)
    keep_checkpoints: bool = setting(False, "keep the checkpoints of cells that are done")
    keep_weights: bool = setting(True, "keep the last weights of final cells")
    detectors: tuple[str, ...] = DEFAULT_DETECTORS
    """What scores the test images."""
    image_sets: tuple[NamedImages, ...] = ()
    """What is scored beside the test images."""

    def __post_init__(self) -> None:
        """Raise Mistake for a setting that is not valid."""
        check(self)

    def as_json(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {**dataclasses.asdict(self), "detectors": list(self.detectors)}

    @staticmethod
    def from_json(values: dict[str, Any]) -> RunSettings:
        """Return the settings that `as_json` described; version 0.1 had fewer, and their defaults hold."""
        detectors = tuple(values.get("detectors", DEFAULT_DETECTORS))
        sets = tuple(NamedImages(**each) for each in values.get("image_sets", ()))
        return RunSettings(**{**values, "detectors": detectors, "image_sets": sets})


@dataclass(frozen=True)
class Specification:
    """A benchmark, what is compared on it and how lambda is chosen."""

    benchmark: str
    methods: tuple[str, ...]
    holdouts: tuple[str, ...]
    seeds: int
    recipe: Recipe
    spaces: dict[str, Space]
    """Where each auxiliary task's weight is searched."""
    aux_weights: Weights | None = None
    """Weights that were given, by task: then nothing is searched."""
    select: str = "holdout"
    lambda_trials: int = setting(8, "lambdas that a study tries in a range", at_least=1)
    sweep_seed: int = setting(0, "what every random stream starts from", at_least=0)
    search_round: int = setting(1, "lambdas that a study asks for at a time", at_least=1)
    skip_bad_images: bool = setting(False, "go on without images that cannot be read")
    workers: int = 1
    threads: int = 1
    device: str = "cpu"
    plugins: dict[str, str] = dataclasses.field(default_factory=dict)
    """By benchmark or auxiliary task that a plug-in defines, the digest of its source."""

    def __post_init__(self) -> None:
        """Raise Mistake for a setting that is not valid."""
        check(self)

    def as_json(self) -> dict[str, Any]:
        """Return plain values for JSON; a space is its text, from which it is read back exactly.

        What version 0.1 did not have is left out at its default, since names of sweeps are hashes of this.
        """
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        values["recipe"] = values_of(self.recipe)
        values["spaces"] = {task: str(space) for task, space in self.spaces.items()}
        if not self.plugins:
            del values["plugins"]
        return dict(json.loads(json.dumps(values)))

    @staticmethod
    def from_json(values: dict[str, Any]) -> Specification:
        """Return the specification that `as_json` described."""
        known = {
            "methods": tuple(values["methods"]),
            "holdouts": tuple(values["holdouts"]),
            "spaces": {task: parse_space(text) for task, text in values["spaces"].items()},
            "recipe": Recipe(**values["recipe"]),
        }
        return Specification(**{**values, **known})

    def default_name(self) -> str:
        """The benchmark and a short hash of the specification."""
        text = json.dumps(self.as_json(), sort_keys=True)
        return f"{self.benchmark}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"

    @property
    def trained(self) -> tuple[str, ...]:
        """The methods that train a network."""
        return tuple(method for method in self.methods if parse_method(method).trains)

    def seeds_of(self, method: str) -> int:
        """Return how many seeds a method has: one if it trains nothing, since it draws nothing either."""
        return self.seeds if parse_method(method).trains else 1

    def tasks(self, method: str) -> tuple[str, ...]:
        """Return the auxiliary tasks of a method, each of which has a weight."""
        return parse_method(method).auxiliary

    def searches(self, method: str) -> bool:
        """Return whether the method's weights are searched."""
        return bool(self.tasks(method)) and self.aux_weights is None

    def given_weights(self, method: str) -> Weights | None:
        """Return the weights that a method has without a search, or None if they are searched.

        A method without auxiliary tasks has none to search: {}.
        """
        if self.searches(method):
            return None
        given = self.aux_weights or {}
        return {task: given[task] for task in self.tasks(method)}


@dataclass(frozen=True)
class DetectorColumn:
    """What tables need to know of a detector, so that a report need not import it."""

    name: str
    label: str
    windowed: bool
    """Whether it takes part in every evaluation; otherwise in the last one only."""

    @staticmethod
    def of(name: str) -> DetectorColumn:
        """Return the column of a detector that can be imported."""
        detector = DETECTORS.find(name)
        return DetectorColumn(name, detector.label, detector.needs != FEATURES)


def _columns(stored: dict[str, Any] | None, names: tuple[str, ...]) -> tuple[DetectorColumn, ...]:
    """Return the columns that sweep.json describes; version 0.1 had the default detectors only."""
    if stored is None:
        return tuple(DetectorColumn(name, DEFAULT_LABELS[name], windowed=True) for name in names)
    return tuple(DetectorColumn(name=name, **stored[name]) for name in names)


@dataclass(frozen=True)
class StoredSweep:
    """What sweep.json says."""

    specification: Specification
    settings: RunSettings
    fingerprint: str
    classes: tuple[str, ...]
    data: str | None
    """Where the data was; a ledger of another make may not say."""
    detectors: tuple[DetectorColumn, ...]
    """What scores the test images."""
    images: Mapping[str, tuple[int, ...]] | None = None
    """Numbers of images of each class by split; a ledger of another make may not say."""


def read_stored(ledger: Ledger) -> StoredSweep:
    """Read sweep.json; raise Mistake if there is none or it was not written by this version."""
    values = ledger.read_sweep()
    try:
        settings = RunSettings.from_json(values.get(SETTINGS, {}))
        return StoredSweep(
            specification=Specification.from_json(values["specification"]),
            settings=settings,
            fingerprint=values["fingerprint"],
            classes=tuple(values["classes"]),
            data=values.get("data"),
            detectors=_columns(values.get("detectors"), settings.detectors),
            images=_images(values),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ledger.foreign_sweep(error) from None


def _images(values: Mapping[str, Any]) -> dict[str, tuple[int, ...]] | None:
    counts = values.get("images")
    return None if counts is None else {split: tuple(each) for split, each in counts.items()}


def check_extends(new: Specification, old: Specification, name: str) -> None:
    """Raise Mistake, naming the fields, unless `new` is `old` or grows it by holdouts, methods or seeds."""
    before, after = _flat(old), _flat(new)
    changed = [field for field in {**before, **after} if after.get(field) != before.get(field)]
    refused = [field for field in changed if not _grows(field, new, old)]
    if refused:
        listed = ", ".join(_change(field, before.get(field), after.get(field)) for field in refused)
        raise Mistake(
            f"The sweep {name!r} exists with another specification: {listed}. Choose another --name, or "
            f"go on with it as it is by --resume --name {name}."
        )


def check_sources(digests: dict[str, str], old: Specification, name: str) -> None:
    """Raise Mistake if a plug-in defines a task or benchmark of a stored sweep otherwise than it did.

    `digests` has the source of each task and benchmark that plug-ins define.
    """
    asked = {used: digests.get(used, "") for used in old.plugins}
    check_extends(dataclasses.replace(old, plugins=asked), old, name)


def _change(field: str, before: object, after: object) -> str:
    if field == "plugins":
        return "the source of a plug-in that it uses"
    return f"{field} {before} (asked: {after})"


def _grows(field: str, new: Specification, old: Specification) -> bool:
    if field == "seeds":
        return new.seeds > old.seeds
    if field == "holdouts" and new.select == "benchmark":
        return False
    if field in ("spaces", "aux_weights", "plugins"):  # more methods bring more tasks
        before, after = getattr(old, field), getattr(new, field)
        return before is not None and after is not None and before.items() <= after.items()
    return field in GROWING and set(getattr(old, field)) < set(getattr(new, field))


def _flat(specification: Specification) -> dict[str, Any]:
    values = specification.as_json()
    recipe = values.pop("recipe")
    for name in ("methods", "holdouts"):  # their order changes no result
        values[name] = sorted(values[name])
    return {**values, **recipe}


def data_request(specification: Specification, path: str, *, cache: str, download: bool) -> DataRequest:
    """Return what any process of the sweep needs to open, or prepare, the data on its own node."""
    benchmark = find_benchmark(specification.benchmark)
    return DataRequest(
        reader=benchmark.reader if isinstance(benchmark.reader, str) else benchmark.name,
        path=path,
        side=specification.recipe.prepared_size,
        channels=benchmark.channels,
        cache=cache,
        download=download,
        skip_bad_images=specification.skip_bad_images,
        classes=benchmark.classes,
        train_counts=benchmark.train_counts,
        test_counts=benchmark.test_counts,
        name=benchmark.name,
    )
