"""The image sets that a request names with --ood, checked as far as that needs no image."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from trainables.data.named_images import CROP, SET_NAME, NamedImages
from trainables.mistake import Mistake


def named_sets(
    words: Sequence[str], resize: str | None, crops_per_image: int, seed: int
) -> tuple[NamedImages, ...]:
    """Return the sets of words NAME=PATH; raise Mistake for what is not valid, missing or without use."""
    if resize is not None and not words:
        raise Mistake("--ood-resize has no use without image sets: name some with --ood NAME=PATH.")
    if crops_per_image != 1 and resize != CROP:
        raise Mistake("--crops-per-image has no use without --ood-resize crop: add it, or leave this out.")
    found: dict[str, NamedImages] = {}
    for word in words:
        name, equals, path = word.partition("=")
        if not equals or not path:
            raise Mistake(f"--ood takes NAME=PATH, such as lsun-crop=LSUN/test, but was given {word!r}.")
        if not re.fullmatch(SET_NAME, name):
            raise Mistake(
                f"--ood {word}: the name {name!r} is not valid: use small letters, numerals and dashes, "
                "beginning with a letter."
            )
        if name in found:
            raise Mistake(f"--ood names {name!r} twice: give each image set a name of its own.")
        if not Path(path).expanduser().exists():
            raise Mistake(f"--ood {word}: {path} does not exist; give a folder, an archive or Parquet file.")
        found[name] = NamedImages(name, path, resize, crops_per_image, seed)
    return tuple(found.values())
