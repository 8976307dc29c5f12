"""`ray up` of the project's cluster.yaml on three machines, and what happens to them in a sweep.

    python -m pytest -m cluster tests/cluster

The machines are Linux namespaces (machines.py), and the file is changed only by cluster/on_premises.py. The
tests run in the order of this file: each but the last leaves a working cluster to the next.
"""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cluster.deployment import BUCKET, HEAD, Deployment
from tests.cluster.machines import HOME, Machines, missing
from tests.plugins import WHOLE
from tests.sweeps import ROOT, assert_equal_sweeps, cells, command

pytestmark = pytest.mark.cluster

SWEEP = ["digits", "--name", "faults", "--holdouts", "3", "8", "--seeds", "2", "--lambda-trials", "2"]
SWEEP += ["--set", "epochs=15", "ap_window=2", "checkpoint_seconds=0"]
CELLS = 12

ASK = """
import json, os, urllib.error, urllib.request
def answer(port, path, **headers):
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers)
    try:
        return urllib.request.urlopen(request, timeout=10).status
    except urllib.error.HTTPError as error:
        return error.code
token = open(os.path.expanduser("~/.ray/auth_token")).read()
"""

SCAN = """
import json, socket
found = []
for port in range(1, 65536):
    with socket.socket() as one:
        one.settimeout(1)
        if one.connect_ex(("10.99.0.11", port)) == 0:
            found.append(port)
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """Three nodes, all of them alive."""
    reason = missing()
    if not reason:
        check = [sys.executable, str(ROOT / "cluster" / "installed.py")]
        said = subprocess.run(check, capture_output=True, text=True).stdout
        reason = f"packages differ from what the cluster needs: {said.splitlines()[0]}" if said else ""
    if not reason and importlib.util.find_spec("moto") is None:
        reason = "moto is not installed: it comes with the test extra"
    if reason:
        pytest.skip(reason)
    with Machines(3) as machines:
        deployment = Deployment(machines, tmp_path_factory.mktemp("deployment"))
        try:
            deployment.fill_store()
            deployment.write_file()
            done = deployment.up()
            assert done.returncode == 0, done.stdout + done.stderr
            deployment.await_nodes(3)
            yield deployment
        finally:
            deployment.close()


@pytest.fixture(scope="module")
def outsider(cluster: Deployment) -> subprocess.Popen[str]:
    """A driver without the token on another machine of the network; Ray lets it try for 20 s."""
    code = "import ray; ray.init('10.99.0.11:6379', logging_level='CRITICAL'); print('inside')"
    return subprocess.Popen(
        [sys.executable, "-c", code],
        env={"PATH": "/usr/bin:/bin", "HOME": str(cluster.folder), "RAY_AUTH_MODE": "disabled"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_the_doctor_finds_the_cluster_well(cluster: Deployment, outsider: subprocess.Popen[str]) -> None:
    done = cluster.exec("python -m orchestrator.doctor --data ~/data")
    assert done.returncode == 0, done.stdout
    assert "has 3 live nodes" in done.stdout
    assert "The tracking server http://127.0.0.1:5000 answers" in done.stdout


def test_without_the_password_mlflow_answers_401(cluster: Deployment) -> None:
    code = 'print([answer(5000, path) for path in ("/", "/api/2.0/mlflow/experiments/search?max_results=1")])'
    assert cluster.python(HEAD, ASK + code).strip() == "[401, 401]"


def test_from_outside_the_head_has_ssh_and_rays_own_ports_only(cluster: Deployment) -> None:
    found = json.loads(cluster.python(2, SCAN))
    listening = cluster.machines.ssh(HEAD, "ss --listening --tcp --numeric --processes --no-header").stdout
    owners: dict[int, str] = {}
    for line in listening.splitlines():
        fields = line.split()
        owners[int(fields[3].rpartition(":")[2])] = re.search(r"pid=(\d+)", line).group(1)  # type: ignore[union-attr]
    assert {22, 6379} <= set(found)
    assert not {5000, 8265} & set(found), "MLflow and the dashboard"
    for port in found:
        owner = cluster.machines.ssh(HEAD, f"tr '\\0' ' ' </proc/{owners[port]}/cmdline").stdout
        assert "sshd" in owner or "ray" in owner, (port, owner)


def test_a_storage_that_is_not_shared_is_refused_in_one_sentence(cluster: Deployment) -> None:
    refused = cluster.exec("python -m orchestrator.sweep digits --seeds 1 --storage ./runs")
    assert refused.returncode != 0
    said = refused.stdout + refused.stderr
    assert "Error: The storage ./runs is not shared: 10.99.0.12 (machine2), 10.99.0.13 (machine3)" in said
    assert "--storage s3://" in said
    assert "Traceback" not in said


def test_without_the_token_nobody_gets_in(cluster: Deployment, outsider: subprocess.Popen[str]) -> None:
    code = """
