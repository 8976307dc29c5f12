"""The ui command: MLflow's own server, and its page as a browser shows it."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import urllib.request
from pathlib import Path

import pytest

from orchestrator.ui import main
from tests.hand_made_ledger import specification, write_sweep
from tests.sweeps import ROOT, command, only_sweep, run

METHODS = ("classification", "rotation", "pixel-gaussian")
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def test_a_sweep_without_a_page_is_refused_with_the_command_that_makes_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_sweep(tmp_path, specification())
    assert main(["mine", "--storage", str(tmp_path), "--no-browser"]) == 2
    said = capsys.readouterr().err
    assert "have no page of the sweep 'mine'" in said
    assert "orchestrator.report mine --rebuild-tracking" in said
    assert not (tmp_path / "mlflow.db").exists()


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The storage folder of a finished sweep of three methods."""
    folder = tmp_path_factory.mktemp("shown")
    words = ("--holdouts", "3", "8", "--seeds", "2", "--aux-weight", "0.5", "--set", "epochs=2")
    done = run("--methods", *METHODS, *words, "--executor", "inline", "--storage", folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
def test_it_serves_the_page_until_it_is_interrupted(storage: Path) -> None:
    sweep = only_sweep(storage)
    line = command(sweep.name, "--storage", storage, "--no-browser", module="orchestrator.ui")
    with subprocess.Popen(line, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            address = address_in(process)
            assert len(address) < 200
            with urllib.request.urlopen(address.partition("#")[0], timeout=30) as page:
                assert b"MLflow" in page.read()
        finally:
            process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 0
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(address.partition("#")[0], timeout=5)


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="needs Chromium")
def test_the_page_shows_every_method_s_ap_and_accuracy_by_held_out_class(storage: Path) -> None:
    sweep = only_sweep(storage)
    assert BROWSER is not None
    line = command(sweep.name, "--storage", storage, "--no-browser", module="orchestrator.ui")
    with subprocess.Popen(line, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            address = address_in(process)
            look = [BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1600,2400"]
            look += ["--virtual-time-budget=60000", "--dump-dom", address]
            page = subprocess.run(look, capture_output=True, text=True, timeout=300).stdout
        finally:
            process.send_signal(signal.SIGINT)
    seen = re.sub(r"<[^>]+>", " ", page)
    for words in ("Model training", "By held-out class", "holdout vs. final/ap_msp", "final/test_accuracy"):
        assert words in seen, words
    for method in METHODS:
        assert f"{method}/3/s0" in seen
        assert f"{method}/8/s0" in seen
    assert "rotation/3/search0" not in seen


def address_in(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    for text in process.stdout:
        if found := re.search(r"http://127\.0\.0\.1:\d+/#/\S+", text):
            return found[0]
    raise AssertionError("the server did not start")
