"""Listing, comparing, verifying and clearing the store; damage is named, and what is damaged is made again."""

import json
import os
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from studylib import checkpoints, content, paths, results, upkeep
from studylib.cli import main
from studylib.config import trial
from studylib.encoders import cache
from studylib.errors import StudyError
from studylib.files import LOCK, locked, write_json
from studylib.recommend import opened
from studylib.semantic_ids import SemanticIds
from studylib.store import Store, sealed, unsealed, work_folder
from studylib.trials import run
from tests.test_trials import quick


@pytest.fixture
def finished(folders) -> dict:
    """One finished generator's trial and one baseline's, both used by a table."""
    records = run([quick(), trial(data="Toy", generator={"name": "item-knn"})])
    write_json(paths.results_of("Toy") / "table_2.trials.json", {"row": [record["key"] for record in records]})
    return records[0]


def kinds() -> set[tuple[str, str]]:
    return {(problem.kind, problem.file.rsplit("/", 1)[1]) for problem in upkeep.verify()}


def test_trials_are_listed_filtered_and_compared(finished, capsys):
    assert main(["trials"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
    assert main(["trials", "--json", "--generator", "tiger", "--seed", "0", "--data", "Toy"]) == 0
    row = json.loads(capsys.readouterr().out)
    names = {"key", "data", "features", "fusion", "tokenizer", "generator", "budget", "seed", "metrics"}
    assert names | {"metrics_unseen", "cpu_seconds", "peak_mb"} <= set(row)
    assert row["key"] == finished["key"]
    assert main(["trials", "--features", "minilm"]) == 0
    assert capsys.readouterr().out == ""
    other = run([quick(seed=1, lr=2e-2)], log=lambda _: None)[0]
    assert main(["trials", "--json", "--diff", finished["key"], other["key"]]) == 0
    rows = {row["name"]: row for row in map(json.loads, capsys.readouterr().out.splitlines())}
    tested = rows.pop("recall@10, second less first")
    means = [record["metrics"]["recall@10"] for record in (finished, other)]
    assert tested["difference"] == pytest.approx(means[1] - means[0], abs=1e-6)
    assert tested["low"] <= tested["difference"] <= tested["high"]
    assert rows["generator.lr"] == {"name": "generator.lr", finished["key"]: 1e-2, other["key"]: 2e-2}
    assert rows["seed"][other["key"]] == 1
    assert "generator.d_model" not in rows
    assert main(["trials", "--diff", finished["key"][:12], other["key"][:12]]) == 0
    assert "generator.lr" in capsys.readouterr().out
    assert main(["trials", "--diff", finished["key"], "0" * 16]) == 2
    assert "no finished trial of that key" in capsys.readouterr().err


def test_a_listing_imports_nothing_heavy():
    code = "import sys; from studylib.cli import main; main(['trials']); print(sorted(sys.modules))"
    environment = os.environ | {"STUDY_RESULTS": "/nonexistent"}
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert not {"'torch'", "'numpy'", "'pandas'", "'pydantic'"} & set(out.stdout.strip("[]\n").split(", "))


def test_whole_stores_verify(finished, capsys):
    assert kinds() == set()
    assert main(["verify"]) == 0
    assert "as it was written" in capsys.readouterr().out


def flip(file, place: int = -20) -> None:
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    file.write_bytes(bytes(content))


def test_flipped_bits_and_cut_files_are_named(finished, capsys):
    folder = Store.default().folder(finished["key"])
    for name in ("record.json", "cost.json", "codes.npy"):
        whole = (folder / name).read_bytes()
        for damage in (flip, lambda file: file.write_bytes(file.read_bytes()[:-7])):
            damage(folder / name)
            assert kinds() == {("damaged", name)}
            (folder / name).write_bytes(whole)
    (folder / "record.json").unlink()
    assert kinds() == {("missing", "record.json"), ("missing", "table_2.trials.json")}
    assert main(["verify", "--json"]) == 1
    assert {json.loads(line)["kind"] for line in capsys.readouterr().out.splitlines()} == {"missing"}


def test_missing_and_foreign_files_are_named(finished):
    folder = Store.default().folder(finished["key"])
    (folder / "codes.npy").unlink()
    (folder / "notes.txt").write_text("")
    (folder / ".record.json.0123.partial").write_text("")
    (folder.parent / "scratch").mkdir()
    shutil.copytree(folder, folder.with_name("0" * 16))
    assert {
        ("missing", "codes.npy"), ("foreign", "notes.txt"), ("foreign", ".record.json.0123.partial"),
        ("foreign", "scratch"), ("foreign", "record.json"),
    } == kinds()  # fmt: skip


def test_damaged_embeddings_are_named_and_made_again(folders):
    folder, said = paths.cache_root() / "embeddings" / "toy", []
    make = lambda: cache.rows(folder, ["a", "b"], lambda span: np.ones((len(span), 2)), "toy", said.append)  # noqa: E731
    make()
    file = next(folder.glob("*.npy"))
    flip(file)
    assert kinds() == {("damaged", file.name)}
    assert make().tolist() == [[1, 1], [1, 1]]
    assert any("computing it again" in line for line in said)
    assert kinds() == set()


@pytest.mark.parametrize("damage", [flip, lambda file: file.write_bytes(file.read_bytes()[:-7])])
def test_damaged_weights_are_detected(tmp_path, damage):
    file = tmp_path / "x.safetensors"
    tensors = {"b": torch.arange(6.0).view(2, 3), "a": torch.tensor(3), "c": torch.zeros(0)}
    checkpoints.write(file, tensors, history="[]")
    found, facts = checkpoints.read(file)
    assert facts == {"history": "[]"}
    assert all(torch.equal(found[name], tensors[name]) for name in tensors)
    damage(file)
    with pytest.raises(checkpoints.Damaged, match=r"x\.safetensors"):
        checkpoints.read(file)


def test_damaged_weights_are_trained_again(finished, capsys):
    flip(work_folder(finished["key"]) / "model.safetensors")
    assert main(["recommend", finished["key"]]) == 0
    out = capsys.readouterr().out
    assert "damaged weights" in out
    assert "next, by features:circle" in out
    assert (work_folder(finished["key"]) / "model.unused").exists()


def test_weights_without_their_codes_are_set_aside_not_removed(finished, capsys):
    """Whoever copies the one file has good weights, of which nothing says what codes they belong to."""
    work = work_folder(finished["key"])
    weights = (work / "model.safetensors").read_bytes()
    (work / "codes.sha256").unlink()
    assert main(["recommend", finished["key"]]) == 0
    assert "no codes.sha256 beside them" in capsys.readouterr().out
    assert (work / "model.unused").read_bytes() == weights


def test_a_finished_trial_is_opened_by_the_beginning_of_its_key(finished, capsys):
    found = opened(finished["key"][:12])
    assert found.key == finished["key"]
    searcher, history = found.searcher, found.data.test.histories[2]
    assert found.recommend(history, 5) == searcher.recommend(history, 5)
    everything = found.recommend(history[:1], found.data.n_items)  # more than the trial's own beams
    assert sorted(item for item, _ in everything) == sorted(set(range(found.data.n_items)) - {int(history[0])})
    assert main(["recommend", finished["key"][:12], "--history", "3,1", "--count", "2"]) == 0
    assert capsys.readouterr().out.startswith("the history given (Toy), oldest first:")
    for wrong in ([], [-1], [found.data.n_items]):
        with pytest.raises(StudyError, match="history: give items of 0 to"):
            found.recommend(wrong)
    with pytest.raises(StudyError, match=r"finished trials have a key that begins so|no finished trial"):
        opened("")


def test_semantic_ids_are_exported_as_they_are_kept(finished, tmp_path, capsys, monkeypatch):
    """Fitted again they might be others, on another machine."""
    monkeypatch.setattr("studylib.tokenizers.fit", lambda *_: pytest.fail("fitted again"))
    assert main(["export", finished["key"], str(tmp_path / "ids.json")]) == 0
    assert "Semantic IDs, like <a_" in capsys.readouterr().out
    assert np.array_equal(SemanticIds.load(tmp_path / "ids.json").codes, content.codes_of(finished))


def test_a_count_is_opened_and_has_no_ids(folders):
    record = run([trial(data="Toy", generator={"name": "item-knn"})])[0]
    found = opened(record["key"])
    history = found.data.test.histories[0]
    assert set(history) & {item for item, _ in found.recommend(history, found.data.n_items, seen=True)}
    assert not set(history) & {item for item, _ in found.recommend(history, found.data.n_items)}
    for what in ("ids", "searcher"):
        with pytest.raises(StudyError, match="item-knn has no"):
            getattr(found, what)


def test_gc_removes_what_no_table_uses_and_asks_first(finished, folders, capsys, monkeypatch):
    assert main(["gc"]) == 0
    assert "nothing to remove" in capsys.readouterr().out
    unused = run([quick(seed=1)])[0]["key"]
    partial = paths.cache_root() / ".x.partial"
    partial.write_text("")
    assert main(["gc"]) == 0
    assert "nothing to remove" in capsys.readouterr().out.splitlines()[-1]  # all is younger than a day
    age(folders)
    assert main(["gc"]) == 2
    assert "--yes" in capsys.readouterr().err
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("builtins.input", lambda _: "n")
    assert main(["gc"]) == 0
    assert Store.default().record(unused) is not None
    monkeypatch.setattr("builtins.input", lambda _: "y")
    assert main(["gc"]) == 0
    assert Store.default().record(unused) is None
    assert Store.default().record(finished["key"]) is not None
    assert not partial.exists()


def age(folder) -> None:
    """Everything in ``folder`` was written two days ago."""
    for file in [folder, *folder.rglob("*")]:
        os.utime(file, (time.time() - 2 * upkeep.A_DAY,) * 2)


def test_gc_leaves_a_running_trial_alone(finished, folders):
    key = "0" * 16
    work_folder(key).mkdir(parents=True)
    with locked(work_folder(key) / LOCK):
        age(folders)
        assert not list(upkeep.garbage())
    assert [found.path for found in upkeep.garbage()] == [work_folder(key)]


def test_gc_leaves_what_came_into_use_after_the_list(finished, folders):
    """Whoever asks may wait for an answer, and meanwhile a runner takes the folder."""
    work = work_folder("0" * 16)
    work.mkdir(parents=True)
    age(folders)
    listed = list(upkeep.garbage())
    with locked(work / LOCK):
        age(folders)  # the lock's file is new, and would do by itself
        assert upkeep.remove(listed) == listed
    assert upkeep.remove(listed) == []
    assert not work.exists()


def test_verify_reads_what_was_measured_of_pages_and_trained_again(finished, folders):
    measured, again = paths.cache_root() / "reading" / "a.npy", paths.cache_root() / "retrained" / ("0" * 16)
    cache.write(measured, np.zeros(3))
    again.mkdir(parents=True)
    (again / "record.json").write_text("{}")
    found = {problem.file for problem in upkeep.verify()}
    assert found == {str(again / "record.json")}
    flip(measured)
    assert str(measured) in {problem.file for problem in upkeep.verify()}


def test_gc_keeps_the_trials_of_a_data_set_without_lists(finished, folders, capsys):
    (paths.results_of("Toy") / "table_2.trials.json").unlink()
    age(folders)
    assert main(["gc", "--yes"]) == 0
    assert "nothing to remove" in capsys.readouterr().out
    assert Store.default().record(finished["key"]) is not None


def test_a_table_names_its_trials(finished, folders):
    import pandas as pd

    results.save(pd.DataFrame({"a": [1]}), "t", "Toy", records=[finished])
    assert json.loads((paths.results_of("Toy") / "t.trials.json").read_text()) == {"features:circle": [finished["key"]]}
    (paths.results_of("Toy") / "t.trials.json").write_text("{")
    with pytest.raises(StudyError, match=r"t\.trials\.json: no list of trial keys"):
        upkeep.used_by_tables()


def test_sealed_values_cannot_be_changed():
    content = json.dumps(sealed({"a": 1})).encode()
    assert unsealed(content) == {"a": 1}
    for bad in (content.replace(b"1", b"2", 1), b"[1]", b"{}", b"{"):
        with pytest.raises(ValueError):  # noqa: PT011
            unsealed(bad)
