"""One kill of each kind (``study selftest`` makes twenty), and disks that cannot be written."""

import os
import shutil
import subprocess
import sys

import pytest

from studylib import paths, selftest
from studylib.config import trial
from studylib.errors import StudyError
from studylib.files import check_writable
from studylib.store import Store
from studylib.trials import run
from tests.test_trials import quick


def test_kills_lose_nothing(capsys):
    pytest.importorskip("distributed", reason="left out: pip install -e '.[cluster]'")
    assert selftest.main(moments=1, seed=7) == 0
    said = capsys.readouterr().out
    assert all(f"{way}: 1 kills in 1 runs" in said for way in ("trial", "runner", "kernel", "worker"))


def test_unknown_ways_and_no_moments_are_refused():
    with pytest.raises(StudyError, match="none of trial, runner, kernel, worker"):
        selftest.main(1, 0, "disk")
    with pytest.raises(StudyError, match="at least one"):
        selftest.main(0, 0)


def test_a_bench_notices_what_it_should(tmp_path, monkeypatch):
    """A self-test that cannot fail tests nothing: other bytes, lost trials and second trainings are all found."""

    def fill(folder, content=b"1"):
        (folder / "results" / "trials" / "k").mkdir(parents=True)
        (folder / "results" / "trials" / "k" / "record.json").write_bytes(content)

    monkeypatch.setattr(selftest.Bench, "run", lambda self, code, place: fill(self.folder / place))
    bench = selftest.Bench(tmp_path)

    def attempt(act, before=None):
        def kill(bench, place, moment):
            act(bench.folder / place)
            return before or {}, True

        return bench.attempt(kill, None)[0]

    assert attempt(fill) == []
    assert attempt(lambda folder: fill(folder, b"2")) == ["k/record.json: other bytes"]
    assert "differ" in attempt(lambda folder: None)[0]
    assert attempt(fill, {"k": 1}) == ["k: trained again"]


# -- disks ----------------------------------------------------------------------------------------------------------

NAMESPACE = ["unshare", "--mount", "--map-root-user"]


def in_a_namespace(mount: str, code: str, environment: dict) -> subprocess.CompletedProcess:
    """Python code run where ``mount``, a shell command, has changed what is mounted; needs no root."""
    if not shutil.which("unshare") or subprocess.run([*NAMESPACE, "true"], capture_output=True).returncode:
        pytest.skip("left out: no user namespaces here, so no small or read-only disk can be made")
    command = f'{mount} && exec "$0" -c "$1"'
    return subprocess.run(
        [*NAMESPACE, "sh", "-c", command, sys.executable, code], capture_output=True, text=True, env=environment,
        cwd=paths.ROOT,
    )  # fmt: skip


RUN = """
import os, sys
from pathlib import Path
from studylib import trials
from studylib.errors import StudyError
from tests.test_selftest import SPECS
try:
    trials.run([SPECS[{spec!r}]], log=lambda line: None)
except StudyError as error:
    print(error, file=sys.stderr)
print([str(file) for root in ("RESULTS", "CACHE") for file in Path(os.environ["STUDY_" + root]).rglob("*.partial")])
"""
SPECS = {"tiger": quick(), "item-knn": trial(data="Toy", generator={"name": "item-knn"})}


def read_only(folder) -> str:
    return f"mount --bind {folder} {folder} && mount -o remount,bind,ro {folder}"


@pytest.mark.parametrize("place", ["results", "cache"])
def test_a_full_disk_is_said_and_nothing_is_half_written(folders, place):
    (folders / place).mkdir()
    full = f"mount -t tmpfs -o size=16k none {folders / place} && head -c 12000 /dev/zero > {folders / place}/filler"
    out = in_a_namespace(full, RUN.format(spec="tiger"), dict(os.environ))
    assert "No space left on device" in out.stderr
    assert "Traceback" not in out.stderr
    assert out.stdout.strip() == "[]"
    assert Store.default().finished() == []


def test_a_read_only_store_is_said_before_anything_is_trained(folders):
    (folders / "results").mkdir()
    out = in_a_namespace(read_only(folders / "results"), RUN.format(spec="tiger"), dict(os.environ))
    assert "cannot be written (Read-only file system)" in out.stderr
    assert out.stderr.count("\n") == 1
    assert not (folders / "cache" / "trials").exists()


def test_a_read_only_store_still_serves_what_is_finished(folders):
    run([SPECS["item-knn"]])
    out = in_a_namespace(read_only(folders / "results"), RUN.format(spec="item-knn"), dict(os.environ))
    assert (out.stderr, out.stdout.strip()) == ("", "[]")


def test_a_folder_that_can_be_written_is_left_as_it_was(tmp_path):
    check_writable(tmp_path)
    assert list(tmp_path.iterdir()) == []
