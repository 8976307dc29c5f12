"""What is found by name: the digest of its source."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import pytest

from trainables.detectors import DETECTORS
from trainables.registry import source_digest


def test_a_source_s_digest_is_its_file_s_or_what_its_plug_in_states(monkeypatch: pytest.MonkeyPatch) -> None:
    found = DETECTORS.find("max-logit")
    module = sys.modules[found.__module__]
    assert source_digest(found) == hashlib.sha256(Path(str(module.__file__)).read_bytes()).hexdigest()
    assert source_digest(found) != source_digest(DETECTORS.find("msp"))
    monkeypatch.setattr(module, "__plugin__", "abc", raising=False)
    assert source_digest(found) == "abc"
