"""Machines made of Linux namespaces, with everything that a cluster needs of a machine.

Each has its own network, mounts, processes and host name, a root file system laid over this machine's, a home
folder that starts empty, and an ssh server. Their addresses are 10.99.0.11, .12, ... on one switch, and this
machine's is 10.99.0.1; nothing else can be reached from them. Making them needs root, iproute2 and
openssh-server.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

NET = "10.99.0"
GATEWAY = f"{NET}.1"
FOLDER = Path("/run/holdout-machines")
HOME = "/home/machine"
BRIDGE, PORT, SPACE = "hsbr", "hsport", "hs"
"""Names of the switch, of its ports and of the machines' network namespaces."""

NEEDED = {"ip": "iproute2", "sshd": "openssh-server", "ssh-keygen": "openssh-client", "rsync": "rsync"}
NEEDED |= {"unshare": "util-linux", "nsenter": "util-linux"}

BOOT = """
set -e
mount --make-rprivate /
mount -t overlay -o lowerdir=/,upperdir={home}/upper,workdir={home}/work overlay {home}/root
cd {home}/root
mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
mount --rbind /dev dev
mount -t tmpfs -o size=8g shm dev/shm
mount -t tmpfs run run
mount --bind {home}/tmp tmp
mkdir -p run/sshd .{user_home} .{environment}
mount --bind {home}/own .{user_home}
sed -i 's|^\\(root:[^:]*:0:0:[^:]*\\):[^:]*|\\1:{user_home}|' etc/passwd  # Python may be in root's own
cp {home}/host_key run/host_key
chmod 600 run/host_key
mount --bind {environment} .{environment}
mount -o remount,bind,ro .{environment}
# Otherwise Ray waits half a minute for name servers and cloud metadata that cannot be reached.
printf 'nameserver 127.0.0.1\\n' >etc/resolv.conf
cp {folder}/hosts etc/hosts
hostname {name}
exec chroot . {sshd} -D -e -f /dev/null -h /run/host_key -o PidFile=none -o UsePAM=no \\
  -o Subsystem='sftp internal-sftp' -o PasswordAuthentication=no -o KbdInteractiveAuthentication=no \\
  -o PermitRootLogin=prohibit-password -o AuthorizedKeysFile=.ssh/authorized_keys
"""