for path in ("/api/version", "/api/jobs/", "/api/cluster_status", "/nodes?view=summary"):
    bearers = ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Bearer {token}"})
    print([answer(8265, path, **bearer) for bearer in bearers])
"""
    assert cluster.python(HEAD, ASK + code).splitlines() == ["[401, 403, 200]"] * 4
    submit = "env -u RAY_AUTH_MODE HOME=/tmp ray job submit --address http://127.0.0.1:8265 -- true"
    refused = cluster.machines.ssh(HEAD, submit)
    assert refused.returncode != 0
    assert re.search("401|[Aa]uthentication", refused.stdout + refused.stderr)
    said = outsider.communicate(timeout=60)[0]
    assert "inside" not in said
    assert "Failed to connect" in said
    assert outsider.returncode != 0


def test_the_doctor_names_everything_that_is_wrong(cluster: Deployment) -> None:
    ssh = cluster.machines.ssh
    ssh(2, "mv ~/data ~/elsewhere")
    fake = f"{HOME}/holdout-sweeps/ray-2.59.0.dist-info"
    ssh(3, f"mkdir {fake}; printf 'Metadata-Version: 2.1\\nName: ray\\nVersion: 2.59.0\\n' >{fake}/METADATA")
    ssh(3, "mkdir -p ~/.cache; mount -t tmpfs -o size=1m none ~/.cache")
    stop_mlflow(cluster)
    try:
        done = cluster.exec("python -m orchestrator.doctor --data ~/data")
        tokenless = ssh(HEAD, "env -u RAY_ADDRESS RAY_AUTH_TOKEN_PATH=/nowhere python -m orchestrator.doctor")
    finally:
        ssh(2, "mv ~/elsewhere ~/data")
        ssh(3, f"rm -r {fake}; umount ~/.cache")
        start_mlflow(cluster)
    assert done.returncode != 0
    wrong = [line for line in done.stdout.splitlines() if line.startswith("WRONG")]
    for said in (
        rf"10.99.0.12 \(machine2\): the data cannot be read \({HOME}/data is not there\)",
        r"10.99.0.13 \(machine3\): ray is 2.59.0, and constraints.txt pins",
        rf"10.99.0.13 \(machine3\): the disk of {HOME}/.cache, for prepared data, is full",
        r"The tracking server http://127.0.0.1:5000 does not answer",
    ):
        assert any(re.search(said, line) for line in wrong), (said, done.stdout)
    assert len(wrong) == 4
    assert "there is no token in /nowhere" in tokenless.stdout


def test_a_plug_in_travels_to_machines_that_lack_its_file(cluster: Deployment) -> None:
    """Only the head has it; the images that its reader draws are prepared on every machine."""
    cluster.machines.ssh(HEAD, f"cat >~/mine.py <<'END'\n{WHOLE}\nEND")
    cpus = cluster.machines.ssh(HEAD, "nproc").stdout.strip()  # a cell fills a machine
    words = "shades --plugin ~/mine.py --methods classification negative --holdouts b c d --seeds 1"
    words += f" --detectors msp norm --cpus-per-worker {cpus} --name plugged"
    done = cluster.exec(f"python -m orchestrator.sweep {words}")
    assert done.returncode == 0, done.stdout
    results = [cell / "result.json" for cell in cells(cluster.download("plugged")).values()]
    hosts = {json.loads(result.read_text())["attempt"]["host"] for result in results}
    assert hosts & {"machine2", "machine3"}, hosts
    for number in (2, 3):
        assert "shades-" in cluster.machines.ssh(number, "ls ~/.cache/holdout-sweeps").stdout
        assert cluster.machines.ssh(number, "ls ~/mine.py").returncode != 0


def test_a_sweep_outlives_its_machines_and_its_tracking_server(cluster: Deployment, tmp_path: Path) -> None:
    alone = subprocess.Popen(
        command(*SWEEP, "--executor", "inline", "--storage", tmp_path),
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    words = " ".join([*SWEEP, "--max-concurrent", "6", "--storage", f"{BUCKET}/runs"])
    submit = f"ray job submit --no-wait --submission-id faults -- python -m orchestrator.sweep {words}"
    submitted = cluster.machines.ssh(HEAD, submit)
    assert submitted.returncode == 0, submitted.stderr
    wait_for(lambda: all_are_training(cluster), cluster, 240)
    cluster.machines.power_cut(3)
    cluster.machines.unplug(2)
    stop_mlflow(cluster)
    time.sleep(20)
    start_mlflow(cluster)
    wait_for(lambda: "succeeded" in job_status(cluster), cluster, 480)
    assert cluster.files("faults", "result.json") == CELLS
    cluster.machines.plug(2)

    assert alone.wait(240) == 0, alone.stderr.read().decode() if alone.stderr else ""
    here = cluster.download("faults")
    assert_equal_sweeps(here, tmp_path / "faults")
    again = [json.loads((cell / "cell.json").read_text())["attempts"] for cell in cells(here).values()]
    assert sum(attempts > 1 for attempts in again) >= 2, "cells of both machines were begun again"
    assert records(cluster) == {"FINISHED": CELLS + 1}, "one run per cell, and the sweep's own"


def test_machines_that_come_back_join_by_themselves(cluster: Deployment) -> None:
    cluster.machines.start(3)
    cluster.await_nodes(3, 150)


def test_ray_down_leaves_nothing(cluster: Deployment) -> None:
    """As docs/cluster.md says for machines of your own; on AWS, the machines themselves are ended."""
    done = cluster.ray("down", "--yes", str(cluster.file))
    assert done.returncode == 0, done.stderr
    stop_mlflow(cluster)
    for number in (2, 3):
        cluster.machines.ssh(number, "ray stop")
    for number in (HEAD, 2, 3):
        left = cluster.machines.ssh(number, "pgrep -af '[r]aylet|[g]cs_server|[r]ay::|[m]lflow'").stdout
        assert left == "", f"machine {number}"


def all_are_training(cluster: Deployment) -> bool:
    """Return whether both machines that will fail run trials, and every trial has begun its cell."""
    count = "pgrep -fc '[r]ay::ImplicitFunc.train'"
    trials = [int(cluster.machines.ssh(number, count).stdout or 0) for number in (1, 2, 3)]
    underway = cluster.files("faults", "cell.json") - cluster.files("faults", "result.json")
    return min(trials[1:]) > 0 and underway >= sum(trials)


def stop_mlflow(cluster: Deployment) -> None:
    """End the server and the loop that would start it again."""
    cluster.machines.ssh(HEAD, "kill -KILL -- -$(cat ~/.holdout-sweeps/mlflow/loop)")


def start_mlflow(cluster: Deployment) -> None:
    """Start the server again, with the set-up script."""
    done = cluster.machines.ssh(HEAD, "bash ~/holdout-sweeps/cluster/set_up.sh head")
    assert done.returncode == 0, done.stderr


def job_status(cluster: Deployment) -> str:
    """Return what Ray says of the sweep's job: pending, running, stopped, failed or succeeded."""
    done = cluster.machines.ssh(HEAD, "ray job status faults")
    return (done.stdout + done.stderr).lower()


def wait_for(holds: Callable[[], bool], cluster: Deployment, seconds: float) -> None:
    """Wait until a condition holds. Fail with the job's log if that takes too long or the job fails."""
    limit = time.monotonic() + seconds
    while not holds():
        late = time.monotonic() > limit
        if late or "'faults' failed" in job_status(cluster):
            log = cluster.machines.ssh(HEAD, "ray job logs faults | tail -n 40")
            pytest.fail(f"{'too late' if late else 'the job failed'}:\n{log.stdout}{log.stderr}")
        time.sleep(1)


def records(cluster: Deployment) -> dict[str, int]:
    """Return how many runs of the sweep MLflow has, by status."""
    code = """
import collections, json
from mlflow import MlflowClient
client = MlflowClient()
names = [client.get_experiment_by_name(name).experiment_id for name in ("digits", "digits-search")]
runs = client.search_runs(names, "tags.sweep = 'faults'", max_results=1000)
print(json.dumps(collections.Counter(run.info.status for run in runs)))
"""
    counts: dict[str, int] = json.loads(cluster.python(HEAD, code).splitlines()[-1])
    return counts
