"""Ray's token on this machine: each thing that can be wrong with it is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.machines.ray_token import token_error, token_path


@pytest.fixture(autouse=True)
def _token_mode(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    (home / ".ray").mkdir()


def test_a_token_must_be_there_and_not_empty_and_its_owner_s_alone() -> None:
    path = token_path()
    assert token_error().startswith(f"RAY_AUTH_MODE is token, but there is no token in {path}")
    path.write_text("\n")
    assert token_error() == f"RAY_AUTH_MODE is token, but {path} is empty"
    path.write_text("0" * 64)
    path.chmod(0o644)
    assert "has mode 644, should be 600" in token_error()
    path.chmod(0o600)
    assert token_error() == ""


def test_a_token_in_the_environment_needs_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "0" * 64)
    assert token_error() == ""


def test_the_file_can_be_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert token_path() == home / ".ray" / "auth_token"
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", "~/mine")
    assert token_path() == home / "mine"
