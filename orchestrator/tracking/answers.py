"""What an error of MLflow's client says of a request: refused, late, or perhaps carried out after all."""

from __future__ import annotations

import re
from collections.abc import Iterator

from orchestrator.ledger.passwords import masked
from trainables.mistake import one_line

REFUSED = (
    "INVALID_PARAMETER_VALUE",
    "INVALID_STATE",
    "PERMISSION_DENIED",
    "RESOURCE_ALREADY_EXISTS",
    "RESOURCE_DOES_NOT_EXIST",
)
"""MLflow's codes for requests that it would refuse again: the record is left out and reported at the end."""

NO_ENTRY = ("UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED", "PERMISSION_DENIED")
"""Codes for a user or password that is not right, which the person may correct while a sweep runs."""

NOT_MLFLOW = ("ENDPOINT_NOT_FOUND", "NOT_FOUND", "BAD_REQUEST")
"""Codes of a server that answers, but not as MLflow's does."""

GATEWAYS = ("too many 502", "too many 504")
"""Answers of a proxy that heard nothing from the server behind it; MLflow's client words them like this."""


def retryable(error: Exception) -> bool:
    """Return whether a later attempt may succeed: MLflow did not refuse it, and no module is missing."""
    return not isinstance(error, ImportError) and _code(error) not in REFUSED


def final(error: BaseException) -> bool:
    """Return whether waiting for the server would change nothing."""
    certain = (*REFUSED, *NO_ENTRY, *NOT_MLFLOW)
    return _code(error) in certain or _caused_by(error, "InvalidURL", "InvalidSchema")


def no_entry(error: BaseException) -> bool:
    """Return whether the server refuses this machine's user and password."""
    return _code(error) in NO_ENTRY


def timed_out(error: BaseException) -> bool:
    """Return whether the server took the request and did not answer in time."""
    return _caused_by(error, "ReadTimeout", "ReadTimeoutError")


def undecided(error: BaseException) -> bool:
    """Return whether the request may be carried out later than now: it was sent, and the server is silent."""
    if _caused_by(error, "NewConnectionError", "ConnectTimeout", "ConnectTimeoutError"):
        return False
    text = str(error)
    return _caused_by(error, "Timeout", "ConnectionError") or any(words in text for words in GATEWAYS)


def said(error: BaseException) -> str:
    """Return in a few words, without a password, why a request failed."""
    if _caused_by(error, "NameResolutionError"):
        return "there is no host of this name"
    if _caused_by(error, "NewConnectionError"):
        return "no server listens there"
    if timed_out(error):
        return "it takes too long"
    refused = re.search(r"too many (\d+) error responses", str(error))
    return f"it answers {refused[1]}" if refused else masked(one_line(error))


def _code(error: BaseException) -> object:
    return getattr(error, "error_code", None)


def _caused_by(error: BaseException, *names: str) -> bool:
    """Return whether the error or what led to it is of one of these types, by name."""
    return any(each.__name__ in names for link in _chain(error) for each in type(link).__mro__)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and the errors that led to it, as requests and urllib3 hold them."""
    seen: list[BaseException] = []
    waiting: list[BaseException | None] = [error]
    while waiting:
        link = waiting.pop()
        if link is None or any(link is known for known in seen):
            continue
        seen.append(link)
        yield link
        reason = getattr(link, "reason", None)
        inside = [each for each in (*link.args, reason) if isinstance(each, BaseException)]
        waiting += [link.__cause__, link.__context__, *inside]
