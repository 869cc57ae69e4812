"""Files are written whole or not at all, whatever fails on the way."""

import errno
import hashlib
import os
import shutil
import stat

import pytest

from onelip.core import files
from onelip.core.errors import DataError, OnelipError, StorageError


def full_disk(*args, **kwargs):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_round_trip(tmp_path):
    path = tmp_path / "new" / "folder" / "a.json"
    files.write_json(path, {"x": [1, 2.5, None, "é"]})
    assert files.read_json(path) == {"x": [1, 2.5, None, "é"]}
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    files.atomic_write(path, b"\x00\x01")
    assert path.read_bytes() == b"\x00\x01"
    assert files.sha256(path) == hashlib.sha256(b"\x00\x01").hexdigest()


@pytest.mark.parametrize("step", ["fsync", "replace", "fdopen", "chmod"])
def test_disk_full_while_writing_a_file(tmp_path, monkeypatch, step):
    path = tmp_path / "kept.txt"
    files.atomic_write(path, "old")
    with monkeypatch.context() as m:
        m.setattr(os, step, full_disk)
        with pytest.raises(
            StorageError, match=r"could not write .*kept.txt; received No space left.*still there"
        ) as caught:
            files.atomic_write(path, "new")
    assert isinstance(caught.value, OSError)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["kept.txt"]  # no debris


def test_folder_in_the_way(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match="could not write"):
        files.atomic_write(tmp_path / "file" / "below", "new")
    with pytest.raises(StorageError), files.atomic_folder(tmp_path / "file" / "below"):
        pass


def make(path, text):
    with files.atomic_folder(path) as fresh:
        (fresh / "a").write_text(text)
        (fresh / "sub").mkdir()


def test_folder_replaces_the_old_one(tmp_path):
    make(tmp_path / "out", "one")
    (tmp_path / "out" / "stale").write_text("x")
    make(tmp_path / "out", "two")
    assert sorted(os.listdir(tmp_path / "out")) == ["a", "sub"]
    assert (tmp_path / "out" / "a").read_text() == "two"
    assert os.listdir(tmp_path) == ["out"]


def test_an_error_inside_keeps_the_old_folder(tmp_path):
    make(tmp_path / "out", "one")

    def fail():
        with files.atomic_folder(tmp_path / "out") as fresh:
            (fresh / "a").write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert (tmp_path / "out" / "a").read_text() == "one"
    assert os.listdir(tmp_path) == ["out"]


def test_disk_full_inside_keeps_the_old_folder(tmp_path):
    make(tmp_path / "out", "one")
    with pytest.raises(StorageError, match="No space left"), files.atomic_folder(tmp_path / "out"):
        full_disk()
    assert (tmp_path / "out" / "a").read_text() == "one"
    assert os.listdir(tmp_path) == ["out"]


def test_a_failed_last_move_puts_the_old_folder_back(tmp_path, monkeypatch):
    make(tmp_path / "out", "one")
    real, calls = os.replace, []

    def failing(source, target):
        calls.append(target)
        if len(calls) == 2:  # the new folder onto its place
            full_disk()
        real(source, target)

    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(StorageError):
        make(tmp_path / "out", "two")
    assert (tmp_path / "out" / "a").read_text() == "one"
    assert os.listdir(tmp_path) == ["out"]


def test_reading_what_is_not_json(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        files.read_json(tmp_path / "absent.json")
    for content in (b"{", b"\xff\xfe", b"", b"[1,]"):
        (tmp_path / "bad.json").write_bytes(content)
        with pytest.raises(DataError, match="cannot be read as JSON"):
            files.read_json(tmp_path / "bad.json")


def test_numbers_without_json_are_not_written(tmp_path):
    files.write_json(tmp_path / "a.json", 1)
    with pytest.raises(ValueError, match="JSON"):
        files.write_json(tmp_path / "a.json", {"x": float("nan")})
    assert files.read_json(tmp_path / "a.json") == 1


def test_storage_error_is_one_of_ours():
    assert issubclass(StorageError, OnelipError)
    assert shutil.disk_usage("/").total > 0
