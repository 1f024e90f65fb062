"""Engines: GPUs in turn, a Dask cluster, Slurm's settings, several processes for one trial, and what is refused."""

import json
import threading
import time

import numpy as np
import pytest
import torch

from studylib import accelerate, content, engines, examples, training
from studylib.config import BUDGETS, Trial, trial
from studylib.data import load
from studylib.engines import CHILDREN, FINISHED, Gpus, open_engine, run_trial
from studylib.errors import StudyError
from studylib.keys import key_of
from studylib.semantic_ids import SemanticIds
from studylib.settings import checked
from studylib.store import Store, work_folder
from studylib.threads import torch_threads
from studylib.trials import run
from tests.test_trials import QUICK, TOKENIZER, quick, read


def test_gpus_are_lent_in_turn_and_never_twice():
    pool, seen, busy = Gpus(["0", "1", "2"]), [], set()

    def use(count):
        with pool.lend(count) as environment:
            mine = set(environment["CUDA_VISIBLE_DEVICES"].split(","))
            assert len(mine) == count
            assert not mine & busy
            busy.update(mine)
            seen.append(mine)
            time.sleep(0.01)
            busy.difference_update(mine)

    threads = [threading.Thread(target=use, args=(1 + number % 3,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(seen) == 12
    assert set().union(*seen) == {"0", "1", "2"}


def test_more_gpus_than_there_are_is_refused_and_no_gpu_is_no_variable():
    with pytest.raises(StudyError, match="4 asked for, but this machine shows 2"), Gpus(["0", "1"]).lend(4):
        pass
    with Gpus([]).lend(2) as environment:
        assert environment == {}


def test_a_trial_sees_the_gpu_that_it_was_lent(folders, monkeypatch):
    monkeypatch.setattr(engines, "_gpus", Gpus(["7"]))
    given = []
    monkeypatch.setattr(CHILDREN, "run", lambda command, log, environment: given.append(environment) or 0)
    assert run_trial("0" * 16, quick().model_dump_json(), str(folders)) == FINISHED
    assert given[0]["CUDA_VISIBLE_DEVICES"] == "7"
    assert given[0]["OMP_NUM_THREADS"] == "1"


def test_a_trial_that_a_team_needs_does_not_join_the_team(folders, monkeypatch):
    """What torchrun tells its processes must not reach a trial that one of them starts (SASRec's, for its rows)."""
    told = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "MASTER_PORT": "29500", "TORCHELASTIC_RUN_ID": "x"}
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    given = []
    monkeypatch.setattr(CHILDREN, "run", lambda command, log, environment: given.append(environment) or 0)
    assert run_trial("0" * 16, quick().model_dump_json(), str(folders)) == FINISHED
    assert not told.keys() & given[0].keys()
    assert "PATH" in given[0]


def test_a_trial_that_always_crashes_fails_alone(folders, monkeypatch):
    """A process that dies without a word is tried twice; the other trial finishes and the log is named."""
    bad, good = quick(seed=1), quick(seed=2)
    bad_key = key_of(bad, load("Toy"))
    (work_folder(bad_key)).mkdir(parents=True)
    (work_folder(bad_key) / "log.txt").write_text("error: of yesterday\n")
    original = CHILDREN.run

    def crash(command, log, environment):
        if bad_key in str(log):
            command = [command[0], "-c", "import os; print('about to die', flush=True); os.abort()"]
        return original(command, log, environment)

    monkeypatch.setattr(CHILDREN, "run", crash)
    with pytest.raises(StudyError) as error:
        run([bad, good], jobs=2)
    assert "1 of 2 trials failed" in str(error.value)
    assert str(work_folder(bad_key) / "log.txt") in str(error.value)
    assert "failed with status -6: about to die" in str(error.value)
    assert (work_folder(bad_key) / "log.txt").read_text().count("about to die") == engines.TRIES
    assert Store.default().record(key_of(good, load("Toy"))) is not None


def test_an_interrupt_stops_the_processes_and_nothing_is_tried_again(folders):
    log = work_folder(key_of(quick(epochs=4000), load("Toy"))) / "log.txt"

    def interrupt():
        while not (log.exists() and "epoch 2/" in log.read_text()):
            time.sleep(0.05)
        CHILDREN.stop()

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(StudyError, match="stopped"):
        run([quick(epochs=4000)])
    thread.join(60)
    assert log.read_text().count("semantic ids:") == 1


def test_trials_on_a_dask_cluster_give_the_same_bytes(folders):
    distributed = pytest.importorskip("distributed", reason="left out: pip install -e '.[cluster]'")
    here = run([quick()])[0]
    expected = read(Store.default(), here["key"])
    (Store.default().folder(here["key"]) / "record.json").unlink()
    (work_folder(here["key"]) / "model.safetensors").unlink()
    lines = []
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=2, dashboard_address=None, silence_logs=50
    ) as cluster:
        run([quick(), quick(seed=1)], engine=cluster.scheduler_address, log=lines.append)
    assert read(Store.default(), here["key"]) == expected
    assert any("2 of 2 done" in line for line in lines)


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("ray", "write '' for this machine"),
        ("tcp://127.0.0.1:1", "no Dask scheduler answers there"),
        ("tcp://nobody", "no Dask scheduler answers there"),
        ("nowhere.yaml", "nowhere.yaml: no such file"),
    ],
)
def test_engines_that_are_not_there(name, complaint, monkeypatch):
    pytest.importorskip("dask_jobqueue", reason="left out: pip install -e '.[cluster]'")
    monkeypatch.setattr(engines, "ANSWER", 1)
    with pytest.raises(StudyError) as error, open_engine(name):
        pass
    assert complaint in str(error.value)