def missing() -> str:
    """Return why machines cannot be made here; "" if they can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "only root on Linux can make network namespaces"
    packages = sorted({package for tool, package in NEEDED.items() if _which(tool) is None})
    if packages:
        return f"not installed: {', '.join(packages)}"
    done = subprocess.run(["unshare", "--mount", "--net", "true"], capture_output=True, text=True)
    return f"no namespaces here: {done.stderr.strip()}" if done.returncode else ""


def _which(tool: str) -> str | None:
    return shutil.which(tool, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")


def _run(*words: object) -> None:
    subprocess.run([str(word) for word in words], check=True, capture_output=True)


def _try(*words: object) -> str:
    return subprocess.run([str(word) for word in words], capture_output=True, text=True).stdout


class Machines:
    """A number of machines, counted from 1, which close() removes."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.key = FOLDER / "key"
        self._first: dict[int, subprocess.Popen[bytes]] = {}
        self.close()
        try:
            self._build()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Machines:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def address(self, number: int) -> str:
        """Return a machine's address."""
        return f"{NET}.{10 + number}"

    def home(self, number: int) -> Path:
        """Return root's home on a machine, as a path of this machine."""
        return FOLDER / str(number) / "own"

    # Building them

    def _build(self) -> None:
        FOLDER.mkdir(parents=True, exist_ok=True)
        _run("mount", "-t", "tmpfs", "-o", "size=16g", "tmpfs", FOLDER)
        _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.key)
        names = [f"{self.address(n)} machine{n}" for n in range(1, self.count + 1)]
        (FOLDER / "hosts").write_text("\n".join(["127.0.0.1 localhost", *names]) + "\n")
        _run("ip", "link", "add", BRIDGE, "type", "bridge")
        _run("ip", "address", "add", f"{GATEWAY}/24", "dev", BRIDGE)
        _run("ip", "link", "set", BRIDGE, "up")
        for number in range(1, self.count + 1):
            self._wire(number)
            self._furnish(number)
            self.start(number)

    def _wire(self, number: int) -> None:
        space, port = f"{SPACE}{number}", f"{PORT}{number}"
        _run("ip", "netns", "add", space)
        _run("ip", "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", space)
        _run("ip", "link", "set", port, "master", BRIDGE, "up")
        inside = ("ip", "-n", space)
        _run(*inside, "link", "set", "lo", "up")
        _run(*inside, "address", "add", f"{self.address(number)}/24", "dev", "eth0")
        _run(*inside, "link", "set", "eth0", "up")
        # Nothing is forwarded; Ray looks along the default route for its own address.
        _run(*inside, "route", "add", "default", "via", GATEWAY)
        _run(*inside, "route", "add", "unreachable", "169.254.169.254")

    def _furnish(self, number: int) -> None:
        place = FOLDER / str(number)
        for name in ("upper", "work", "root", "tmp", "own/.ssh"):
            (place / name).mkdir(parents=True)
        (place / "tmp").chmod(0o1777)
        (place / "own" / ".ssh").chmod(0o700)
        shutil.copy(self.key.with_suffix(".pub"), place / "own" / ".ssh" / "authorized_keys")
        (place / "own" / ".bashrc").write_text(f'export PATH="{sys.prefix}/bin:$PATH"\n')
        _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", place / "host_key")

    # What happens to them

    def start(self, number: int) -> None:
        """Switch a machine on, with an empty memory and /tmp, and wait for its ssh server."""
        place = FOLDER / str(number)
        shutil.rmtree(place / "tmp")
        (place / "tmp").mkdir(mode=0o1777)
        (place / "tmp").chmod(0o1777)
        script = BOOT.format(
            home=place,
            user_home=HOME,
            environment=sys.prefix,
            folder=FOLDER,
            name=f"machine{number}",
            sshd=_which("sshd"),
        )
        with (place / "log").open("ab") as log:
            inside = ["nsenter", f"--net=/run/netns/{SPACE}{number}"]
            alone = ["unshare", "--mount", "--pid", "--uts", "--ipc", "--fork", "--kill-child"]
            self._first[number] = subprocess.Popen(
                [*inside, *alone, "bash", "-c", script],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._await_ssh(number)

    def _await_ssh(self, number: int) -> None:
        for _ in range(100):
            if self.ssh(number, "true").returncode == 0:
                return
            time.sleep(0.1)
        raise TimeoutError(f"machine {number}: {(FOLDER / str(number) / 'log').read_text()}")

    def power_cut(self, number: int) -> None:
        """Kill every process of a machine at once."""
        first = self._first.pop(number)
        os.kill(first.pid, signal.SIGKILL)
        first.wait()

    def unplug(self, number: int) -> None:
        """Pull a machine's cable; the machine itself keeps running."""
        _run("ip", "link", "set", f"{PORT}{number}", "down")

    def plug(self, number: int) -> None:
        """Put the cable back."""
        _run("ip", "link", "set", f"{PORT}{number}", "up")

    def ssh(self, number: int, command: str, seconds: float = 120) -> subprocess.CompletedProcess[str]:
        """Run a command on a machine, in a shell that has read ~/.bashrc."""
        quiet = (
            "BatchMode=yes",
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
            "LogLevel=ERROR",
        )
        options = [word for option in quiet for word in ("-o", option)]
        line = ["ssh", "-i", str(self.key), *options, f"root@{self.address(number)}"]
        return subprocess.run(
            [*line, f". ~/.bashrc; {command}"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
        )

    def close(self) -> None:
        """Remove all machines, and whatever an earlier run left behind."""
        for number in list(self._first):
            self.power_cut(number)
        for number in range(1, 10):
            if Path(f"/run/netns/{SPACE}{number}").exists():
                found = _try("ip", "netns", "pids", f"{SPACE}{number}")
                for process in found.split():
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(int(process), signal.SIGKILL)
                _try("ip", "netns", "delete", f"{SPACE}{number}")
                _try("ip", "link", "delete", f"{PORT}{number}")
        _try("ip", "link", "delete", BRIDGE)
        if os.path.ismount(FOLDER):
            _try("umount", "--lazy", FOLDER)
