"""One trial, in its own process: ``python -m studylib.trial WORK STORE``.

WORK holds trial.json; the finished trial goes to STORE. It imports torch and nothing heavier.
"""

import io
import json
import resource
import sys
import time
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from itertools import combinations, permutations
from pathlib import Path
from typing import get_args

import numpy as np
import torch

from studylib import __version__, accelerate, checkpoints, content, next_item, training
from studylib.accelerate import Team
from studylib.alignment import align, translated
from studylib.config import NextItemSettings, TigerSettings, Trial
from studylib.content import Content
from studylib.data import Dataset, Split, load
from studylib.encoders import cache
from studylib.engines import BAD_INPUT, FOUND
from studylib.errors import StudyError
from studylib.evaluation import Searcher
from studylib.files import LOCK, locked, write_bytes
from studylib.keys import key_of
from studylib.metrics import WHOLE, PickedRanks, Ranks
from studylib.models.baselines import ItemKnn, Popularity, full_ranks
from studylib.models.generator import Generator, user_tokens
from studylib.semantic_ids import SemanticIds
from studylib.settings import checked
from studylib.store import FORMAT, Store, work_folder

MAXRSS_OF_A_MB = 2**20 if sys.platform == "darwin" else 1024  # getrusage counts bytes there, elsewhere kB
# In a trial's work folder:
WEIGHTS, CHECKPOINT, CODES, ALIGNMENT = "model.safetensors", "checkpoint.safetensors", "codes.sha256", "alignment.json"


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a trial found on the test split, read once: ranks, and ranks with seen items left out."""

    every: Ranks
    unseen: Ranks
    epochs: list[dict]
    content: Content | None = None
    ran_on: dict = field(default_factory=dict)
    borrowed: float = 0.0  # CPU seconds of a training that another trial had done
    parts: dict[str, Ranks] = field(default_factory=dict)  # by modality of a late-fused ID
    picked: PickedRanks | None = None  # where items share their ID
    subsets: dict[str, Ranks] = field(default_factory=dict)  # by the modalities that histories had
    alignment: dict = field(default_factory=dict)  # see ``_aligned``


def execute(trial: Trial, data: Dataset, work: Path, team: Team) -> Outcome | None:
    """Train and evaluate; a generator leaves its weights and checkpoint in ``work``.

    Only the team's first process evaluates; the others return None.
    """
    if isinstance(trial.generator, NextItemSettings):
        return _next_item_outcome(trial, data, work)
    if not isinstance(trial.generator, TigerSettings):
        return _baseline_outcome(trial, data)
    found = content.of(trial, data)
    ids, settings, device = found.ids, trial.generator, accelerate.device()
    print(f"semantic ids: {ids.quality()}", flush=True)
    team.once(lambda: forget_other_codes(work, ids), device)  # the others wait for it
    model = training.build(settings, ids, trial.seed).to(device)
    sample = validation_sample(data.valid, settings.validation_users)
    by_user = user_tokens(data.users, settings.user_tokens)

    def validate(model) -> float:
        searcher = Searcher(model, ids, settings.history, beams=10, user_tokens=by_user)  # as many as Recall@10 needs
        return float(searcher.ranks(sample)[0].recall(10).mean())

    checkpoint = work / CHECKPOINT
    earlier = checkpoints.seconds(checkpoint)
    epochs, borrowed = trained_for_another_search(trial, data, model, ids, work)
    if epochs is None:
        if settings.alignment and not earlier:  # it comes first, so a checkpoint that can be read stands behind it
            losses = align(model, ids, settings, trial.seed)
            if team.first:
                learnt = {"loss": losses, "aligned": translated(model, ids)}
                write_bytes(work / ALIGNMENT, json.dumps(learnt).encode())
        epochs = training.train(
            model, torch.as_tensor(ids.codes, device=device), data.training, settings, trial.seed, validate,
            log=lambda line: print(line, flush=True), checkpoint=checkpoint, team=team,
            user_tokens=None if by_user is None else torch.as_tensor(by_user, device=device),
        )  # fmt: skip
    if not team.first:
        return None
    spent = borrowed or earlier + time.process_time()
    checkpoints.write(work / WEIGHTS, model.state_dict(), epochs=json.dumps(epochs), cpu_seconds=repr(round(spent, 2)))
    searcher = _searcher(model, ids, settings, data)
    every, unseen, parts, picked = searcher.answers(data.test)
    return Outcome(
        every, unseen, epochs, found, accelerate.facts(device, settings), borrowed,
        dict(zip((*trial.modalities, WHOLE), parts, strict=False)),
        picked if not parts and ids.written.tree.group_sizes.max() > 1 else None,
        without_modalities(searcher, trial, data),
        _aligned(model, ids, trial, work) if settings.alignment else {},
    )  # fmt: skip


def without_modalities(searcher: Searcher, trial: Trial, data: Dataset) -> dict[str, Ranks]:
    """Ranks on the test split if histories had some of the modalities only, by their names joined by ``+``.

    For a generator that was trained with masks: what its exact Shapley values are made of (001, Table 3b).
    """
    names, found = trial.modalities, {}
    for size in range(len(names) if trial.generator.masking else 0):
        for present in combinations(range(len(names)), size):
            missing = tuple(set(range(len(names))) - set(present))
            ranks, _ = replace(searcher, missing=missing).ranks(data.test)
            found["+".join(names[number] for number in present)] = ranks
    return found


def _aligned(model: Generator, ids: SemanticIds, trial: Trial, work: Path) -> dict:
    """What translation was learnt before training, and is left of it after.

    ``loss``: its mean over each tenth of the steps. ``from``, ``to``: the modalities of each direction; ``aligned`` and
    ``trained``: ``alignment.translated`` before and after training. Weights of another trial may have come without
    what was written beside them; then the last alone is known.
    """
    found = {"trained": translated(model, ids)}
    found["from"], found["to"] = (list(names) for names in zip(*permutations(trial.modalities, 2), strict=True))
    if (work / ALIGNMENT).exists():
        learnt = json.loads((work / ALIGNMENT).read_text())
        tenths = np.array_split(learnt["loss"], min(10, len(learnt["loss"])))
        found |= {"loss": [round(float(np.mean(tenth)), 4) for tenth in tenths], "aligned": learnt["aligned"]}
    return found


def trained_on(work: Path, ids: SemanticIds) -> bool:
    """Whether what lies in ``work`` was trained on these codes.

    Another machine, or another version of a library, may fit other codes to the same embeddings under the same key.
    """
    file = work / CODES
    return file.exists() and file.read_text() == ids.digest


def forget_other_codes(work: Path, ids: SemanticIds) -> bool:
    """Remove weights, checkpoint and what alignment learnt, if of other codes, and note on which the next ones are."""
    if trained_on(work, ids):
        return False
    (work / ALIGNMENT).unlink(missing_ok=True)
    for name in WEIGHTS, CHECKPOINT:
        if (work / name).exists():
            print(f"{work / name}: of other Semantic IDs than are made here now; training again", flush=True)
            (work / name).unlink()
    write_bytes(work / CODES, ids.digest.encode())
    return True


def trained_for_another_search(
    trial: Trial, data: Dataset, model: Generator, ids: SemanticIds, work: Path
) -> tuple[list[dict] | None, float]:
    """Give ``model`` the weights of a finished trial that differs in ``search`` alone, if they are on this machine.

    Training never searches otherwise than along the tree, so they are the weights that training would end with.
    Returns the epochs and CPU seconds of that training; None and 0 where there is none.
    """
    for search in get_args(TigerSettings.model_fields["search"].annotation):
        other = trial.model_copy(update={"generator": trial.generator.model_copy(update={"search": search})})
        file = work_folder(key_of(other, data)) / WEIGHTS
        if search == trial.generator.search or not file.exists() or not trained_on(file.parent, ids):
            continue
        try:
            weights, facts = checkpoints.read(file)
        except checkpoints.Damaged as error:
            print(f"{error}; training again", flush=True)
            continue
        if "epochs" in facts:
            print(f"trained before, for search {search}: {file.parent.name}", flush=True)
            model.load_state_dict(weights)
            model.eval()
            if (file.parent / ALIGNMENT).exists():
                write_bytes(work / ALIGNMENT, (file.parent / ALIGNMENT).read_bytes())
            return json.loads(facts["epochs"]), float(facts["cpu_seconds"])
    return None, 0.0


def baseline(trial: Trial, data: Dataset) -> Popularity | ItemKnn:
    """The model of a baseline's trial, counted on the training split."""
    if trial.generator.name == "item-knn":
        return ItemKnn(data.training, data.n_items, trial.generator)
    return Popularity(data.training, data.n_items)


