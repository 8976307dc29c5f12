"""The process that looks after a command: whatever becomes of that, there is a word and no orphan."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from tests.processes import MARK, await_, children, marked
from tests.sweeps import ROOT

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")

WORK = """
import os, pathlib, signal, subprocess, sys, time
from orchestrator.cli.supervisor import supervised, tell
from orchestrator.cli.signals import say

def work():
    {work}

def afterwards(name):
    pathlib.Path(sys.argv[1], "afterwards").write_text(name)

def ready():
    pathlib.Path(sys.argv[1], "ready").touch()

sys.exit(supervised(work, grace={grace}, afterwards=afterwards))
"""

SLEEP = """
    tell(name="mine", resume="RESUME")
    ready()
    time.sleep(1000)
"""

DEAF = """
    tell(name="mine", resume="RESUME")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: say("deaf"))
    ready()
    while True:
        time.sleep(1000)
"""

LEAVES = """
    subprocess.Popen(["setsid", "sleep", "1000"])
    subprocess.run([sys.executable, "-c", "import subprocess; subprocess.Popen(['sleep', '1000'])"])
    ready()
    {end}
"""


class Supervised:
    def __init__(self, folder: Path, work: str, grace: float = 30, prefix: tuple[str, ...] = ()) -> None:
        self.mark, self.folder = uuid.uuid4().hex, folder
        self.process = subprocess.Popen(
            [*prefix, sys.executable, "-c", WORK.format(work=work.strip(), grace=grace), str(folder)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, MARK: self.mark},
        )

    def ready(self) -> Supervised:
        await_(lambda: (self.folder / "ready").exists() or self.process.poll() is not None)
        return self

    def end(self) -> tuple[int, str]:
        _, said = self.process.communicate(timeout=60)
        assert marked(self.mark) == {}
        return self.process.returncode, said


def test_the_exit_code_is_the_command_s(tmp_path: Path) -> None:
    assert Supervised(tmp_path, "return 7").end() == (7, "")
    assert Supervised(tmp_path, "sys.exit(3)").end() == (3, "")
    assert not (tmp_path / "afterwards").exists()


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_reaches_the_one_that_works(tmp_path: Path, name: str) -> None:
    command = Supervised(tmp_path, SLEEP).ready()
    number = signal.Signals[name]
    command.process.send_signal(number)
    assert command.end() == (128 + number, "Stopped before any work began.\n")


def test_who_does_not_stop_within_the_grace_is_ended(tmp_path: Path) -> None:
    command = Supervised(tmp_path, DEAF, grace=0.5).ready()
    command.process.send_signal(signal.SIGTERM)
    code, said = command.end()
    assert code == 143
    assert said == "deaf\nStopped by SIGTERM. Nothing that was done is lost; go on with: RESUME\n"
    assert (tmp_path / "afterwards").read_text() == "mine"


def test_a_second_signal_ends_at_once(tmp_path: Path) -> None:
    command = Supervised(tmp_path, DEAF).ready()
    # Signals that come together are one, so the first alone changes nothing.
    await_(lambda: command.process.poll() is not None or command.process.send_signal(signal.SIGINT))
    code, said = command.end()
    assert code == 130
    assert said.count("Stopped by SIGINT. Nothing that was done is lost; go on with: RESUME\n") == 1
    assert not (tmp_path / "afterwards").exists()


@pytest.mark.parametrize(
    ("end", "said"),
    [
        ("os._exit(9)", "ended with exit code 9 in the cell LABEL."),
        ("os.kill(os.getpid(), signal.SIGKILL)", "was killed by SIGKILL, which the kernel sends when"),
        ("os.abort()", "was killed by SIGABRT"),
    ],
)
def test_a_death_without_a_word_is_said(tmp_path: Path, end: str, said: str) -> None:
    command = Supervised(tmp_path, f'tell(name="mine", resume="RESUME", cell="LABEL"); {end}')
    code, sentence = command.end()
    assert code == 1
    assert said in sentence
    assert sentence.endswith("Nothing that was done is lost; go on with: RESUME\n")
    assert len(sentence.splitlines()) == 1
    assert (tmp_path / "afterwards").read_text() == "mine"


def test_ray_s_death_names_the_file_with_its_output_and_its_logs(tmp_path: Path) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    (temporary / "raylet.out").write_text("the raylet's last words")
    log = tmp_path / "ray.log"
    told = f'resume="RESUME", log="{log}", logs="{temporary}", temporary="{temporary}", why="it fell"'
    code, said = Supervised(tmp_path, f"tell({told}); os._exit(1)").end()
    assert code == 1
    assert f"Ray died while the sweep ran (it fell): its output is in {log}." in said
    assert "the raylet's last words" in log.read_text()
    assert not temporary.exists()


@pytest.mark.parametrize("end", ["return 0", "os._exit(1)", "time.sleep(1000)"])
def test_no_process_is_left(tmp_path: Path, end: str) -> None:
    command = Supervised(tmp_path, LEAVES.format(end=end)).ready()
    if "sleep" in end:
        command.process.send_signal(signal.SIGTERM)
    command.end()


def test_who_works_dies_with_the_one_who_looks_after_it(tmp_path: Path) -> None:
    command = Supervised(tmp_path, SLEEP).ready()
    assert len(children(command.process.pid)) == 1
    command.process.kill()
    command.process.communicate()
    await_(lambda: not marked(command.mark))


@pytest.mark.parametrize("ignored", ["SIGHUP", "SIGINT"])
def test_what_was_ignored_from_the_start_stays_ignored(tmp_path: Path, ignored: str) -> None:
    """As with nohup, and with & in a script."""
    prefix = ("sh", "-c", f'trap "" {ignored.removeprefix("SIG")}; exec "$@"', "sh")
    command = Supervised(tmp_path, SLEEP, prefix=prefix).ready()
    command.process.send_signal(signal.Signals[ignored])
    for pid in children(command.process.pid):
        os.kill(pid, signal.Signals[ignored])
    command.process.send_signal(signal.SIGTERM)
    assert command.end()[0] == 143
