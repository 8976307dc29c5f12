"""An object store of this machine: moto's S3, which knows conditional writes."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pyarrow.fs as pafs
import pytest
from moto import server


@pytest.fixture(scope="session")
def s3_address() -> Iterator[str]:
    """The address of the server, which has a bucket `holdouts` for each test that asks for `s3`."""
    store = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    store.start()
    host, port = store.get_host_and_port()
    yield f"{host}:{port}"
    store.stop()


def make_bucket(address: str) -> None:
    keys = {"access_key": "test", "secret_key": "test", "region": "us-east-1"}
    store = pafs.S3FileSystem(endpoint_override=address, scheme="http", allow_bucket_creation=True, **keys)
    store.create_dir("holdouts")


@pytest.fixture
def s3(s3_address: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A storage of the test's own in the bucket, as the environment tells where it is.

    The bucket is made anew for each: servers of other tests in this process empty all that moto holds.
    """
    make_bucket(s3_address)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{s3_address}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    return f"s3://holdouts/{os.getpid()}-{abs(hash(request.node.nodeid))}"
