"""Conditional writes to object stores: a file is made or replaced only if nobody else has done so meanwhile.

pyarrow.fs, which does everything else, has none. S3, Google Cloud Storage and Azure have them by the same
HTTP conditions (If-None-Match, If-Match), for which obstore is one small compiled client.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Mapping
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qs, unquote, urlsplit

from trainables.mistake import one_line

Version = dict[str, str]
"""What tells the content of a file from what it was before."""

REQUEST_SECONDS, CONNECT_SECONDS, RETRY_SECONDS = 20.0, 5.0, 10.0
SCHEMES = {"s3": "s3", "gs": "gs", "gcs": "gs", "abfs": "az", "abfss": "az"}
"""Kinds of stores by the schemes that pyarrow knows."""

T = TypeVar("T")


class Unconditional(OSError):
    """The store does not know conditional writes."""


class Objects:
    """The files of a bucket, by paths that begin with its name, as pyarrow has them."""

    def __init__(self, store: Any) -> None:
        self._store = store

    @staticmethod
    def of(storage: str, path: str) -> Objects | None:
        """Return the bucket of a storage, whose path within its file system is given; None of other kinds."""
        scheme = urlsplit(storage).scheme
        if "://" not in storage or scheme not in SCHEMES:
            return None
        bucket = path.split("/", 1)[0]
        return Objects(_call(lambda: _open(SCHEMES[scheme], storage, bucket)))

    def read(self, path: str) -> tuple[bytes, Version]:
        """Return a file's content and version; raise FileNotFoundError if there is none."""
        import obstore

        def get() -> tuple[bytes, Version]:
            found = obstore.get(self._store, _key(path))
            return bytes(found.bytes()), _version(found.meta)

        return _call(get)

    def version(self, path: str) -> Version | None:
        """Return a file's version, None if there is no file."""
        import obstore

        try:
            return _call(lambda: _version(obstore.head(self._store, _key(path))))
        except FileNotFoundError:
            return None

    def put(self, path: str, data: bytes, version: Version | None) -> Version | None:
        """Write a file that has this version, or is not there if it is None; return its new version.

        Returns None, and leaves the file, if it was written or removed meanwhile, which after a lost answer
        may have been by this very call. Raises OSError if it cannot be written, as where there is no bucket.
        """
        import obstore
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        mode: Any = "create" if version is None else version
        try:
            return _call(lambda: _version(obstore.put(self._store, _key(path), data, mode=mode)))
        except (AlreadyExistsError, PreconditionError):
            return None
        except FileNotFoundError as error:
            if version is None:  # not ENOENT, which would say that a file is not there
                raise OSError(errno.EIO, "there is no such bucket") from error
            return None

    def delete(self, path: str) -> None:
        """Remove a file."""
        import obstore

        _call(lambda: obstore.delete(self._store, _key(path)))


def knows_conditions(objects: Objects, path: str) -> bool:
    """Return whether a store keeps to conditions, tried on a file of this path, which is removed again."""
    try:
        # Nobody else writes to this path: what a write finds there already is its own, whose answer was lost.
        version = objects.put(path, b"1", None) or objects.version(path)
        refused = objects.put(path, b"2", None) is None
        changed = objects.put(path, b"3", version) or objects.version(path)
        told_apart = version is not None and changed not in (None, version)
        return refused and told_apart and objects.put(path, b"4", version) is None
    except Unconditional:
        return False
    finally:
        with contextlib.suppress(OSError):
            objects.delete(path)


