"""Passwords in command lines: what the list of processes shows of them."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

import pytest

from orchestrator.cli.process_list import without_password
from tests.sweeps import PLAIN, ROOT, command

URI = "http://me:secret@127.0.0.1"


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["--tracking-uri", f"{URI}/x"], ["--tracking-uri", "http://me:***@127.0.0.1/x"]),
        ([f"--tracking-uri={URI}/x"], ["--tracking-uri=http://me:***@127.0.0.1/x"]),
    ],
)
def test_the_password_of_a_tracking_uri_is_taken_out(words: list[str], shown: list[str]) -> None:
    assert without_password(["python", *words, "digits"]) == (["python", *shown, "digits"], f"{URI}/x")


def test_other_words_stay() -> None:
    words = ["python", "--tracking-uri", "http://127.0.0.1:5000", "--data", URI]
    assert without_password(words) == (words, None)


def test_a_command_is_listed_without_the_password_and_uses_it(tmp_path: Path) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        server.settimeout(120)
        words = ["--tracking-uri", f"{URI}:{server.getsockname()[1]}", "--storage", tmp_path, "--seeds", "1"]
        started = subprocess.Popen(
            command(*words, "--executor", "inline", "--name", "mine"),
            cwd=ROOT,
            env={**os.environ, **PLAIN},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            connection = server.accept()[0]
            with connection:
                request = connection.recv(10_000).decode()
            listed = subprocess.run(["ps", "axww", "-o", "args"], capture_output=True, text=True).stdout
        finally:
            started.kill()
            started.wait()
    port = str(words[1]).rsplit(":", 1)[1]
    assert "Authorization: Basic bWU6c2VjcmV0" in request
    assert f"http://me:***@127.0.0.1:{port}" in listed
    assert f"secret@127.0.0.1:{port}" not in listed
