"""The store and the runner: nothing finished is lost or run again, nothing half-written is believed."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from studylib import checkpoints, content, keys, trials
from studylib.config import BUDGETS, Trial, trial
from studylib.data import atomic, load
from studylib.engines import FINISHED, run_trial
from studylib.errors import StudyError
from studylib.files import LOCK, locked, write_bytes
from studylib.keys import key_of
from studylib.semantic_ids import SemanticIds
from studylib.settings import checked
from studylib.store import Store, work_folder
from studylib.trial import (
    ALIGNMENT,
    CODES,
    baseline,
    forget_other_codes,
    record_of,
    trained,
    trained_on,
    validation_sample,
)
from studylib.trials import run
from tests.conftest import toy

TINY = {"d_model": 16, "d_ff": 32, "heads": 2, "d_head": 8, "encoder_layers": 1, "decoder_layers": 1}
QUICK = {**TINY, "epochs": 3, "lr": 1e-2, "targets_per_step": 16, "validate_every": 1, "patience": 99}
TOKENIZER = {"codes": 8, "levels": 2, "dims": 2}


def quick(seed: int = 0, **generator) -> Trial:
    return trial(data="Toy", features="features:circle", tokenizer=TOKENIZER, generator=QUICK | generator, seed=seed)


def read(store: Store, key: str) -> bytes:
    return (store.folder(key) / "record.json").read_bytes()


def test_another_search_takes_the_weights_that_are_there(folders, monkeypatch):
    alone = run([quick(search="free")], Store(folders / "alone"))[0]
    monkeypatch.setenv("STUDY_CACHE", str(folders / "another"))
    tree = run([quick()])[0]
    free = run([quick(search="free")])[0]
    log = (work_folder(free["key"]) / "log.txt").read_text()
    assert f"trained before, for search tree: {tree['key']}" in log
    assert (Store.default().folder(free["key"]) / "record.json").read_bytes() == read(
        Store(folders / "alone"), alone["key"]
    )
    assert free["cost"]["cpu_seconds"] > 2  # the training that it did not have to do again counts


def test_a_trial_imports_this_code_whatever_lies_around(folders, monkeypatch):
    around = folders / "around"
    (around / "studylib").mkdir(parents=True)
    (around / "studylib" / "__init__.py").write_text("raise SystemExit('another checkout')")
    (around / "tokenize.py").write_text("raise SystemExit('the standard library has a tokenize of its own')")
    monkeypatch.chdir(around)
    assert run([quick(epochs=1)])[0]["metrics"]


def test_a_data_set_is_known_by_its_name_and_what_it_holds(folders, monkeypatch):
    shutil.copytree(folders / "data" / "Toy", folders / "moved" / "Toy")
    monkeypatch.chdir(folders / "moved")
    known = key_of(quick(), load("Toy"))
    for folder in (folders / "data" / "Toy", "Toy", "./Toy", folders / "moved" / "Toy"):
        spec = quick().model_copy(update={"data": str(folder)})
        assert key_of(spec, load(str(folder))) == known
    record = run([trial(data="./Toy", generator={"name": "popularity"})])[0]
    monkeypatch.chdir(folders)
    assert run([trial(data="data/Toy", generator={"name": "popularity"})], train=False)[0]["key"] == record["key"]


def test_of_two_versions_of_the_data_the_current_one_is_read(folders):
    spec = trial(data="Toy", generator={"name": "popularity"})
    before = run([spec])[0]
    data = toy()
    atomic.write(replace(data, sequences=(data.sequences[0][::-1], *data.sequences[1:])), folders / "data" / "Toy")
    after = run([spec])[0]
    assert before["key"] != after["key"]
    assert run([spec], train=False)[0]["key"] == after["key"]
    shutil.rmtree(folders / "data" / "Toy")
    with pytest.raises(StudyError, match=r"2 finished trials of Toy .* of different data"):
        run([spec], train=False)


def test_runners_that_share_the_work_leave_nothing_out():
    keys = [f"{number:016x}" for number in range(40, 60)]
    orders = [trials.own_share_first(keys, f"{number}/3") for number in range(3)]
    assert all(sorted(order) == keys for order in orders)
    late = trials.own_share_first(keys[1:], "1/3")  # a trial was finished before this one began
    assert not set(late[:6]) & set(orders[0][:6])
    assert not set(orders[0][:6]) & set(orders[1][:6])
    for wrong in ("3/3", "1", "a/b", "-1/3"):
        with pytest.raises(StudyError, match="write 0/8 for the first"):
            trials.own_share_first(keys, wrong)


def test_what_another_runner_trains_is_left_to_it_until_the_end(folders, monkeypatch):
    """Three trials in turn; the first of the share is held by another runner, which lets go when the second is done."""
    specs = [quick(seed=seed, epochs=1) for seed in range(3)]
    data = load("Toy")
    monkeypatch.setenv(trials.TASK, "0/1")
    first, *_ = trials.own_share_first([key_of(spec, data) for spec in specs], "0/1")
    said: list[str] = []
    with ThreadPoolExecutor(1) as pool:
        with locked(work_folder(first) / LOCK):
            found = pool.submit(run, specs, jobs=1, log=said.append)
            deadline = time.monotonic() + 120
            while sum("done," in line for line in said) < 2:
                assert time.monotonic() < deadline
                time.sleep(0.1)
            assert Store.default().record(first) is None
        assert first in {record["key"] for record in found.result()}


def test_a_long_silence_is_filled_with_epochs(folders, monkeypatch):
    monkeypatch.setattr(trials, "PATIENCE", 0.5)
    said: list[str] = []
    key = run([quick(epochs=60)], log=said.append)[0]["key"]
    assert any(line.startswith(f"trials: {key[:8]} epoch ") and line.endswith("/60") for line in said)


def test_a_planted_rule_is_learnt(folders):
    record = run([quick(epochs=40)])[0]
    assert record["metrics"]["recall@5"] > 0.5  # chance: 5 of 40
    assert record["metrics_unseen"]["recall@5"] >= record["metrics"]["recall@5"]
    assert record["semantic_ids"]["collision_rate"] == 0
    assert json.loads((Store.default().folder(record["key"]) / "cost.json").read_text())["cpu_seconds"] > 0


def test_baselines_on_the_planted_rule(folders):
    knn, popularity = run([trial(data="Toy", generator={"name": name}) for name in ("item-knn", "popularity")])
    assert knn["metrics_unseen"]["recall@5"] > 0.9
    assert popularity["metrics"]["recall@10"] < 0.6


def test_same_config_same_bytes_and_finished_trials_start_no_process(folders, monkeypatch):
    store = Store.default()
    first = run([quick()])[0]
    bytes_before = read(store, first["key"])
    monkeypatch.setattr(trials, "open_engine", lambda *_: pytest.fail("a finished trial was run again"))
    assert run([quick()])[0]["metrics"] == first["metrics"]
    monkeypatch.undo()
    for name in ("RESULTS", "CACHE"):
        os.environ[f"STUDY_{name}"] = str(folders / f"other_{name}")
    os.environ["STUDY_DATA"] = str(folders / "data")
    again = run([quick()])[0]
    assert read(Store.default(), again["key"]) == bytes_before
    for name in ("RESULTS", "CACHE", "DATA"):
        del os.environ[f"STUDY_{name}"]


def test_the_key_depends_on_config_data_and_features_alone(folders):
    data = load("Toy")
    key = key_of(quick(), data)
    assert key == key_of(checked(Trial, json.loads(quick().model_dump_json())), load("Toy"))
    assert key != key_of(quick(seed=1), data)
    assert key != key_of(quick(lr=1e-3), data)
    features = np.load(data.folder / "Toy.circle.npy")
    np.save(data.folder / "Toy.circle.npy", features[::-1])
    assert key != key_of(quick(), data)
    np.save(data.folder / "Toy.circle.npy", features)
    atomic.write(toy(seed=1), data.folder)
    assert key != key_of(quick(), load("Toy"))


def kill_after(marker: str, command: list[str], log) -> None:
    """Start a trial's process and SIGKILL it once its log holds ``marker``."""
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out)
    deadline = time.monotonic() + 120
    while marker not in log.read_text():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, "the trial never got that far"
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()


