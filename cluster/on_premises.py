"""Prints cluster.yaml for machines of your own, reached over ssh.

    python cluster/on_premises.py --head 10.0.0.11 --workers 10.0.0.12 10.0.0.13 --user me \
        --key ~/.ssh/id_ed25519 --storage s3://bucket >my-cluster.yaml
    RAY_UP_enable_autoscaler_v2=0 ray up my-cluster.yaml

(Ray's newer autoscaler starts only one of several machines of one's own: hence the variable.)
Only what AWS needs is replaced: provider, auth, the kinds of machines and the bucket's name. Files, set-up
and start commands stay cluster.yaml's own. The machines' part that the repository cannot know, such as
AWS_ENDPOINT_URL for an object store of your own, is read from ~/.holdout-environment on each of them.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import Any

import yaml

CLUSTER = Path(__file__).parent.parent / "cluster.yaml"


def main() -> int:
    """Prints the file."""
    parser = argparse.ArgumentParser(description="Prints cluster.yaml for machines of your own.")
    parser.add_argument("--head", required=True, metavar="IP", help="the machine that drives; it trains too")
    parser.add_argument("--workers", required=True, nargs="+", metavar="IP", help="the other machines")
    parser.add_argument("--user", required=True, help="whom to log in as")
    parser.add_argument("--key", required=True, metavar="FILE", help="the private key to log in with")
    parser.add_argument(
        "--storage", required=True, metavar="URI", help="a bucket, or a folder that all share"
    )
    given = parser.parse_args()
    if "?" in given.storage:
        parser.error(
            f"--storage {given.storage}: folders are added at its end, so it takes no ?; put the place and "
            "key of an object store of your own into ~/.holdout-environment on each machine, as "
            "AWS_ENDPOINT_URL and so on"
        )
    config = yaml.safe_load(CLUSTER.read_text())
    print("# Written by cluster/on_premises.py from cluster.yaml, where everything is explained.")
    print(yaml.safe_dump(replaced(config, given), sort_keys=False, width=200), end="")
    return 0


def replaced(config: dict[str, Any], given: argparse.Namespace) -> dict[str, Any]:
    """The file's values with those of AWS replaced."""
    bucket = config["provider"]["bucket"]
    here = {
        "provider": {"type": "local", "head_ip": given.head, "worker_ips": given.workers},
        "auth": {"ssh_user": given.user, "ssh_private_key": given.key},
        "max_workers": len(given.workers),
        "setup_commands": [
            command.replace("s3://CHANGE-ME", shlex.quote(given.storage)) if command == bucket else command
            for command in config["setup_commands"]
        ],
    }
    of_aws = ("available_node_types", "head_node_type")
    return {name: value for name, value in {**config, **here}.items() if name not in of_aws}


if __name__ == "__main__":
    sys.exit(main())
