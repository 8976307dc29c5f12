"""The project's cluster.yaml on machines made of namespaces, with an object store beside them."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import urlopen

import pyarrow.fs as pafs

from tests.cluster.machines import GATEWAY, HOME, Machines
from tests.sweeps import ROOT

STORE = f"http://{GATEWAY}:5555"
BUCKET_NAME = "holdout-test"
BUCKET = f"s3://{BUCKET_NAME}"
HEAD = 1
AWS = {"AWS_ENDPOINT_URL": STORE, "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
AWS |= {"AWS_DEFAULT_REGION": "us-east-1"}
MACHINE = {**AWS, "PYTHONPATH": f"{HOME}/holdout-sweeps", "RAY_health_check_failure_threshold": "3"}
"""A machine's ~/.holdout-environment: the store's address and key; the path to the project, which `ray up`
copies without installing it; and 38 s instead of 64 s of patience with a machine that falls silent."""


class Deployment:
    """A cluster started by `ray up`, and the commands that a person types."""

    def __init__(self, machines: Machines, folder: Path) -> None:
        self.machines = machines
        self.folder = folder
        self.file = folder / "my-cluster.yaml"
        (folder / "home" / ".ray").mkdir(parents=True)
        (folder / "home" / ".ray" / "auth_token").write_text(secrets.token_hex(32))
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "MLFLOW_"))},
            **AWS,
            "HOME": str(folder / "home"),
            "RAY_TMPDIR": str(folder),
            "RAY_UP_enable_autoscaler_v2": "0",
            "RAY_USAGE_STATS_ENABLED": "0",
            "PATH": f"{sys.prefix}/bin:{os.environ['PATH']}",
            "COLUMNS": "200",
        }
        self._store = self._open_store()

    # Preparation

    def _open_store(self) -> subprocess.Popen[bytes]:
        store = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", GATEWAY, "-p", STORE.rpartition(":")[2]],
            stdout=subprocess.DEVNULL,
            stderr=(self.folder / "store.log").open("w"),
        )
        for _ in range(100):
            try:
                urlopen(STORE, timeout=1).close()
                break
            except OSError:
                time.sleep(0.1)
        return store

    def fill_store(self) -> None:
        """Make the bucket, with a data set of one file."""
        store = self.bucket()
        store.create_dir(f"{BUCKET_NAME}/data/set", recursive=True)
        with store.open_output_stream(f"{BUCKET_NAME}/data/set/images.bin") as file:
            file.write(b"0123456789")

    def write_file(self) -> None:
        """Write cluster.yaml for these machines with the documented script, and their own environments."""
        addresses = [self.machines.address(number) for number in range(1, self.machines.count + 1)]
        words = ["--head", addresses[0], "--workers", *addresses[1:], "--user", "root"]
        words += ["--key", str(self.machines.key), "--storage", BUCKET]
        script = ROOT / "cluster" / "on_premises.py"
        done = subprocess.run([sys.executable, script, *words], capture_output=True, text=True, check=True)
        self.file.write_text(done.stdout)
        for number in range(1, self.machines.count + 1):
            lines = [f"export {name}={value}" for name, value in MACHINE.items()]
            (self.machines.home(number) / ".holdout-environment").write_text("\n".join(lines) + "\n")

    # What a person types

    def ray(self, *words: str, seconds: float = 180) -> subprocess.CompletedProcess[str]:
        """Run a command of Ray's command line in the repository's folder."""
        return subprocess.run(
            [f"{sys.prefix}/bin/ray", *words],
            cwd=ROOT,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
        )

    def up(self) -> subprocess.CompletedProcess[str]:
        """Run ray up."""
        return self.ray("up", "--yes", str(self.file))

    def exec(self, command: str, seconds: float = 180) -> subprocess.CompletedProcess[str]:
        """Run a command on the head with ray exec."""
        return self.ray("exec", str(self.file), command, seconds=seconds)

    def live_nodes(self) -> int:
        """Return how many nodes the head counts as alive."""
        code = "import ray; ray.init('auto'); print('live', sum(n['Alive'] for n in ray.nodes()))"
        done = self.machines.ssh(HEAD, f'python -c "{code}"')
        words = done.stdout.split()
        return int(words[words.index("live") + 1]) if "live" in words else 0

    def await_nodes(self, count: int, seconds: float = 90) -> None:
        """Wait until so many nodes are alive. Raise TimeoutError with the head's log if it takes too long."""
        limit = time.monotonic() + seconds
        while (found := self.live_nodes()) != count:
            if time.monotonic() > limit:
                logs = self.machines.ssh(HEAD, "tail -n 40 /tmp/ray/session_latest/logs/monitor.*").stdout
                raise TimeoutError(f"{found} nodes instead of {count}:\n{logs}")
            time.sleep(1)

    def python(self, number: int, code: str) -> str:
        """Return what a piece of Python prints on a machine."""
        return self.machines.ssh(number, f"python - <<'END'\n{code}\nEND").stdout

    def files(self, sweep: str, name: str) -> int:
        """Return how many files of a name a sweep has in the store."""
        selector = pafs.FileSelector(f"{BUCKET_NAME}/runs/{sweep}", recursive=True, allow_not_found=True)
        return sum(info.base_name == name for info in self.bucket().get_file_info(selector))

    def bucket(self) -> pafs.S3FileSystem:
        """Return the object store as this machine reaches it."""
        return pafs.S3FileSystem(
            endpoint_override=STORE,
            access_key="test",
            secret_key="test",
            allow_bucket_creation=True,
            region=AWS["AWS_DEFAULT_REGION"],
        )

    def download(self, sweep: str) -> Path:
        """Return a local copy of a sweep's folder."""
        copy = self.folder / "copy" / sweep
        copy.mkdir(parents=True)
        pafs.copy_files(f"{BUCKET_NAME}/runs/{sweep}", str(copy), source_filesystem=self.bucket())
        return copy

    def close(self) -> None:
        """End the object store; the machines belong to whoever made them."""
        self._store.send_signal(signal.SIGTERM)
        try:
            self._store.wait(5)
        except subprocess.TimeoutExpired:
            self._store.kill()
        shutil.rmtree(self.folder / "home", ignore_errors=True)