def test_a_killed_trial_goes_on_to_the_same_record(folders):
    spec, data, store = quick(epochs=12), load("Toy"), Store.default()
    key = key_of(spec, data)
    work = work_folder(key)
    write_bytes(work / "trial.json", spec.model_dump_json().encode())
    command = [sys.executable, "-m", "studylib.trial", str(work), str(store.root)]
    kill_after("epoch 3/12", command, folders / "killed.log")
    assert (work / "checkpoint.safetensors").exists()
    assert store.record(key) is None
    assert run_trial(key, spec.model_dump_json(), str(store.root)) == FINISHED
    resumed = read(store, key)
    assert "epoch 1/12" not in (work / "log.txt").read_text()
    assert not (work / "checkpoint.safetensors").exists()
    for file in work.iterdir():
        file.unlink()
    (store.folder(key) / "record.json").unlink()
    assert run_trial(key, spec.model_dump_json(), str(store.root)) == FINISHED
    assert read(store, key) == resumed


def log_after_a_damaged_checkpoint(spec: Trial) -> str:
    key = key_of(spec, load("Toy"))
    write_bytes(work_folder(key) / "checkpoint.safetensors", b"not a checkpoint")
    write_bytes(work_folder(key) / CODES, content.of(spec, load("Toy")).ids.digest.encode())
    assert run_trial(key, spec.model_dump_json(), str(Store.default().root)) == FINISHED
    return (work_folder(key) / "log.txt").read_text()


