"""The ui command: MLflow's own server, and its page as a browser shows it."""

from __future__ import annotations

import csv
import re
import shutil
import signal
import subprocess
import urllib.request
from pathlib import Path

import pytest

from orchestrator.tracking.views import colour_of
from orchestrator.ui import main
from tests.hand_made_ledger import specification, write_sweep
from tests.sweeps import ROOT, command, run

THREE, TWO = "three-methods", "two-methods"
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
    """The storage folder of two finished sweeps, THREE and TWO, in one experiment."""
    folder = tmp_path_factory.mktemp("shown")
    shared = ("--aux-weight", "0.5", "--set", "epochs=2", "--executor", "inline", "--storage", folder)
    for name, methods, words in (
        (THREE, METHODS, ("--holdouts", "3", "8", "--seeds", "2")),
        (TWO, METHODS[:2], ("--holdouts", "5", "--seeds", "1")),
    ):
        done = run("--name", name, "--methods", *methods, *words, *shared)
        assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
def test_it_serves_the_page_until_it_is_interrupted(storage: Path) -> None:
    line = command(THREE, "--storage", storage, "--no-browser", module="orchestrator.ui")
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
def test_each_sweep_s_page_shows_its_own_cells_alone_and_their_numbers(storage: Path) -> None:
    line = command(THREE, "--storage", storage, "--no-browser", module="orchestrator.ui")
    with subprocess.Popen(line, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            address = address_in(process)
            addresses = {THREE: address, TWO: address.replace(f"Key={THREE}", f"Key={TWO}")}
            charts = {name: look(each) for name, each in addresses.items()}
            tables = {
                name: look(each.replace("&compareRunsMode=CHART", "")) for name, each in addresses.items()
            }
        finally:
            process.send_signal(signal.SIGINT)
    for name, matching in ((THREE, 10), (TWO, 2)):
        for words in (
            "Model training",
            "By held-out class",
            "holdout vs. final/ap_msp",
            "final/test_accuracy",
        ):
            assert words in charts[name], words
        assert f"{matching} matching runs" in tables[name]
        for cell in cells_of(storage, name):
            label = f"{cell['method']}/{cell['holdout']}/s{cell['seed']}"
            assert label in charts[name]
            assert f"{colour_of(cell['method'], METHODS)} {label} " in tables[name]
            for metric in ("ap_msp", "ap_odin", "test_accuracy", "ap_pixel-gaussian"):
                assert f" {cell.get(metric) or cell['holdout']} " in tables[name], (label, metric)
        for cell in cells_of(storage, TWO if name == THREE else THREE):
            assert f"{cell['method']}/{cell['holdout']}/" not in charts[name] + tables[name]
        # The experiment's note is on every page of it, with both sweeps' means.
        assert re.search(rf"{THREE} ?: 10 of 10 cells done. AP-MSP: classification \d", tables[name])
        assert re.search(rf"{TWO} ?: 2 of 2 cells done. AP-MSP: classification \d", tables[name])


def look(address: str) -> str:
    """What a wide browser shows at an address, as text."""
    assert BROWSER is not None
    line = [BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=2600,2400"]
    line += ["--virtual-time-budget=60000", "--dump-dom", address]
    page = subprocess.run(line, capture_output=True, text=True, timeout=300).stdout
    return " ".join(re.sub(r"<[^>]+>", " ", page).split())


def cells_of(storage: Path, name: str) -> list[dict[str, str]]:
    with (storage / name / "report" / "cells.csv").open() as file:
        return list(csv.DictReader(file))


def address_in(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    for text in process.stdout:
        if found := re.search(r"http://127\.0\.0\.1:\d+/#/\S+", text):
            return found[0]
    raise AssertionError("the server did not start")
