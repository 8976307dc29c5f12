"""`python -m orchestrator.status`: say how far a sweep is, who runs it, and what it has cost so far.

It reads the ledger alone and writes nothing, so it can be asked from any machine, while the sweep runs or
after. Without a name it lists the sweeps of a storage. Exit codes: 0 there is an answer; 2 a mistake in what
was asked; 130 a watch was ended. Neither torch, Ray nor MLflow is imported.
"""

from __future__ import annotations

import json
import sys
import time

from orchestrator.cli.parser import run_command
from orchestrator.cli.signals import exit_code
from orchestrator.cli.status_options import StatusRequest, read_request
from orchestrator.cli.times import moment
from orchestrator.ledger.ledger import Ledger, sweeps_in
from orchestrator.ledger.storage import reason, unreadable
from orchestrator.reporting.state_text import as_json, describe, one_line
from orchestrator.reporting.sweep_state import DONE, Watch
from trainables.mistake import Mistake

WATCH_SECONDS = 5.0


def main(words: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    return run_command(_main, words)


def _main(words: list[str] | None) -> int:
    request = read_request(words)
    try:
        if request.name is None:
            return _list(request)
        watch = Watch(Ledger(request.storage, request.name), request.price)
        state = watch.look()
        if request.watch:
            return _watch(watch)
        print(json.dumps(as_json(state), indent=1) if request.as_json else describe(state))
    except OSError as error:
        raise unreadable(request.storage, error) from None
    except KeyboardInterrupt as interrupt:
        return exit_code(interrupt)
    return 0


def _list(request: StatusRequest) -> int:
    """Print a line for each sweep of the storage."""
    names = sweeps_in(request.storage)
    states, lines = [], []
    for name in names:
        try:
            state = Watch(Ledger(request.storage, name), request.price).look()
        except Mistake as mistake:  # of one sweep, which hides none of the others
            states.append({"name": name, "error": str(mistake)})
            lines.append(f"{name}: {mistake}")
        else:
            states.append(as_json(state))
            lines.append(one_line(state))
    if request.as_json:
        print(json.dumps(states, indent=1))
    else:
        print("\n".join(lines) or f"There is no sweep in {request.storage}.")
    return 0


def _watch(watch: Watch) -> int:
    """Show the state, renewed every few seconds, until every cell is done or a person ends it."""
    from rich.live import Live
    from rich.text import Text

    shown, over = "", False
    with Live(Text(""), auto_refresh=False) as live:
        while not over:
            try:
                state = watch.look()
                shown = said = describe(state)
                over = state.owner is None and state.totals[DONE] == state.cells
            except OSError as error:  # it may come back
                said = f"{shown}\n{moment(time.time())} The storage does not answer ({reason(error)})."
            live.update(Text(said), refresh=True)
            time.sleep(0 if over else WATCH_SECONDS)
    return 0


if __name__ == "__main__":
    sys.exit(main())