def test_a_damaged_checkpoint_is_named_and_training_starts_again(folders):
    log = log_after_a_damaged_checkpoint(quick(epochs=2))
    assert "damaged checkpoint" in log
    assert "epoch 1/2" in log


def test_weights_belong_to_the_codes_that_they_were_trained_on(folders, capsys):
    """Another machine may fit other codes under the same key: neither its checkpoint nor its weights are taken."""
    spec, data = quick(), load("Toy")
    key, ids = key_of(spec, data), content.of(spec, data).ids
    assert run_trial(key, spec.model_dump_json(), str(Store.default().root)) == FINISHED
    work = work_folder(key)
    assert trained_on(work, ids)
    trained(spec, data, work)
    other = SemanticIds(ids.codes[::-1], ids.sizes)
    assert not trained_on(work, other)
    (work / ALIGNMENT).write_text("{}")
    assert forget_other_codes(work, other)
    assert not (work / ALIGNMENT).exists()
    assert "of other Semantic IDs than are made here now" in capsys.readouterr().out
    assert not (work / "model.safetensors").exists()
    with pytest.raises(checkpoints.Damaged, match="of other Semantic IDs"):
        trained(spec, data, work)
    log = log_after_a_damaged_checkpoint(quick(seed=1))
    assert "of other" not in log
    write_bytes(work_folder(key_of(quick(seed=2), data)) / "checkpoint.safetensors", b"of codes that nobody knows")
    assert run_trial(key_of(quick(seed=2), data), quick(seed=2).model_dump_json(), str(folders / "s")) == FINISHED
    assert "of other Semantic IDs" in (work_folder(key_of(quick(seed=2), data)) / "log.txt").read_text()


def test_large_codes_are_kept_whole(folders):
    """An index may hold codes that sixteen bits do not."""
    codes = np.stack([np.arange(40) * 2000, np.arange(40) % 7], axis=1)
    SemanticIds(codes, (80_000, 7)).save(folders / "large.json")
    both = f"index:{folders / 'large.json'}+features:circle"
    spec = trial(data="Toy", features=both, fusion="late", tokenizer=TOKENIZER, generator=QUICK | {"epochs": 1})
    made = content.of(spec, load("Toy")).ids.codes
    assert made.max() >= 65_536
    assert np.array_equal(content.codes_of(run([spec])[0]), made)


def test_two_runners_train_each_trial_once(folders):
    specs = [quick(seed=seed) for seed in range(3)]
    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(lambda _: run(specs, jobs=2), range(2))
    assert [record["key"] for record in one] == [record["key"] for record in other]
    for record in one:
        assert (work_folder(record["key"]) / "log.txt").read_text().count("semantic ids:") == 1


