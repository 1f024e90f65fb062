"""Files appear whole or not at all."""

import pytest

from studylib.errors import StudyError
from studylib.files import write_bytes, write_json


def test_equal_values_give_equal_bytes(tmp_path):
    write_json(tmp_path / "a.json", {"x": 1, "ä": [2]})
    write_json(tmp_path / "b.json", {"ä": [2], "x": 1})
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    file = tmp_path / "deep" / "x.bin"
    write_bytes(file, b"old")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StudyError, match=r"x.bin: cannot be written \(No space left on device\); free some space"):
        write_bytes(file, b"new")
    assert file.read_bytes() == b"old"
    assert [found.name for found in file.parent.iterdir()] == ["x.bin"]


def test_a_folder_that_is_a_file(tmp_path):
    (tmp_path / "folder").write_text("")
    with pytest.raises(StudyError, match="cannot be written"):
        write_bytes(tmp_path / "folder" / "x", b"")