def test_slurm_settings(tmp_path):
    from studylib import paths
    from studylib.files import read_yaml
    from studylib.settings import checked

    settings = checked(engines.SlurmSettings, read_yaml(paths.ROOT / "params" / "cluster" / "slurm.yaml"))
    assert settings.jobs >= 1
    with pytest.raises(StudyError, match="unknown setting 'partition'"):
        checked(engines.SlurmSettings, {"partition": "gpu"})


# -- several processes for one trial --------------------------------------------------------------------------------


def test_two_processes_train_one_trial_as_one_does(folders):
    """Without dropout a step of two processes is that of one but for rounding, so that losses agree closely."""
    settings = {"dropout": 0.0, "epochs": 2}
    alone = run([quick(**settings)])[0]
    together = run([quick(**settings, devices=2)])[0]
    assert together["key"] != alone["key"]
    assert together["ran_on"] == {"device": "cpu", "precision": "fp32"}
    for one, other in zip(alone["epochs"], together["epochs"], strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-3)
        assert one["recall@10"] == pytest.approx(other["recall@10"], abs=0.1)
    log = (work_folder(together["key"]) / "log.txt").read_text()
    assert log.count("epoch 1/2") == 1


def test_summed_shares_are_the_whole_gradient():
    pieces = examples.one_pass_pieces([np.arange(n) for n in (4, 5, 6, 7, 8)], 50)
    codes = torch.randint(0, 8, (10, 3), generator=torch.Generator().manual_seed(0))
    settings = trial(data="x", budget="smoke", generator={"dropout": 0.0}).generator
    model = training.build(settings, SemanticIds(np.arange(8)[:, None].repeat(3, 1), (8, 8, 8)), 0)

    def gradient(part, weight):
        model.zero_grad()
        (training.loss(model, codes, examples.collate(part, windows=False)) * weight).backward()
        return torch.cat([p.grad.flatten() for p in model.parameters()])

    total = sum(piece.targets for piece in pieces)
    shares = [accelerate.Team(rank, 2).share(pieces) for rank in range(2)]
    summed = sum(gradient(share, sum(p.targets for p in share) / total) for share in shares)
    assert torch.allclose(summed, gradient(pieces, 1.0), atol=1e-6)


def test_a_cpu_never_pays_for_a_gpus_options(monkeypatch):
    cpu = torch.device("cpu")
    settings = BUDGETS["smoke"].model_copy(update={"precision": "fp16", "compile": True})
    arithmetic = accelerate.Arithmetic.on(cpu, settings)
    assert arithmetic.precision == "fp32"
    assert not arithmetic.scaler.is_enabled()
    assert accelerate.compiled(len, cpu, settings) is len
    on_gpu = accelerate.Arithmetic.on(torch.device("cuda"), settings)
    assert on_gpu.precision == "fp16"


def test_settings_that_came_later_leave_old_keys_alone():
    old = trial(data="Toy", features="features:circle", tokenizer=TOKENIZER, generator=QUICK)
    new = trial(
        data="Toy",
        features="features:circle",
        tokenizer=TOKENIZER,
        generator=QUICK | {"devices": 1, "precision": "fp32"},
    )
    assert old.model_dump_json() == new.model_dump_json()
    assert "devices" not in json.loads(old.model_dump_json())["generator"]
    assert "devices" in json.loads(quick(devices=2).model_dump_json())["generator"]
    assert checked(Trial, json.loads(quick(devices=2).model_dump_json())).generator.devices == 2


def test_a_failure_is_not_explained_by_an_older_one(tmp_path):
    log = tmp_path / "log.txt"
    assert engines.reason(log) == "no log"
    log.write_text("error: of yesterday\n")
    begin = log.stat().st_size
    log.write_text("error: of yesterday\nepoch 1\nkilled\n")
    assert engines.reason(log) == "error: of yesterday"
    assert engines.reason(log, begin) == "killed"


def test_codes_are_made_on_one_thread_wherever_they_are_asked_for(monkeypatch):
    """A trial's process has one; a second thread adds in another order, and codes may come out otherwise."""
    monkeypatch.setattr(content, "_modality", lambda *_: torch.get_num_threads())
    before = torch.get_num_threads()
    with torch_threads(2):
        assert content.of(trial(data="Toy", features="random"), None) == 1
        assert torch.get_num_threads() == 2
    assert torch.get_num_threads() == before