def _baseline_outcome(trial: Trial, data: Dataset) -> Outcome:
    model, histories, targets = baseline(trial, data), data.test.histories, data.test.targets
    every, unseen = (Ranks.of(full_ranks(model, histories, targets, leave_out)) for leave_out in (False, True))
    return Outcome(every, unseen, [])


def _next_item_outcome(trial: Trial, data: Dataset, work: Path) -> Outcome:
    """Train SASRec or GRU4Rec; leaves its weights, and its item embeddings for later trials, in ``work``."""
    settings = trial.generator
    model = next_item.build(settings, data.n_items, trial.seed).to(accelerate.device())
    scorer = next_item.Scorer(model, settings.history)
    epochs = next_item.train(
        model, data.training, settings, trial.seed, lambda _: float(scorer.ranks(data.valid).recall(10).mean()),
        log=lambda line: print(line, flush=True), checkpoint=work / CHECKPOINT,
    )  # fmt: skip
    checkpoints.write(work / WEIGHTS, model.state_dict())
    cache.write(work / next_item.EMBEDDINGS, model.items.weight.detach().cpu().numpy())
    every, unseen = (scorer.ranks(data.test, leave_out) for leave_out in (False, True))
    return Outcome(every, unseen, epochs)


def validation_sample(valid: Split, users: int) -> Split:
    """The same ``users`` users for every trial on a data set, or all of them."""
    if users >= len(valid):
        return valid
    chosen = np.sort(np.random.default_rng(0).permutation(len(valid))[:users])
    return Split(tuple(valid.histories[user] for user in chosen), valid.targets[chosen], valid.users[chosen])


