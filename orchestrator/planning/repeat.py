"""The request that asks for a sweep's specification again, from nothing."""

from __future__ import annotations

import dataclasses

from orchestrator.planning.request import GPU_PRECISION, Request, draft
from orchestrator.planning.specification import OWN, Specification, StoredSweep
from trainables.data.named_images import NamedImages
from trainables.mistake import Mistake
from trainables.recipe import Recipe
from trainables.settings import valid_of
from trainables.spaces import spelt


def repeating_request(stored: StoredSweep, storage: str) -> Request | None:
    """Return the request of a new sweep with the same specification; None if no command line asks for it.

    That is so if a plug-in defined a part of it, which is not executed here, or if an earlier version began
    it by rules that new sweeps do not have.
    """
    if stored.specification.plugins:
        return None
    try:
        request = _request(stored, storage)
        again = draft(request).complete(stored.specification.device, stored.classes)
    except Mistake:
        return None
    return request if again == stored.specification else None


def _request(stored: StoredSweep, storage: str) -> Request:
    wanted = stored.specification
    holdouts = () if wanted.holdouts == stored.classes else wanted.holdouts
    own = wanted.protocol == OWN
    bare = Request(
        benchmark=wanted.benchmark,
        methods=wanted.methods,
        holdouts=holdouts,
        seeds=wanted.seeds,
        select=wanted.select,
        aux_weight=tuple(f"{task}={spelt(weight)}" for task, weight in (wanted.aux_weights or {}).items()),
        workers=wanted.workers,
        cpus_per_worker=float(wanted.threads),
        search=tuple(f"{name}={space}" for name, space in wanted.search.items()),
        search_seeds=wanted.search_seeds,
        choose=wanted.choose,
        halving=wanted.halving,
        protocol=wanted.protocol,
        groups=wanted.grouped_by,
        detectors=stored.settings.detectors,
        data=stored.data,
        storage=storage,
    )
    bare = _with_sets(bare, stored.settings.image_sets)
    words = []
    if wanted.recipe.fidelity != "paper":
        words.append(f"fidelity={wanted.recipe.fidelity}")
    basis = draft(dataclasses.replace(bare, assignments=tuple(words))).complete(wanted.device, stored.classes)
    words += _changes(wanted, basis)
    if own:
        words += [f"lambda.{t}={space}" for t, space in wanted.spaces.items() if space != basis.spaces[t]]
    return dataclasses.replace(bare, assignments=tuple(words))


def _changes(wanted: Specification, basis: Specification) -> list[str]:
    """Return assignments of what differs from a specification without them."""
    words = []
    batch = wanted.recipe.batch_size != basis.recipe.batch_size
    for name in valid_of(Recipe):
        ours, theirs = getattr(wanted.recipe, name), getattr(basis.recipe, name)
        searched = name in wanted.search
        # A batch size that is set sets micro_batch, too.
        if (ours != theirs or (name == "micro_batch" and batch)) and not searched:
            words.append(f"{name}={spelt(ours)}")
    for name in valid_of(Specification):
        ours, theirs = getattr(wanted, name), getattr(basis, name)
        if ours != theirs:
            words.append(f"{name}={spelt(ours)}")
    if wanted.device == "cuda" and wanted.recipe.precision == GPU_PRECISION:
        words = [word for word in words if not word.startswith("precision=")]
    return words


def _with_sets(request: Request, sets: tuple[NamedImages, ...]) -> Request:
    """Return a request with image sets, which all are read in the same way."""
    if not sets:
        return request
    return dataclasses.replace(
        request,
        ood=tuple(f"{each.name}={each.path}" for each in sets),
        ood_resize=sets[0].resize or None,
        crops_per_image=sets[0].crops_per_image,
        ood_seed=sets[0].seed,
    )
