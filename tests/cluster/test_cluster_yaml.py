"""cluster.yaml against Ray's own schema and its whole start on AWS, which moto simulates."""

from __future__ import annotations

import copy
import json
import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from tests.sweeps import ROOT

pytest.importorskip("moto", reason="moto is not installed: it comes with the test extra")

import boto3  # type: ignore[import-untyped]
from botocore.client import BaseClient  # type: ignore[import-untyped]
from moto import mock_aws
from ray.autoscaler._private.aws import node_provider
from ray.autoscaler._private.aws.config import bootstrap_aws
from ray.autoscaler._private.util import prepare_config, validate_config

HEAD, WORKER = "holdout-sweeps-head", "holdout-sweeps-worker"

PAGE = (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8")
POLICIES = dict(re.findall(r"`(\w+\.json)`(?:(?!\.json`).)*?```json\n(.*?)```", PAGE, re.DOTALL))
"""The page's files of rights, by the name that stands before each."""


@pytest.fixture
def config() -> dict[str, Any]:
    """cluster.yaml as it is in the repository."""
    values: dict[str, Any] = yaml.safe_load((ROOT / "cluster.yaml").read_text())
    return values


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The id of an image in an AWS account that has the two instance profiles.

    Ray's key pair is written to a folder of the tests. The list of instance types, which takes moto two
    seconds, is requested only once.
    """
    with pytest.MonkeyPatch.context() as environment, mock_aws():
        environment.setenv("AWS_DEFAULT_REGION", "us-west-2")
        environment.delenv("AWS_ENDPOINT_URL", raising=False)
        environment.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        set_up_account()
        environment.setattr(node_provider, "list_ec2_instances", cache(node_provider.list_ec2_instances))
        yield boto3.client("ec2").describe_images()["Images"][0]["ImageId"]


def set_up_account() -> None:
    """Give the page's commands of `aws iam`."""
    account = boto3.client("sts").get_caller_identity()["Account"]
    iam = boto3.client("iam")
    iam.create_user(UserName="USER")
    for line in re.findall(r"^ *aws iam (.*)$", PAGE, re.MULTILINE):
        name, *words = shlex.split(line)
        given = {}
        for option, value in zip(words[::2], words[1::2], strict=True):
            if value.startswith("file://"):
                value = POLICIES[value.removeprefix("file://")].replace("ACCOUNT", account)
            given["".join(part.title() for part in option.removeprefix("--").split("-"))] = value
        getattr(iam, name.replace("-", "_"))(**given)


def allowed(file: str) -> list[str]:
    """Return the actions that a file of rights allows, as patterns."""
    return [action for part in json.loads(POLICIES[file])["Statement"] for action in part["Action"]]


def bootstrapped(config: dict[str, Any], image: str) -> dict[str, Any]:
    """Return the file's values as `ray up` completes them, with what it makes in the account first.

    Raise what `ray up` would raise for whatever Ray or EC2's API refuses.
    """
    config = copy.deepcopy(config)
    for node in config["available_node_types"].values():
        if node["node_config"].get("ImageId") == "ami-CHANGE-ME":
            node["node_config"]["ImageId"] = image
    config = node_provider.AWSNodeProvider.fillout_available_node_types_resources(prepare_config(config))
    validate_config(config)
    ready: dict[str, Any] = bootstrap_aws(config)
    return ready


def start(config: dict[str, Any], name: str) -> tuple[Any, Any]:
    """Start a machine of a type; return EC2's instance and Ray's provider, which can end it."""
    provider = node_provider.AWSNodeProvider(config["provider"], config["cluster_name"])
    node = copy.deepcopy(config["available_node_types"][name]["node_config"])
    made = provider.create_node(node, {"ray-node-name": name, "ray-user-node-type": name}, 1)
    return next(iter(made.values())), provider


def launch(config: dict[str, Any], image: str) -> dict[str, tuple[Any, dict[str, Any]]]:
    """Start one machine of each type; return EC2's instance and the node type, by name."""
    config = bootstrapped(config, image)
    return {name: (start(config, name)[0], node) for name, node in config["available_node_types"].items()}


def test_a_cpu_head_and_spot_gpu_workers_start_on_aws(aws: str, config: dict[str, Any]) -> None:
    instances = launch(config, aws)
    head, head_node = instances["head"]
    gpu, gpu_node = instances["gpu"]
    assert head_node["resources"]["CPU"] == 0
    assert "GPU" not in head_node["resources"]
    assert gpu_node["resources"]["GPU"] >= 1
    assert head.instance_lifecycle is None
    assert gpu.instance_lifecycle == "spot"
    assert head.iam_instance_profile["Arn"].endswith(f"/{HEAD}")
    assert gpu.iam_instance_profile["Arn"].endswith(f"/{WORKER}")
    for instance, node in instances.values():
        assert len(node["node_config"]["SubnetIds"]) == 3, "several zones"
        (disk,) = instance.block_device_mappings
        assert boto3.resource("ec2").Volume(disk["Ebs"]["VolumeId"]).size >= 100


def test_the_security_group_lets_in_ssh_and_the_cluster_itself_only(aws: str, config: dict[str, Any]) -> None:
    instance, _ = launch(config, aws)["head"]
    (group,) = instance.security_groups
    found = boto3.client("ec2").describe_security_groups(GroupIds=[group["GroupId"]])
    for rule in found["SecurityGroups"][0]["IpPermissions"]:
        from_itself = [pair["GroupId"] for pair in rule["UserIdGroupPairs"]] == [group["GroupId"]]
        assert from_itself or (rule["FromPort"], rule["ToPort"]) == (22, 22)


def test_the_page_s_rights_are_what_ray_asks_for(
    aws: str, config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The user starts and ends the head, and the head the workers."""
    asked: set[str] = set()
    call = BaseClient._make_api_call

    def note(self: Any, name: str, words: Any) -> Any:
        asked.add(f"{self.meta.service_model.service_name}:{name}")
        return call(self, name, words)

    for pair in boto3.client("ec2").describe_key_pairs()["KeyPairs"]:
        boto3.client("ec2").delete_key_pair(KeyName=pair["KeyName"])
    monkeypatch.setattr(BaseClient, "_make_api_call", note)
    ready = bootstrapped({**config, "cluster_name": "another"}, aws)
    assert {"ec2:CreateSecurityGroup", "ec2:CreateKeyPair"} <= asked
    for name, file in (("head", "user.json"), ("gpu", "machines.json")):
        machine, provider = start(ready, name)
        provider.non_terminated_nodes({})
        provider.terminate_node(machine.id)
        assert {"ec2:RunInstances", "ec2:TerminateInstances", "ec2:DescribeInstances"} <= asked
        assert [one for one in asked if not any(fnmatch(one, action) for action in allowed(file))] == []
        asked.clear()


@pytest.mark.parametrize(("file", "passed"), [("user.json", {HEAD, WORKER}), ("machines.json", {WORKER})])
def test_roles_that_must_be_passed_may_be_passed(file: str, passed: set[str]) -> None:
    (roles,) = (
        part["Resource"]
        for part in json.loads(POLICIES[file])["Statement"]
        if "iam:PassRole" in part["Action"]
    )
    assert {role.rpartition("/")[2] for role in ([roles] if isinstance(roles, str) else roles)} == passed


def test_the_account_has_roles_with_the_page_s_rights(aws: str) -> None:
    iam = boto3.client("iam")
    for name, policies in ((HEAD, ["bucket", "machines"]), (WORKER, ["bucket"])):
        (role,) = iam.get_instance_profile(InstanceProfileName=name)["InstanceProfile"]["Roles"]
        assert iam.list_role_policies(RoleName=role["RoleName"])["PolicyNames"] == policies
        for policy in policies:
            given = iam.get_role_policy(RoleName=role["RoleName"], PolicyName=policy)["PolicyDocument"]
            actions = [action for part in given["Statement"] for action in part["Action"]]
            assert actions == allowed(f"{policy}.json")
    assert iam.list_user_policies(UserName="USER")["PolicyNames"] == ["holdout-sweeps"]


MISTAKES: dict[str, Callable[[dict[str, Any]], object]] = {
    "a key misspelled": lambda c: c.update(max_worker=c.pop("max_workers")),
    "a head type that is not there": lambda c: c.update(head_node_type="heads"),
    "more workers at least than at most": lambda c: c["available_node_types"]["gpu"].update(min_workers=9),
    "an instance type that does not exist": lambda c: c["available_node_types"]["gpu"]["node_config"].update(
        InstanceType="g5.2xlagre"
    ),
    "a key of EC2 misspelled": lambda c: c["available_node_types"]["gpu"]["node_config"].update(
        InstanceMarketOption={"MarketType": "spot"}
    ),
    "zones of another region": lambda c: c["provider"].update(availability_zone="eu-west-1a,eu-west-1b"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_it_is_caught(aws: str, config: dict[str, Any], mistake: str) -> None:
    MISTAKES[mistake](config)
    with pytest.raises(Exception):  # noqa: B017, PT011 - any exception will do; Ray raises many kinds
        launch(config, aws)


def test_it_sends_what_exists_and_starts_with_the_token(config: dict[str, Any]) -> None:
    for local in config["file_mounts"].values():
        assert local.startswith("~") or (ROOT / local).exists(), local
    assert config["provider"]["cache_stopped_nodes"] is False
    head, worker = config["head_start_ray_commands"][-1], config["worker_start_ray_commands"][-1]
    for command in (head, worker):
        assert "RAY_AUTH_MODE=token ray start" in command
        assert "ulimit -n" in command
    assert "--dashboard-host=127.0.0.1" in head


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not on this machine")
def test_the_mlflow_service_is_valid_and_wanted_at_boot() -> None:
    unit = ROOT / "cluster" / "holdout-mlflow@.service"
    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert unit.name not in done.stderr
    assert "WantedBy=multi-user.target" in unit.read_text()


# The set-up script


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A new machine's home folder with the token, where the machine has the packages already."""
    check = subprocess.run(
        [sys.executable, ROOT / "cluster" / "installed.py"], capture_output=True, text=True
    )
    if check.returncode:
        pytest.skip(f"the set-up would install packages here: {check.stdout.splitlines()[0]}")
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("0" * 64)
    (tmp_path / ".ray" / "auth_token").chmod(0o644)
    return tmp_path


def set_up(home: Path, bucket: str) -> subprocess.CompletedProcess[str]:
    """Run the script as cluster.yaml does for every machine."""
    (home / ".holdout-bucket").write_text(bucket)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return subprocess.run(
        ["bash", ROOT / "cluster" / "set_up.sh", "node"],
        env={**os.environ, "HOME": str(home), "PATH": path},
        capture_output=True,
        text=True,
    )


def test_set_up_twice_is_set_up_once(home: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    bucket = tmp_path_factory.mktemp("bucket")
    (bucket / "data" / "set").mkdir(parents=True)
    (bucket / "data" / "set" / "one.bin").write_bytes(b"1234")
    first = set_up(home, str(bucket))
    assert first.returncode == 0, first.stderr
    assert "1 files copied" in first.stdout
    assert (home / "data" / "set" / "one.bin").read_bytes() == b"1234"
    token = home / ".ray" / "auth_token"
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    before = (home / ".bashrc").read_text()
    again = set_up(home, str(bucket))
    assert "0 files copied" in again.stdout
    assert (home / ".bashrc").read_text() == before
    shell = subprocess.run(
        ["bash", "-c", ". ~/.bashrc; echo $RAY_AUTH_MODE $HOLDOUT_BUCKET; command -v python"],
        env={"HOME": str(home), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    assert shell.stdout.split() == ["token", str(bucket), str(Path(sys.executable).parent / "python")]


def test_set_up_names_what_was_forgotten(home: Path) -> None:
    forgotten = set_up(home, "s3://CHANGE-ME")
    assert forgotten.returncode == 1
    assert "bucket is not filled in" in forgotten.stderr
    (home / ".ray" / "auth_token").unlink()
    tokenless = set_up(home, "s3://somewhere")
    assert tokenless.returncode == 1
    assert "ray get-auth-token --generate" in tokenless.stderr


def program(folder: Path, name: str, text: str) -> None:
    """Write a command that is found before the machine's own."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/bash\n{text}\n")
    (folder / name).chmod(0o755)


def test_the_machine_s_own_environment_is_read_before_a_python_is_chosen(
    home: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    program(home / "own", "python", f'exec "{sys.executable}" "$@"')
    (home / ".holdout-environment").write_text('export PATH="$HOME/own:$PATH"\n')
    done = set_up(home, str(tmp_path_factory.mktemp("bucket")))
    assert done.returncode == 0, done.stderr
    assert f"packages are installed for {home}/own/python" in done.stdout


NEW_PYTHON = """
case $2 in
venv) [ -e ~/installed ] || exit 1; mkdir -p "${@: -1}/bin"; cp "$0" "${@: -1}/bin/python" ;;
import*print*) echo python3.11-venv ;;
esac
"""
"""A Python 3.11 that can make environments once the package for it is installed."""

BUSY_APT = """
echo "$DEBIAN_FRONTEND $*" >>~/asked
[ $(wc -l <~/asked) -gt 1 ] || { echo "E: Could not get lock /var/lib/apt/lists/lock." >&2; exit 100; }
[[ $* != *install* ]] || touch ~/installed
"""
"""An apt-get that finds the lists locked the first time, as during a new Ubuntu's own updates."""


def test_a_new_machine_s_own_updates_are_waited_for(home: Path) -> None:
    own = home / "own"
    program(own, "python3.11", NEW_PYTHON)
    program(own, "apt-get", BUSY_APT)
    program(own, "sudo", 'shift; exec "$@"')
    program(own, "python", "exit 1")
    program(own, "sleep", "")
    (home / ".holdout-environment").write_text('export PATH="$HOME/own:$PATH"\n')
    done = set_up(home, "/nowhere")
    assert done.returncode == 0, done.stderr
    asked = (home / "asked").read_text().splitlines()
    assert [line.split()[-1] for line in asked] == ["update", "update", "python3.11-venv"]
    assert all(line.startswith("noninteractive -qq -o DPkg::Lock::Timeout=300") for line in asked)
    assert "waiting" in done.stdout
    program(own, "apt-get", "echo 'E: no network' >&2; exit 100")
    (home / "installed").unlink()
    shutil.rmtree(home / ".holdout-sweeps" / "venv")
    assert "apt-get update failed: E: no network" in set_up(home, "/nowhere").stderr


# The MLflow server where systemd does not run

without_systemd = pytest.mark.skipif(Path("/run/systemd/system").is_dir(), reason="systemd runs here")


@pytest.fixture
def head(tmp_path: Path) -> Iterator[Path]:
    """The home folder of a head whose MLflow server writes down its database and then does nothing."""
    own = tmp_path / ".holdout-sweeps"
    (own / "mlflow").mkdir(parents=True)
    for name in ("password", "secret"):
        (own / "mlflow" / name).write_text("0")
    program(tmp_path / "bin", "mlflow", 'echo "$DATABASE" >>~/started; exec sleep 600')
    program(tmp_path / "bin", "python", "[ -s ~/started ]")  # in place of asking whether MLflow answers
    (own / "environment").write_text(f'export PATH="{tmp_path}/bin:$PATH" HOLDOUT_BUCKET=/nowhere\n')
    yield tmp_path
    subprocess.run(
        ["bash", "-c", "kill -KILL -- -$(cat ~/.holdout-sweeps/mlflow/loop)"], env={"HOME": str(tmp_path)}
    )


def set_up_head(home: Path, database: str) -> str:
    """Set up the head; return the process id of the loop once a server of the database has started."""
    (home / ".holdout-sweeps" / "mlflow" / "settings").write_text(f"DATABASE={database}\n")
    (home / "started").unlink(missing_ok=True)
    done = subprocess.run(
        ["bash", ROOT / "cluster" / "set_up.sh", "head"],
        env={**os.environ, "HOME": str(home)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert (home / "started").read_text().split() == [database]
    return (home / ".holdout-sweeps" / "mlflow" / "loop").read_text().strip()


def processes_of(group: str) -> list[str]:
    """Return the command lines of the live processes of a process group."""
    done = subprocess.run(["ps", "-e", "-o", "pgid=,stat=,args="], capture_output=True, text=True, check=True)
    fields = [line.split(None, 2) for line in done.stdout.splitlines()]
    return [arguments for number, state, arguments in fields if number == group and state[0] != "Z"]


def comes_to_run(group: str, command: str) -> bool:
    """Return whether a process group soon runs a command: the shell that was started turns into it."""
    limit = time.monotonic() + 20
    while command not in processes_of(group):
        if time.monotonic() > limit:
            return False
        time.sleep(0.05)
    return True


@without_systemd
def test_changed_settings_reach_the_server_and_the_former_one_is_gone(head: Path) -> None:
    first = set_up_head(head, "one")
    assert comes_to_run(first, "sleep 600")
    second = set_up_head(head, "two")
    assert processes_of(first) == []
    assert comes_to_run(second, "sleep 600")


@without_systemd
def test_a_process_that_has_the_loop_s_number_since_a_reboot_is_left_alone(head: Path) -> None:
    stranger = subprocess.Popen(["sleep", "600"], start_new_session=True)
    try:
        (head / ".holdout-sweeps" / "mlflow" / "loop").write_text(f"{stranger.pid}\n")
        set_up_head(head, "one")
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def on_premises(storage: str) -> subprocess.CompletedProcess[str]:
    """Run the script for machines of your own."""
    words = ["--head", "10.0.0.11", "--workers", "10.0.0.12", "--user", "me", "--key", "k"]
    script = ROOT / "cluster" / "on_premises.py"
    line = [sys.executable, str(script), *words, "--storage", storage]
    return subprocess.run(line, capture_output=True, text=True)


def test_a_folder_s_name_reaches_machines_of_one_s_own_as_it_is() -> None:
    written = yaml.safe_load(on_premises("/mnt/my runs & more").stdout)
    (line,) = (command for command in written["setup_commands"] if command.startswith("echo "))
    said = subprocess.run(["bash", "-c", line.partition(" >")[0]], capture_output=True, text=True, check=True)
    assert said.stdout == "/mnt/my runs & more\n"


def test_a_storage_to_which_no_folder_can_be_added_is_refused() -> None:
    refused = on_premises("s3://bucket?endpoint_override=host:9000&scheme=http")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "AWS_ENDPOINT_URL" in refused.stderr
