"""Where a sweep's numbers come from, as terms and what is said of them."""

from __future__ import annotations

from orchestrator.ledger.provenance import PROJECT, Made
from orchestrator.planning.dry_run import describe_network
from orchestrator.reporting.results import Results


def provenance_facts(results: Results) -> list[tuple[str, str]]:
    """Return the ledger, data, network and versions of a sweep."""
    stored, specification = results.stored, results.specification
    facts = [
        ("ledger", results.ledger.uri),
        ("benchmark", f"{specification.benchmark}, {describe_network(specification)}"),
        ("fingerprint of the data", stored.fingerprint),
        ("specification", specification.default_name()),
        (
            "device",
            f"{specification.device}, {specification.workers} x {specification.threads} (workers x threads)",
        ),
    ]
    if stored.plugins:
        facts.append(("plug-ins", ", ".join(f"{name} {digest}" for name, digest in stored.plugins.items())))
    for number, made in enumerate(stored.made):
        said = _versions(made)
        if said:
            facts.append(("begun with" if number == 0 else "went on with", said))
    return facts


def _versions(made: Made) -> str:
    parts = [f"{name} {version}" for name, version in made.versions.items() if name != PROJECT]
    if made.versions:
        parts.insert(0, f"{PROJECT} {made.version(PROJECT)}")
    parts += [f"commit {made.git_commit}"] if made.git_commit else []
    parts += [f"processor {made.machine}"] if made.machine else []
    return ", ".join(parts)