def _open(kind: str, storage: str, bucket: str) -> Any:
    """Return obstore's client of a bucket, with the options that pyarrow reads from the URI."""
    from obstore.store import AzureStore, GCSStore, S3Store

    uri = urlsplit(storage)
    query = {name: found[-1] for name, found in parse_qs(uri.query).items()}
    common: dict[str, Any] = {
        "client_options": {
            "allow_http": True,
            "timeout": timedelta(seconds=REQUEST_SECONDS),
            "connect_timeout": timedelta(seconds=CONNECT_SECONDS),
        },
        "retry_config": {"max_retries": 2, "retry_timeout": timedelta(seconds=RETRY_SECONDS)},
    }
    endpoint = _endpoint(query)
    if kind == "s3":
        given = {"region": query.get("region"), "endpoint": endpoint, **_keys(uri.username, uri.password)}
        config: Any = {name: value for name, value in given.items() if value}
        provider = None if "access_key_id" in config else _of_profile()
        if "region" not in config and not _region_is_known(provider):
            config["region"] = _region_of(storage)
        return S3Store(bucket, config=config, credential_provider=provider, **common)
    if kind == "gs":
        config = {"base_url": endpoint} if endpoint else {}
        if uri.username == "anonymous":
            config["skip_signature"] = True
        return GCSStore(bucket, config=config, **common)
    config = _azure(uri.hostname or "", unquote(uri.password or ""))
    return AzureStore(bucket, config=config, **common)


def _endpoint(query: Mapping[str, str]) -> str | None:
    """Return the address of a store that is not the usual one."""
    address = query.get("endpoint_override")
    if not address or "://" in address:
        return address
    return f"{query.get('scheme', 'https')}://{address}"


def _keys(name: str | None, secret: str | None) -> dict[str, str]:
    """Return the keys that stand in a URI, if any do."""
    if not name or not secret:
        return {}
    return {"access_key_id": unquote(name), "secret_access_key": unquote(secret)}


def _of_profile() -> Any:
    """Return what finds credentials of profiles by boto3, if there are any; obstore knows all other kinds."""
    if "AWS_ACCESS_KEY_ID" in os.environ or find_spec("boto3") is None:
        return None
    files = {"AWS_SHARED_CREDENTIALS_FILE": "credentials", "AWS_CONFIG_FILE": "config"}
    places = (Path(os.environ.get(name, f"~/.aws/{file}")).expanduser() for name, file in files.items())
    if "AWS_PROFILE" not in os.environ and not any(place.is_file() for place in places):
        return None
    from obstore.auth.boto3 import Boto3CredentialProvider

    try:
        return Boto3CredentialProvider()
    except Exception:  # a profile without credentials, or none of that name: the others are tried
        return None


def _region_is_known(provider: Any) -> bool:
    names = ("AWS_REGION", "AWS_DEFAULT_REGION")
    return any(name in os.environ for name in names) or "region" in getattr(provider, "config", {})


def _region_of(storage: str) -> str:
    """Return the region that pyarrow finds for a bucket."""
    import pyarrow.fs as pafs

    return str(pafs.FileSystem.from_uri(storage)[0].region) or "us-east-1"


def _azure(host: str, password: str) -> Any:
    """Return Azure's account, which the host begins with, and its key, if they stand in the URI."""
    account = {"account_name": host.split(".", 1)[0]} if "." in host else {}
    return {**account, **({"account_key": password} if password else {})}


def _key(path: str) -> str:
    """Return a path within its bucket."""
    return path.split("/", 1)[1]


def _version(found: Any) -> Version:
    return {name: found[name] for name in ("e_tag", "version") if found.get(name) is not None}


def _call(call: Callable[[], T]) -> T:
    """Make a request; raise OSError for its failures, whatever obstore calls them."""
    from obstore.exceptions import (
        AlreadyExistsError,
        BaseError,
        NotSupportedError,
        PermissionDeniedError,
        PreconditionError,
        UnauthenticatedError,
    )

    try:
        return call()
    except (AlreadyExistsError, PreconditionError):
        raise
    except (NotSupportedError, NotImplementedError) as error:
        raise Unconditional(errno.ENOTSUP, one_line(error)) from error
    except (PermissionDeniedError, UnauthenticatedError) as error:
        raise OSError(errno.EACCES, one_line(error)) from error
    except BaseError as error:
        if "NotImplemented" in str(error) or " 501 " in str(error):
            raise Unconditional(errno.ENOTSUP, one_line(error)) from error
        raise OSError(errno.EIO, one_line(error)) from error