def trained(trial: Trial, data: Dataset, work: Path) -> Searcher:
    """The finished generator of a trial, from the weights it left.

    Raises:
        checkpoints.Damaged: the weights are cut off or changed, or of other codes than are made here now.
    """
    ids, settings = content.of(trial, data).ids, trial.generator
    if not trained_on(work, ids):
        said = "of other Semantic IDs than are made here now" if (work / CODES).exists() else f"no {CODES} beside them"
        raise checkpoints.Damaged(f"{work / WEIGHTS}: {said}")
    model = training.build(settings, ids, trial.seed)
    model.load_state_dict(checkpoints.read(work / WEIGHTS)[0])
    return _searcher(model.eval(), ids, settings, data)


def _searcher(model, ids: SemanticIds, settings: TigerSettings, data: Dataset) -> Searcher:
    by_user = user_tokens(data.users, settings.user_tokens)
    return Searcher(model, ids, settings.history, settings.beams, settings.search, by_user)


def record_of(trial: Trial, data: Dataset, outcome: Outcome) -> dict:
    """All that was measured; nothing in it depends on when or how fast it was."""
    made = outcome.content
    return {
        "key": key_of(trial, data),
        "format": FORMAT,
        "trial": trial.model_dump(mode="json"),
        "data": {"fingerprint": data.fingerprint, **data.statistics},
        "versions": {name: version(name) for name in ("torch", "numpy")} | {"studylib": __version__},
        "features": made.provenance if made else None,
        "semantic_ids": made.ids.quality() if made else None,
        "epochs": outcome.epochs,
        "metrics": outcome.every.means(),
        "metrics_unseen": outcome.unseen.means(),
        "ranks": outcome.every.pack(),
        "ranks_unseen": outcome.unseen.pack(),
        **({"ranks_parts": packed(outcome.parts)} if outcome.parts else {}),
        **({"ranks_picked": outcome.picked.pack()} if outcome.picked else {}),
        **({"ranks_subsets": packed(outcome.subsets)} if outcome.subsets else {}),
        **({"alignment": outcome.alignment} if outcome.alignment else {}),
        **(tokenizer_report(made.ids) | made.facts if made else {}),
        **outcome.ran_on,
    }


