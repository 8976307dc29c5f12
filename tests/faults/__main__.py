"""`python -m tests.faults --seeds 0:200`: disturb sweeps by seed, a line each; exits with 1 if any failed."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import traceback
from dataclasses import asdict
from pathlib import Path

from tests.faults.harness import Outcome, Undisturbed, carry_out, run_undisturbed, undisturbed_of
from tests.faults.processes import SETTINGS, Become, preload
from tests.faults.schedules import Schedule, full_disk_schedules, ray_schedule, schedule


def main() -> int:
    """Run the seeds that are asked for, a few at a time."""
    options = _options()
    draw = ray_schedule if options.ray else schedule
    chosen = full_disk_schedules() if options.full_disk else [draw(seed) for seed in options.seeds]
    if options.show:
        for each in chosen:
            print(f"seed {each.seed:4d}  {each}")
        return 0
    folder = Path(options.folder or tempfile.mkdtemp(prefix="faults-"))
    folder.mkdir(parents=True, exist_ok=True)
    preload(folder)
    template = _template(folder)
    undisturbed = {
        variant: run_undisturbed(variant, folder / f"undisturbed-{variant.replace(' ', '-')}", template)
        for variant in dict.fromkeys(undisturbed_of(each.variant) for each in chosen)
    }
    failed = _run_all(chosen, undisturbed, folder, template, options.jobs)
    print(f"{len(chosen) - len(failed)} of {len(chosen)} schedules ended as the undisturbed sweep.")
    if failed:
        print(f"Failed: {' '.join(map(str, failed))}; what they left is in {folder}.")
    elif not options.folder:
        shutil.rmtree(folder)
    return int(bool(failed))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--seeds", type=_seeds, default=range(10), help="0:200, or 7, or 7,12")
    parser.add_argument("--jobs", type=int, default=2, help="how many schedules run at once")
    parser.add_argument("--ray", action="store_true", help="sweeps on Ray, struck from outside")
    parser.add_argument("--full-disk", action="store_true", help="a full disk at every kind of write")
    parser.add_argument("--folder", help="where the sweeps go; by default a temporary folder")
    parser.add_argument("--show", action="store_true", help="print the schedules and run none")
    return parser.parse_args()


def _seeds(text: str) -> list[int]:
    if ":" in text:
        first, last = text.split(":")
        return list(range(int(first), int(last)))
    return [int(part) for part in text.split(",")]


def _template(folder: Path) -> Path:
    """Make MLflow's empty database once: its migrations take a second that every sweep would wait."""
    from mlflow import MlflowClient

    template = folder / "template.db"
    process = os.fork()
    if not process:
        os.chdir(folder)
        MlflowClient(f"sqlite:///{template}").search_experiments()
        os._exit(0)
    os.waitpid(process, 0)
    return template


def _run_all(
    chosen: list[Schedule], undisturbed: dict[str, Undisturbed], folder: Path, template: Path, jobs: int
) -> list[int]:
    """Run schedules, each in a process of its own; print a line each and return the seeds that failed."""
    running: dict[int, Schedule] = {}
    waiting, failed = list(chosen), []
    while waiting or running:
        while waiting and len(running) < jobs:
            each = waiting.pop(0)
            running[_start(each, undisturbed[undisturbed_of(each.variant)], folder, template)] = each
        process, _ = os.wait()
        if process in running:
            each = running.pop(process)
            outcome = _outcome(folder, each)
            _print(each, outcome)
            if outcome.findings:
                failed.append(each.seed)
            else:
                shutil.rmtree(folder / f"seed-{each.seed}", ignore_errors=True)
    return sorted(failed)


def _start(each: Schedule, undisturbed: Undisturbed, folder: Path, template: Path) -> int:
    sys.stdout.flush()
    process = os.fork()
    if process:
        return process
    try:
        outcome = carry_out(each, undisturbed, folder / f"seed-{each.seed}", template)
    except Exception:
        outcome = Outcome(each.seed, [f"the harness itself failed: {traceback.format_exc()}"])
    _file(folder, each).write_text(json.dumps(asdict(outcome)))
    os._exit(0)


def _file(folder: Path, each: Schedule) -> Path:
    return folder / f"outcome-{each.seed}.json"


def _outcome(folder: Path, each: Schedule) -> Outcome:
    if not _file(folder, each).exists():
        return Outcome(each.seed, ["the process that disturbed it died"])
    return Outcome(**json.loads(_file(folder, each).read_text()))


def _print(each: Schedule, outcome: Outcome) -> None:
    verdict = "FAILED" if outcome.findings else "ok"
    struck = "; ".join(outcome.struck) or "nothing struck"
    cost = f"{outcome.seconds:5.1f} s  {outcome.starts} starts"
    print(f"seed {each.seed:4d}  {verdict:6}  {cost}  {each.variant}: {struck}")
    for end in outcome.ends:
        print(f"           {end}")
    for found in outcome.findings:
        print(f"           {found}")
    sys.stdout.flush()


if __name__ == "__main__":
    if not SETTINGS.items() <= os.environ.items():  # numpy starts threads, or not, when it is imported
        os.execve(
            sys.executable, [sys.executable, "-m", "tests.faults", *sys.argv[1:]], {**os.environ, **SETTINGS}
        )
    try:
        code = main()
    except Become as become:
        code = become.driver.run()
    sys.exit(code)
