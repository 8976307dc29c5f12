"""What a baseline scores, place by place, and how that is joined to what stands under its name already.

A place is a held-out class, or an image set beside the benchmark's test images. Its key is a hash of all
that can change its scores, as a cell's is.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from orchestrator.ledger.ledger import Ledger
from trainables.mistake import Mistake

FORMAT = 1
"""Raised whenever the same images would get other scores."""
ASKED = "baseline.json"
HOLDOUT, OOD = "holdout", "ood"
UNCHANGED = "none"


@dataclass(frozen=True)
class Place:
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
    """A detector on a benchmark's data in one setting, and the places it is asked for."""

    benchmark: str
    method: str
    setting: str
    """HOLDOUT or OOD."""
    image_size: int
    fingerprint: str
    classes: tuple[str, ...]
    places: tuple[Place, ...] = ()

    @property
    def shared(self) -> dict[str, object]:
        """What all places have in common, as JSON holds it."""
        values = asdict(self)
        del values["places"]
        return {**values, "classes": list(self.classes), "format": FORMAT}

    def key(self, *words: str) -> str:
        """The key of a place that these words tell from the others."""
        text = json.dumps([self.shared, *words], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def joined_to(self, ledger: Ledger) -> Baseline:
        """This and what the ledger holds: classes in the benchmark's order, image sets as they came.

        Raises Mistake where the name belongs to a sweep, or to something that cannot be added to.
        """
        found = {place.name: place for place in _stored(self, ledger)}
        for place in self.places:
            before = found.setdefault(place.name, place)
            if before.key != place.key:
                raise Mistake(
                    f"The baseline {ledger.name!r} holds {place.name!r} with other images (resize "
                    f"{before.resize}; asked: {place.resize}): give the set another name, or choose another "
                    "--name."
                )
        order = {name: number for number, name in enumerate(self.classes)}
        places = sorted(found.values(), key=lambda place: order.get(place.name, len(order)))
        return replace(self, places=tuple(places if self.setting == HOLDOUT else found.values()))


def default_name(benchmark: str, method: str, asked: Sequence[object]) -> str:
    """Benchmark, method and a short hash of what is asked."""
    digest = hashlib.sha256(json.dumps([FORMAT, benchmark, method, *asked]).encode()).hexdigest()[:8]
    return f"{benchmark}-{method}-{digest}"


def write_asked(baseline: Baseline, ledger: Ledger, about: dict[str, object]) -> None:
    """Writes baseline.json; Mistake where the storage cannot be written."""
    places = [asdict(place) for place in baseline.places]
    try:
        ledger.write_json({**baseline.shared, "places": places, **about}, ASKED)
    except OSError as error:
        raise ledger.unwritable(error) from None


def _stored(baseline: Baseline, ledger: Ledger) -> list[Place]:
    """The places that the ledger holds under this name."""
    if ledger.exists():
        raise Mistake(f"{ledger.name!r} is the name of a sweep in {ledger.storage}: choose another --name.")
    try:
        stored: dict[str, Any] = json.loads(ledger.read(ASKED))
        places = [Place(**values) for values in stored["places"]]
    except FileNotFoundError:
        return []
    except (ValueError, KeyError, TypeError):
        raise Mistake(
            f"{ledger.uri(ASKED)} is no baseline of this version: restore it from a copy, or choose another "
            "--name."
        ) from None
    changed = [name for name, value in baseline.shared.items() if stored.get(name) != value]
    if changed:
        listed = ", ".join(f"{n} {stored.get(n)} (asked: {baseline.shared[n]})" for n in changed)
        raise Mistake(
            f"The baseline {ledger.name!r} exists with other values: {listed}. Choose another --name."
        )
    return places