def packed(ranks: dict[str, Ranks]) -> dict[str, dict]:
    return {name: values.pack() for name, values in ranks.items()}


def tokenizer_report(ids: SemanticIds) -> dict:
    """How the tokenizer was fitted, as columns, and what was done about collisions; nothing for ready or late IDs."""
    if not ids.report:
        return {}
    *steps, collisions = ids.report
    columns = {name: [row[name] for row in steps] for name in (steps[0] if steps else ())}
    return {"tokenizer": {"steps": columns, "collisions": collisions}}


def main(work: Path, store: Store) -> int:
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True, warn_only=True)
    trial = checked(Trial, json.loads((work / "trial.json").read_text()))
    team = Team.join()
    try:
        if team.first:
            with locked(work / LOCK):
                return _run(trial, work, store, team)
        return _run(trial, work, store, team)
    finally:
        team.leave()


def _run(trial: Trial, work: Path, store: Store, team: Team) -> int:
    """Exit status: 0, or FOUND if there was nothing left to do."""
    data = load(trial.data)
    key = key_of(trial, data)
    finished = team.first and store.record(key) is not None and _weights_are_there(trial, work)
    if team.once(lambda: float(finished), accelerate.device()):  # also where the others wait for the first's lock
        print("finished by another runner", flush=True)
        return FOUND if team.size == 1 else 0  # torchrun knows no status but success
    began, spent = time.time(), checkpoints.seconds(work / CHECKPOINT)
    outcome = execute(trial, data, work, team)
    if outcome is None:
        return 0
    cost = {
        "cpu_seconds": round(time.process_time() + spent + outcome.borrowed, 2),
        "wall_seconds": round(time.time() - began, 2),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / MAXRSS_OF_A_MB, 1),
    }
    codes = None
    if outcome.content and trial.tokenizer.name != "none":
        buffer = io.BytesIO()
        codes = outcome.content.ids.codes
        np.save(buffer, codes.astype(np.result_type(np.uint16, np.min_scalar_type(codes.max()))), allow_pickle=False)
        codes = buffer.getvalue()
    store.write(record_of(trial, data, outcome), cost, codes)
    (work / CHECKPOINT).unlink(missing_ok=True)
    print(json.dumps({name: round(value, 4) for name, value in outcome.every.means().items()}), flush=True)
    return 0


def _weights_are_there(trial: Trial, work: Path) -> bool:
    if not isinstance(trial.generator, TigerSettings | NextItemSettings):
        return True
    # Embeddings are read: a damaged file, or one whose digest is not written yet, is no finished work.
    needs_rows = isinstance(trial.generator, NextItemSettings)
    return (work / WEIGHTS).exists() and (not needs_rows or cache.read(work / next_item.EMBEDDINGS) is not None)


if __name__ == "__main__":
    try:
        status = main(Path(sys.argv[1]), Store(Path(sys.argv[2])))
    except (StudyError, FloatingPointError) as error:
        print(f"error: {error}", flush=True)
        status = BAD_INPUT
    sys.exit(status)
