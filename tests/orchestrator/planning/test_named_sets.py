"""Image sets as they are asked for: names and paths, before any image is opened."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.planning.named_sets import named_sets
from orchestrator.planning.request import Request, draft
from orchestrator.planning.specification import RunSettings
from trainables.data.named_images import NamedImages
from trainables.mistake import Mistake


def test_sets_have_their_names_paths_and_resize(tmp_path: Path) -> None:
    words = (f"one={tmp_path}", f"lsun-crop={tmp_path}")
    assert named_sets(words, "crop", 4, 3) == (
        NamedImages("one", str(tmp_path), "crop", 4, 3),
        NamedImages("lsun-crop", str(tmp_path), "crop", 4, 3),
    )
    assert named_sets((), None, 1, 0) == ()


@pytest.mark.parametrize(
    ("words", "resize", "crops", "message"),
    [
        (("lsun",), None, 1, "--ood takes NAME=PATH"),
        (("lsun=",), None, 1, "--ood takes NAME=PATH"),
        (("Lsun=.",), None, 1, "small letters"),
        (("a/b=.",), None, 1, "small letters"),
        (("1a=.",), None, 1, "small letters"),
        (("a=nowhere",), None, 1, "nowhere does not exist"),
        (("a=.", "a=.."), None, 1, "names 'a' twice"),
        ((), "box", 1, "no use without image sets"),
        (("a=.",), "box", 2, "no use without --ood-resize crop"),
    ],
)
def test_what_cannot_be_is_a_mistake(
    words: tuple[str, ...], resize: str | None, crops: int, message: str
) -> None:
    with pytest.raises(Mistake, match=message):
        named_sets(words, resize, crops, 0)


def test_they_are_settings_and_no_part_of_what_the_sweep_is(tmp_path: Path) -> None:
    asked = Request(ood=(f"one={tmp_path}",), ood_resize="box", ood_seed=2)
    with_sets, without = draft(asked), draft(Request())
    complete = [each.complete("cpu", tuple("0123456789")) for each in (with_sets, without)]
    assert complete[0] == complete[1]
    assert with_sets.settings.image_sets == (NamedImages("one", str(tmp_path), "box", 1, 2),)
    assert RunSettings.from_json(with_sets.settings.as_json()) == with_sets.settings