@pytest.mark.parametrize(
    "damage", [lambda raw: raw[: len(raw) // 2], lambda raw: raw.replace(b'"users": 60', b'"users": 61')]
)
def test_a_damaged_record_is_named_and_run_again(folders, capsys, damage):
    store = Store.default()
    record = run([trial(data="Toy", generator={"name": "item-knn"})])[0]
    file = store.folder(record["key"]) / "record.json"
    whole = file.read_bytes()
    assert damage(whole) != whole
    file.write_bytes(damage(whole))
    assert store.record(record["key"]) is None
    assert f"{file}: damaged record" in capsys.readouterr().err
    run([trial(data="Toy", generator={"name": "item-knn"})])
    assert file.read_bytes() == whole


def test_one_failing_trial_fails_alone_and_names_its_log(folders):
    bad = trial(data="Toy", features="features:circle", tokenizer=TOKENIZER | {"codes": 100}, generator=QUICK)
    with pytest.raises(StudyError) as error:
        run([quick(), bad], jobs=2)
    assert "1 of 2 trials failed" in str(error.value)
    assert "log.txt" in str(error.value)
    assert "40 items cannot fill 100 codes" in str(error.value)
    assert Store.default().record(key_of(quick(), load("Toy"))) is not None


def learnt(folders, moved) -> dict:
    """What a trial and the baselines learn on the toy with other sequences: weights, codes, counts, curves."""
    data = toy()
    atomic.write(type(data)("Toy", data.users, moved, 40, data.items), folders / "data" / "Toy")
    loaded = load("Toy")
    record = run([quick()])[0]
    searcher = trained(quick(), loaded, work_folder(record["key"]))
    knn = baseline(trial(data="Toy", generator={"name": "item-knn"}), loaded)
    popularity = baseline(trial(data="Toy", generator={"name": "popularity"}), loaded)
    return {
        "weights": {name: value.tolist() for name, value in searcher.model.state_dict().items()},
        "codes": searcher.ids.codes.tolist(),
        "similarity": knn.similarity.toarray().tolist(),
        "popularity": popularity.counts.tolist(),
        "losses": [row["loss"] for row in record["epochs"]],
        "validation": [row["recall@10"] for row in record["epochs"]],
        "metrics": record["metrics"],
    }


def test_changing_test_items_changes_nothing_that_was_learnt(folders):
    """Leakage: weights, tokenizer, counts and the choice of epoch are the same whatever the test items are."""
    sequences = toy().sequences
    before = learnt(folders, sequences)
    after = learnt(folders, tuple(np.append(s[:-1], (s[-1] + 7) % 40) for s in sequences))
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"metrics"}


def test_changing_validation_items_changes_no_training_loss(folders):
    """Validation items choose the epoch (so the weights kept may differ), but no loss, code or count sees them."""
    sequences = toy().sequences
    before = learnt(folders, sequences)
    after = learnt(folders, tuple(np.concatenate([s[:-2], [(s[-2] + 11) % 40], s[-1:]]) for s in sequences))
    changed = {name for name in before if before[name] != after[name]}
    assert {"codes", "similarity", "popularity", "losses"}.isdisjoint(changed)
    assert "validation" in changed


def test_another_encoder_behind_the_same_name_is_another_trial(folders, monkeypatch):
    data, spec = load("Toy"), trial(data="Toy", features="minilm", tokenizer=TOKENIZER, generator=QUICK)
    key = key_of(spec, data)
    monkeypatch.setattr("studylib.encoders.weights.key", lambda _: "0" * 64)
    assert key_of(spec, data) != key


def test_a_tokenizer_that_makes_other_codes_than_it_did_has_other_trials(folders, monkeypatch):
    data, names = load("Toy"), ("letter", "rq-vae")
    specs = [trial(data="Toy", features="features:circle", tokenizer=TOKENIZER | {"name": name}) for name in names]
    before = [key_of(spec, data) for spec in specs]
    monkeypatch.setitem(keys.REVISIONS, "letter", 99)
    assert [key_of(spec, data) == key for spec, key in zip(specs, before, strict=True)] == [False, True]


def test_settings_that_nothing_reads_make_no_other_trial():
    one = trial(data="X", features="index:a", tokenizer={"codes": 32})
    assert one == trial(data="X", features="index:a")
    assert one.tokenizer.name == "none"


def test_nothing_to_train_on_is_said(folders):
    data = toy()
    short = tuple(sequence[:3] for sequence in data.sequences)
    atomic.write(type(data)("Toy", data.users, short, 40, data.items), folders / "data" / "Toy")
    with pytest.raises(StudyError, match="no user has two items before the validation item"):
        run([quick()])


def test_reading_without_training_needs_no_data(folders, monkeypatch):
    record = run([quick()])[0]
    monkeypatch.setenv("STUDY_DATA", str(folders / "nowhere"))
    assert run([quick()], train=False)[0] == record
    with pytest.raises(StudyError, match=r"0 finished trials of Toy features:circle tiger seed 5.*train: true"):
        run([quick(seed=5)], train=False)


def test_a_trial_process_imports_nothing_heavy():
    heavy = ("transformers", "timm", "sklearn", "scipy", "pandas", "matplotlib", "onnxruntime")
    code = f"import sys, studylib.trial; print([name for name in {heavy} if name in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_validation_sample_is_the_same_for_all(folders):
    valid = load("Toy").valid
    assert validation_sample(valid, 1000) is valid
    one, other = validation_sample(valid, 10), validation_sample(valid, 10)
    assert one.targets.tolist() == other.targets.tolist()
    assert len(one) == 10


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"data": "Toy", "sede": 1}, "unknown setting 'sede'"),
        ({"data": "Toy", "budget": "huge"}, "'huge' is none of smoke, cpu, paper"),
        ({"data": "Toy", "seed": -1}, "setting 'seed'"),
        ({"data": "Toy", "generator": {"lr": "fast"}}, "setting 'generator.tiger.lr'"),
        ({"data": "Toy", "generator": {"layers": 3}}, "unknown setting 'generator.tiger.layers'"),
        ({"data": "Toy", "features": "features:circle", "tokenizer": {"codes": 1}}, "setting 'tokenizer.codes'"),
        ({"data": "Toy", "generator": {"name": "lstm"}}, "setting 'generator'"),
        ({"data": "Toy", "generator": {"dropout": 1.0}}, "setting 'generator.tiger.dropout'"),
        ({"data": "Toy", "features": "minilm", "generator": {"name": "sasrec"}}, "'minilm': sasrec reads none; set"),
        (
            {"data": "Toy", "features": "index:a+index:b", "tokenizer": "opq"},
            "'tokenizer': 'opq' is no mapping",
        ),
    ],
)
def test_settings_that_do_not_exist_or_fit(settings, complaint):
    with pytest.raises(StudyError) as error:
        trial(**settings)
    assert complaint in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_index_and_features_are_named(folders):
    with pytest.raises(StudyError, match=r"index:lost': no such index; looked for .*Toy.lost.json"):
        key_of(trial(data="Toy", features="index:lost"), load("Toy"))
    with pytest.raises(StudyError, match=r"Toy.lost.npy: no such file"):
        key_of(trial(data="Toy", features="features:lost"), load("Toy"))
    with pytest.raises(StudyError, match="name an encoder"):
        content.of(trial(data="Toy"), load("Toy"))


def test_budgets_differ_in_size():
    assert BUDGETS["smoke"].d_model < BUDGETS["cpu"].d_model < BUDGETS["paper"].d_model
    assert BUDGETS["paper"].training == "windows"


def test_a_record_holds_no_time(folders, monkeypatch):
    from studylib.metrics import Ranks
    from studylib.trial import Outcome

    data = load("Toy")
    outcome = Outcome(Ranks.of([0] * 60), Ranks.of([0] * 60), [])
    spec = trial(data="Toy", generator={"name": "popularity"})
    records = []
    for now in (1.0, 1e9):
        monkeypatch.setattr(time, "time", lambda now=now: now)
        monkeypatch.setattr(time, "process_time", lambda now=now: now)
        records.append(record_of(spec, data, outcome))
    assert records[0] == records[1]
    assert not {"cpu_seconds", "wall_seconds", "date"} & set(records[0])
