"""What a baseline scores, target by target, and how that joins what is already stored under its name.

A target is a held-out class, or an image set beside the benchmark's test images. Its key is a hash of
everything that can change its scores, as a cell's is.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from orchestrator.ledger.ledger import Ledger
from trainables.mistake import Mistake

FORMAT = 1
"""Raised whenever the same images would get other scores."""
HOLDOUT, OOD = "holdout", "ood"
UNCHANGED = "none"


@dataclass(frozen=True)
class Target:
    """A held-out class, or an image set with how its images were brought to the benchmark's size."""

    name: str
    key: str
    positives: int
    """How many images are to be told from the others."""
    resize: str = UNCHANGED
    crops_per_image: int | None = None
    seed: int | None = None
    """Of the crops; None where there are none."""


@dataclass(frozen=True)
class Baseline:
    """A detector on a benchmark's data in one setting, and the targets it is asked for."""

    benchmark: str
    method: str
    setting: str
    """HOLDOUT or OOD."""
    image_size: int
    fingerprint: str
    classes: tuple[str, ...]
    targets: tuple[Target, ...] = ()

    @property
    def shared(self) -> dict[str, object]:
        """What all targets have in common, as JSON holds it."""
        values = asdict(self)
        del values["targets"]
        return {**values, "classes": list(self.classes), "format": FORMAT}

    def key(self, *words: str) -> str:
        """The key of a target that these words tell from the others."""
        text = json.dumps([self.shared, *words], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def joined_to(self, ledger: Ledger) -> Baseline:
        """This and what the ledger holds: classes in the benchmark's order, image sets as they came.

        Raises Mistake where the name belongs to a sweep, or to something that cannot be added to.
        """
        found = {target.name: target for target in _stored(self, ledger)}
        for target in self.targets:
            before = found.setdefault(target.name, target)
            if before.key != target.key:
                raise Mistake(
                    f"The baseline {ledger.name!r} holds {target.name!r} with other images (resize "
                    f"{before.resize}; asked: {target.resize}): give the set another name, or choose another "
                    "--name."
                )
        order = {name: number for number, name in enumerate(self.classes)}
        targets = sorted(found.values(), key=lambda target: order.get(target.name, len(order)))
        return replace(self, targets=tuple(targets if self.setting == HOLDOUT else found.values()))


def default_name(benchmark: str, method: str, asked: Sequence[object]) -> str:
    """Benchmark, method and a short hash of what is asked."""
    digest = hashlib.sha256(json.dumps([FORMAT, benchmark, method, *asked]).encode()).hexdigest()[:8]
    return f"{benchmark}-{method}-{digest}"


def write_down(baseline: Baseline, ledger: Ledger, about: dict[str, object]) -> None:
    """Write baseline.json; raise Mistake if the storage cannot be written."""
    targets = [asdict(target) for target in baseline.targets]
    ledger.write_baseline({**baseline.shared, "places": targets, **about})


def _stored(baseline: Baseline, ledger: Ledger) -> list[Target]:
    """The targets that the ledger holds under this name."""
    if ledger.exists():
        raise Mistake(f"{ledger.name!r} is the name of a sweep in {ledger.storage}: choose another --name.")
    try:
        stored = ledger.read_baseline()
        if stored is None:
            return []
        targets = [Target(**values) for values in stored["places"]]
    except (ValueError, KeyError, TypeError):
        raise ledger.foreign_baseline() from None
    changed = [name for name, value in baseline.shared.items() if stored.get(name) != value]
    if changed:
        listed = ", ".join(f"{n} {stored.get(n)} (asked: {baseline.shared[n]})" for n in changed)
        raise Mistake(
            f"The baseline {ledger.name!r} exists with other values: {listed}. Choose another --name."
        )
    return targets
