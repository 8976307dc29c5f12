"""Two attempts at one cell: one result, and nothing of the older over what the newer wrote."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from orchestrator.ledger.ledger import Ledger, Superseded


@pytest.fixture(params=["folder", "bucket"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Ledger:
    storage = str(tmp_path) if request.param == "folder" else request.getfixturevalue("s3")
    return Ledger(storage, "mine")


def finish(ledger: Ledger, number: int) -> dict:
    scores = pa.table({"msp": [float(number)]})
    return ledger.finish("k", number, {"values": {"value": number}}, {"number": number}, scores=scores)


def test_a_second_finisher_finds_the_first_one_s_result(ledger: Ledger) -> None:
    first, second = ledger.begin("k", {}), ledger.begin("k", {})
    expected = finish(ledger, second)
    assert finish(ledger, first) == expected == finish(ledger, second)
    assert ledger.read_result("k") == expected
    assert ledger.read_scores("k")["msp"].to_pylist() == [2.0]


def test_a_damaged_result_is_replaced_by_the_newest_attempt_alone(ledger: Ledger) -> None:
    first, second = ledger.begin("k", {}), ledger.begin("k", {})
    ledger._write(b"{", "cells", "k", "result.json")
    with pytest.raises(Superseded):
        finish(ledger, first)
    result = finish(ledger, second)
    assert ledger.read_result("k") == result


def test_of_many_that_finish_together_one_result_counts(ledger: Ledger) -> None:
    """All think that they are the newest, as if each had looked before the next one began."""
    number = ledger.begin("k", {})
    together, found = threading.Barrier(6), []

    def end(value: int) -> None:
        mine = Ledger(ledger.storage, ledger.name)
        together.wait()
        found.append(mine.finish("k", number, {"values": {"value": value}}, {"number": value}))

    threads = [threading.Thread(target=end, args=(value,)) for value in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 6
    assert all(each == ledger.read_result("k") for each in found)


def interrupted_before_writing(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, act: Callable[[], None]
) -> None:
    """Does something else, once, between an attempt's check and its write."""
    check, done = Ledger.check_newest, []

    def check_and_act(self: Ledger, key: str, attempt: int) -> None:
        check(self, key, attempt)
        if self is ledger and not done:
            done.append(True)
            act()

    monkeypatch.setattr(Ledger, "check_newest", check_and_act)


def test_curves_of_an_older_attempt_do_not_replace_a_newer_one_s(
    s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger, newer = Ledger(s3, "mine"), Ledger(s3, "mine")
    first = ledger.begin("k", {"of": 1})
    ledger.write_curves("k", first, [{"epoch": 1, "speed/x": 1.0}])

    def take_over() -> None:
        second = newer.begin("k", {"of": 2})
        newer.write_curves("k", second, [{"epoch": 1, "speed/x": 2.0}])

    interrupted_before_writing(ledger, monkeypatch, take_over)
    with pytest.raises(Superseded):
        ledger.write_curves("k", first, [{"epoch": 2, "speed/x": 1.0}])
    assert ledger.read_curves("k") == [{"epoch": 1, "speed/x": 2.0}]
    assert ledger.read_cell("k") == {"of": 2, "attempts": 2}


def test_in_a_folder_a_newer_attempt_waits_while_an_older_one_renames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger, newer = Ledger(str(tmp_path), "mine"), Ledger(str(tmp_path), "mine")
    first = ledger.begin("k", {})
    writing = threading.Thread(target=lambda: newer.write_curves("k", 2, [{"epoch": 9}]))

    def take_over() -> None:
        writing.start()
        writing.join(0.3)  # it cannot rename while the older one has its turn

    interrupted_before_writing(ledger, monkeypatch, take_over)
    ledger.write_curves("k", first, [{"epoch": 1}])
    writing.join()
    assert ledger.read_curves("k") == [{"epoch": 9}]


def test_nothing_of_an_attempt_is_left_beside_a_result(tmp_path: Path) -> None:
    ledger = Ledger(str(tmp_path), "mine")
    ledger.begin("k", {})
    second = ledger.begin("k", {})
    folder = tmp_path / "mine" / "cells" / "k"
    (folder / "checkpoint").mkdir()
    for name in (f"result.json.1.{'0' * 32}.part", f"checkpoint/3-2.pt.2.{'1' * 32}.part", "old.part"):
        (folder / name).write_bytes(b"half")
    newer = folder / f"curves.parquet.3.{'2' * 32}.part"
    newer.write_bytes(b"of one that begins")
    finish(ledger, second)
    assert list(folder.rglob("*.part")) == [newer]


def test_attempts_that_begin_together_in_a_bucket_have_different_numbers(s3: str) -> None:
    together, found = threading.Barrier(4), []

    def begin() -> None:
        mine = Ledger(s3, "mine")
        together.wait()
        found.extend(mine.begin("k", {}) for _ in range(3))

    threads = [threading.Thread(target=begin) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == list(range(1, 13))
    assert Ledger(s3, "mine").read_cell("k")["attempts"] == 12


def test_awkward_names_are_the_same_to_both_clients(s3: str) -> None:
    for folder in ("a folder, new", "100%", "ü", "a+b"):
        from urllib.parse import quote

        ledger = Ledger(f"{s3}/{quote(folder)}", "mine")
        assert ledger.begin("k", {}) == 1
        assert ledger.begin("k", {}) == 2
        assert ledger.read_cell("k")["attempts"] == 2


def test_a_bucket_is_found_as_its_uri_says(s3: str, s3_address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name)
    query = f"endpoint_override={s3_address}&scheme=http&region=us-east-1"
    ledger = Ledger(f"{s3.replace('s3://', 's3://test:secret@')}?{query}", "mine")
    assert ledger.begin("k", {}) == 1
    assert ledger.objects is not None
    assert ledger.objects.version(ledger._path("cells", "k", "cell.json")) is not None


def test_credentials_of_a_profile_are_found(s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    (tmp_path / "credentials").write_text("[mine]\naws_access_key_id = x\naws_secret_access_key = y\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_PROFILE", "mine")
    assert Ledger(s3, "mine").begin("k", {}) == 1


def test_a_bucket_that_is_gone_is_no_attempt_of_another(s3: str) -> None:
    gone = Ledger(s3.replace("holdouts", "another"), "mine")
    with pytest.raises(OSError, match="there is no such bucket"):
        gone.begin("k", {})
