"""What a baseline scores, and how its targets are added to those that are stored under its name.

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
"""Incremented whenever the same images would get other scores."""
HOLDOUT, OOD = "holdout", "ood"
UNCHANGED = "none"


@dataclass(frozen=True)
class Target:
    """A held-out class, or an image set with the way in which its images were resized."""

    name: str
    key: str
    positives: int
    """Number of images to be told apart from the others."""
    resize: str = UNCHANGED
    crops_per_image: int | None = None
    seed: int | None = None
    """Seed of the crops; None if there are none."""


@dataclass(frozen=True)
class Baseline:
    """A detector on a benchmark's data in one setting, and its targets."""

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
        """Everything that all targets have in common, as JSON holds it."""
        values = asdict(self)
        del values["targets"]
        return {**values, "classes": list(self.classes), "format": FORMAT}

    def key(self, *parts: str) -> str:
        """Return the key of the target that these parts identify: its name, or name and digest."""
        text = json.dumps([self.shared, *parts], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def joined_to(self, ledger: Ledger) -> Baseline:
        """Return this baseline with the ledger's targets added.

        Classes are in the benchmark's order, image sets in the order in which they were added. Raise Mistake
        if the name belongs to a sweep, to a baseline that differs in more than its targets, or to one that
        has other images under a target's name.
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


def default_name(benchmark: str, method: str, request: Sequence[object]) -> str:
    """Return a name from benchmark, method and a short hash of the request."""
    digest = hashlib.sha256(json.dumps([FORMAT, benchmark, method, *request]).encode()).hexdigest()[:8]
    return f"{benchmark}-{method}-{digest}"


def write_down(baseline: Baseline, ledger: Ledger, about: dict[str, object]) -> None:
    """Write baseline.json; raise Mistake if the storage cannot be written."""
    targets = [asdict(target) for target in baseline.targets]
    ledger.write_baseline({**baseline.shared, "places": targets, **about})


def _stored(baseline: Baseline, ledger: Ledger) -> list[Target]:
    """Return the targets that the ledger holds under this name."""
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
