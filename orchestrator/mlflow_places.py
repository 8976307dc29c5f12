"""Where a person looks at MLflow's records: the command that opens its pages, and their addresses."""

from __future__ import annotations

import json
from collections.abc import Sequence
from urllib.parse import quote, urlsplit

MOST_COMPARED = 100
"""Runs that an address of the comparison page names at most; more make it too long for a browser."""

COMPARED = ["final/ap_msp", "final/ap_odin", "final/test_accuracy"]


def ui_command(uri: str) -> str:
    """The command that serves the pages of a store, or the server's own address."""
    return f"mlflow ui --backend-store-uri {uri}" if _served_here(uri) else uri


def comparison_address(uri: str, experiment: str, runs: Sequence[str], sweep: str) -> str:
    """The address of these runs' comparison page, or of the sweep's list where they are too many."""
    if len(runs) > MOST_COMPARED:
        return list_address(uri, experiment, sweep)
    lists = {"runs": list(runs), "metrics": COMPARED, "experiments": [experiment]}
    texts = {name: json.dumps(values, separators=(",", ":")) for name, values in lists.items()}
    words = "&".join(f"{name}={quote(text, safe='')}" for name, text in texts.items())
    return f"{_origin(uri)}/#/compare-runs?{words}"


def list_address(uri: str, experiment: str, sweep: str) -> str:
    """The address of the list of a sweep's runs."""
    wanted = quote(f"tags.sweep = '{sweep}'", safe="")
    return f"{_origin(uri)}/#/experiments/{experiment}/runs?searchFilter={wanted}"


def _origin(uri: str) -> str:
    return "http://127.0.0.1:5000" if _served_here(uri) else uri.rstrip("/")


def _served_here(uri: str) -> bool:
    return urlsplit(uri).scheme not in ("http", "https")
