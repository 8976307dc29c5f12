"""Prints cluster.yaml for machines of your own, reached over ssh.

    python cluster/on_premises.py --head 10.0.0.11 --workers 10.0.0.12 10.0.0.13 --user me \
        --key ~/.ssh/id_ed25519 --storage s3://bucket >my-cluster.yaml
    RAY_UP_enable_autoscaler_v2=0 ray up my-cluster.yaml

The variable is needed because Ray's newer autoscaler starts only one of several machines of your own. The
script replaces only what is specific to AWS: provider, auth, the node types and the bucket's name. Files,
set-up and start commands stay as they are in cluster.yaml. What the repository cannot know about your
machines, such as AWS_ENDPOINT_URL for an object store of your own, each of them reads from its file
~/.holdout-environment.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

CLUSTER = Path(__file__).parent.parent / "cluster.yaml"


def main() -> int:
    """Print the changed file and return the exit code."""
    parser = argparse.ArgumentParser(description="Prints cluster.yaml for machines of your own.")
    parser.add_argument("--head", required=True, metavar="IP", help="the driver's machine; it trains too")
    parser.add_argument("--workers", required=True, nargs="+", metavar="IP", help="the other machines")
    parser.add_argument("--user", required=True, help="the user to log in as")
    parser.add_argument("--key", required=True, metavar="FILE", help="the private key to log in with")
    parser.add_argument(
        "--storage", required=True, metavar="URI", help="a bucket, or a folder that all machines share"
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
    """Return the file's values with those that are specific to AWS replaced or left out."""
    bucket = config["provider"]["bucket"]
    replacements = {
        "provider": {"type": "local", "head_ip": given.head, "worker_ips": given.workers},
        "auth": {"ssh_user": given.user, "ssh_private_key": given.key},
        "max_workers": len(given.workers),
        "setup_commands": [
            command.replace("s3://CHANGE-ME", shlex.quote(given.storage)) if command == bucket else command
            for command in config["setup_commands"]
        ],
    }
    only_aws = ("available_node_types", "head_node_type")
    return {name: value for name, value in {**config, **replacements}.items() if name not in only_aws}


if __name__ == "__main__":
    sys.exit(main())
