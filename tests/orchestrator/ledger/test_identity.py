"""What tells ledgers apart: made once, and restored from wherever it is left."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.ledger.ledger import Ledger


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    return tmp_path


def again(storage: Path) -> Ledger:
    return Ledger(str(storage), "mine")


def test_it_is_made_once_and_another_ledger_has_another(storage: Path) -> None:
    first = again(storage).identity()
    assert len(first) == 32
    again(storage).write_sweep({})
    assert again(storage).identity() == first
    assert Ledger(str(storage), "yours").identity() != first
    assert Ledger(str(storage / "elsewhere"), "mine").identity() != first


@pytest.mark.parametrize("content", [None, "", "\0" * 32, "0123", "g" * 32, "0" * 32])
def test_the_sweep_restores_a_lost_file(
    storage: Path, content: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    again(storage).write_sweep({})
    first, file = again(storage).identity(), storage / "mine" / "identity"
    if content is None:
        file.unlink()
    else:
        file.write_text(content)
    assert again(storage).identity() == first
    assert file.read_text() == first
    assert capsys.readouterr().err == ""


def test_the_file_restores_that_of_a_lost_sweep(storage: Path) -> None:
    again(storage).write_sweep({})
    first = again(storage).identity()
    (storage / "mine" / "sweep.json").unlink()
    again(storage).write_sweep({})
    (storage / "mine" / "identity").unlink()
    assert again(storage).identity() == first


def test_if_both_are_lost_it_is_said_and_the_new_one_stays(
    storage: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again(storage).begin("k", {})
    first = again(storage).identity()
    assert "The identity of the sweep 'mine' was lost" in capsys.readouterr().err
    (storage / "mine" / "identity").write_text("")
    assert again(storage).identity() == first
