"""Speed on one thread, in CPU seconds, against a named reference in the same run.

Each measurement alternates short turns of ours and the reference's, so that a machine that slows down slows both.
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

from studylib import training
from studylib.config import BUDGETS, TigerSettings, Trial, trial
from studylib.data import Dataset, load
from studylib.decoding import TensorTree, beam_search
from studylib.errors import StudyError
from studylib.evaluation import padded
from studylib.metrics import Ranks
from studylib.models.t5 import to_t5
from studylib.semantic_ids import SemanticIds
from studylib.store import FORMAT, Store
from studylib.trials import run as run_trials

TURNS = 3


def run(what: str, data_set: str, index: Path | None, seconds: float, encoders: str) -> dict:
    """One benchmark; returns the numbers that the command prints as its last line.

    Args:
        what: "train", "decode", "tokenize", "render", "encode" or "runner".
        data_set: a data set's name or folder ("tokenize" and "runner" have inputs of their own).
        index: a Semantic-ID index; None: random IDs of four levels of 256 codes.
        seconds: bound of the whole run.
        encoders: names with commas between, for "encode".
    """
    torch.set_num_threads(1)
    if what == "tokenize":
        return tokenize(seconds)
    if what == "runner":
        return runner()
    data = load(data_set)
    if what == "render":
        return render(data, seconds)
    if what == "encode":
        return encode(data, seconds, encoders.split(","))
    ids = SemanticIds.load(index, data.n_items) if index else random_ids(data.n_items)
    return (train if what == "train" else decode)(data, ids, seconds)


def random_ids(n_items: int) -> SemanticIds:
    """IDs of four levels of 256 random codes: their shape costs what real ones cost."""
    return SemanticIds(np.random.default_rng(0).integers(0, 256, (n_items, 4)), (256,) * 4)


def rates(jobs: dict[str, Callable[[], int]], seconds: float) -> dict[str, float]:
    """Things done per CPU second by each job; a job does some things and returns how many."""
    for job in jobs.values():
        job()  # warm up
    spent, done = dict.fromkeys(jobs, 0.0), dict.fromkeys(jobs, 0)
    turn = seconds * 0.7 / len(jobs) / TURNS
    for _ in range(TURNS):
        for name, job in jobs.items():
            began = time.process_time()
            while time.process_time() - began < turn:
                done[name] += job()
            spent[name] += time.process_time() - began
    return {name: done[name] / spent[name] for name in jobs}


# -- training ----------------------------------------------------------------------------------------------------


def train(data: Dataset, ids: SemanticIds, seconds: float) -> dict:
    """Targets per CPU second: the ``cpu`` budget, the papers' size in one pass, and transformers' T5 of that size.

    transformers' T5 is trained as the papers' code does it: on randomly batched sliding windows, padded to the longest.
    """
    paper = BUDGETS["paper"].model_copy(update={"training": "one-pass", "softmax": "level"})
    windows = training.window_pieces(data.training, paper.history)
    found = rates(
        {
            "cpu_budget": _one_pass(data, ids, BUDGETS["cpu"]),
            "paper_size": _one_pass(data, ids, paper),
            "transformers": _transformers(windows, ids, BUDGETS["paper"]),
        },
        seconds,
    )
    return {name: round(rate, 2) for name, rate in found.items()} | {
        "ratio": round(found["paper_size"] / found["transformers"], 2)
    }


def _one_pass(data: Dataset, ids: SemanticIds, settings: TigerSettings) -> Callable[[], int]:
    model = training.build(settings, ids.sizes, seed=0).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
    codes = torch.as_tensor(ids.codes)
    pieces = training.one_pass_pieces(data.training, settings.history)
    groups = _endless(lambda order: training.batches(pieces, settings.targets_per_step, order))

    def step() -> int:
        batch = training.collate(next(groups), windows=False)
        loss = training.loss(model, codes, batch)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        return int(batch.counts.sum())

    return step


def _endless(batches: Callable[[np.random.Generator], Iterator]) -> Iterator:
    order = np.random.default_rng(0)
    while True:
        yield from batches(order)


def _transformers(windows: list[training.Piece], ids: SemanticIds, settings: TigerSettings) -> Callable[[], int]:
    model = to_t5(training.build(settings, ids.sizes, seed=0)).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
    tokens = torch.as_tensor(ids.codes + np.cumsum([1, *ids.sizes[:-1]]))
    order = np.random.default_rng(0)

    def step() -> int:
        chosen = order.choice(len(windows), min(settings.targets_per_step, len(windows)), replace=False)
        batch = training.collate([windows[i] for i in chosen], windows=True)
        history, mask = _padded_tokens(tokens, batch.history, batch.lengths)
        loss = model(input_ids=history, attention_mask=mask, labels=tokens[batch.targets[:, 0]]).loss
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        return len(chosen)

    return step


def _padded_tokens(tokens: torch.Tensor, history: torch.Tensor, lengths: torch.Tensor):
    mask = (torch.arange(history.shape[1]) < lengths[:, None]).repeat_interleave(tokens.shape[1], 1)
    return tokens[history].flatten(1) * mask, mask.long()


# -- decoding -----------------------------------------------------------------------------------------------------


def decode(data: Dataset, ids: SemanticIds, seconds: float, beams: int = 20) -> dict:
    """Users per CPU second with 20 beams on the prefix tree: the ``cpu`` budget, the papers' size, and transformers.

    The papers' size and transformers' ``generate`` (with ``prefix_allowed_tokens_fn``) share weights that were trained
    for a moment. Ours searches users of equal history length together, as it does in every trial; ``generate`` gets
    them as the papers' code does, in random order and padded to the longest. ``same_top10`` is the share of users whose
    ten items agree.
    """
    small = training.build(BUDGETS["cpu"], ids.sizes, seed=0).eval()
    large = training.build(BUDGETS["paper"], ids.sizes, seed=0)
    _train_a_moment(large, data, ids, seconds * 0.15)
    theirs = to_t5(large).eval()
    lengths = [min(len(history), 50) for history in data.test.histories]
    by_length = np.array_split(np.argsort(lengths, kind="stable"), -(-len(lengths) // 32))
    at_random = np.array_split(np.random.default_rng(0).permutation(len(lengths)), -(-len(lengths) // 32))
    found = rates(
        {
            "cpu_budget": _job(by_length, lambda users: _search(small, ids, data, users, beams)),
            "paper_size": _job(by_length, lambda users: _search(large, ids, data, users, beams)),
            "transformers": _job(at_random, lambda users: _generate(theirs, ids, *_histories(data, users), beams)),
        },
        seconds * 0.8,
    )
    users = at_random[0]
    items = ids.tree.items[ids.tree.group_first[_search(large, ids, data, users, beams)[:, :10].numpy()]]
    same = (ids.codes[items] == _generate(theirs, ids, *_histories(data, users), beams)[:, :10]).all((1, 2))
    return {name: round(rate, 2) for name, rate in found.items()} | {
        "ratio": round(found["paper_size"] / found["transformers"], 2),
        "same_top10": round(float(same.mean()), 4),
    }


def _job(groups: list[np.ndarray], work: Callable[[np.ndarray], object]) -> Callable[[], int]:
    """One group of users after the other, in random order."""
    order = _endless(lambda rng: (groups[i] for i in rng.permutation(len(groups))))

    def one() -> int:
        users = next(order)
        work(users)
        return len(users)

    return one


def _train_a_moment(model, data: Dataset, ids: SemanticIds, seconds: float) -> None:
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
    codes, pieces = torch.as_tensor(ids.codes), training.window_pieces(data.training, 10)
    groups = _endless(lambda order: training.batches(pieces, 64, order))
    began = time.process_time()
    while time.process_time() - began < seconds:
        loss = training.loss(model, codes, training.collate(next(groups), windows=True))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
    model.eval()


def _search(model, ids: SemanticIds, data: Dataset, users, beams: int) -> torch.Tensor:
    items, lengths = _histories(data, users)
    return beam_search(model, TensorTree(ids.tree), torch.as_tensor(ids.codes)[items], lengths, beams)[0].leaves


def _histories(data: Dataset, users) -> tuple[torch.Tensor, torch.Tensor]:
    return padded([data.test.histories[user][-50:] for user in users])


@torch.inference_mode()
def _generate(model, ids: SemanticIds, items, lengths, beams: int) -> np.ndarray:
    """Codes [users, beams, levels] by transformers' constrained beam search."""
    offsets = np.cumsum([1, *ids.sizes[:-1]])
    tokens = torch.as_tensor(ids.codes + offsets)
    children: dict[tuple, list[int]] = {}
    for row in np.unique(ids.codes + offsets, axis=0).tolist():
        for depth in range(ids.levels):
            following = children.setdefault(tuple(row[:depth]), [])
            if not following or following[-1] != row[depth]:
                following.append(row[depth])
    history, mask = _padded_tokens(tokens, items, lengths)
    sequences = model.generate(
        input_ids=history,
        attention_mask=mask,
        num_beams=beams,
        num_return_sequences=beams,
        max_new_tokens=ids.levels,
        do_sample=False,
        prefix_allowed_tokens_fn=lambda _, prefix: children[tuple(prefix[1:].tolist())],
    )
    return sequences[:, 1:].reshape(len(items), beams, ids.levels).numpy() - offsets


# -- tokenizing ---------------------------------------------------------------------------------------------------


def text_like(items: int, dims: int, seed: int = 7) -> np.ndarray:
    """Vectors shaped like text embeddings: 40 groups of skewed size with 12 subgroups each, a power-law spectrum."""
    rng = np.random.default_rng(seed)
    spectrum = (np.arange(1, dims + 1) ** -0.6).astype("f4")
    basis, _ = np.linalg.qr(rng.standard_normal((dims, dims)).astype("f4"))
    coarse = rng.standard_normal((40, dims)).astype("f4") * spectrum
    fine = rng.standard_normal((40, 12, dims)).astype("f4") * spectrum * 0.7
    weight = np.arange(1, 41) ** -0.7
    group = rng.choice(40, items, p=weight / weight.sum())
    subgroup = rng.integers(0, 12, items)
    noise = rng.standard_normal((items, dims)).astype("f4") * spectrum * 0.8
    x = (coarse[group] + fine[group, subgroup] + noise) @ basis.T
    return np.ascontiguousarray(x / np.linalg.norm(x, axis=1, keepdims=True)).astype("f4")


def tokenize(seconds: float = 60, items: int = 6250, dims: int = 768) -> dict:
    """Residual k-means, L 3, K 256, against three faiss fits of 25 iterations: CPU seconds, error.

    Both take turns, three at most, and the least time counts; no turn begins that ``seconds`` would not let end.
    """
    try:
        import faiss
    except ImportError:
        raise StudyError("bench tokenize: faiss is not installed; pip install faiss-cpu (extra 'dev')") from None
    from studylib.tokenizers.residual_kmeans import fit

    faiss.omp_set_num_threads(1)
    x = text_like(items, dims)
    times: dict[str, list[float]] = {"ours": [], "faiss": []}
    started = time.monotonic()
    for turn in range(TURNS):
        if turn and (time.monotonic() - started) / turn * (turn + 1) > seconds:
            break
        began = time.process_time()
        ours_error = fit(x).error[-1]
        times["ours"].append(time.process_time() - began)
        began = time.process_time()
        residual = x
        for level in range(3):
            clustering = faiss.Kmeans(dims, 256, niter=25, seed=level + 1, min_points_per_centroid=1)
            clustering.train(residual)
            _, nearest = clustering.index.search(residual, 1)
            residual = residual - clustering.centroids[nearest[:, 0]]
        times["faiss"].append(time.process_time() - began)
        faiss_error = float(np.square(residual).sum() / np.square(x).sum())
    ours, theirs = min(times["ours"]), min(times["faiss"])
    return {
        "ours_seconds": round(ours, 3),
        "faiss_seconds": round(theirs, 3),
        "ratio": round(ours / theirs, 3),
        "ours_error": round(ours_error, 5),
        "faiss_error": round(faiss_error, 5),
    }


# -- pages --------------------------------------------------------------------------------------------------------


def render(data: Dataset, seconds: float) -> dict:
    """Pages drawn per CPU second, at 1024 and at 256 pixels."""
    from studylib.render import Page, render

    groups = np.arange(data.n_items)[:, None]
    jobs = {
        f"pages_{page.resolution}": _job(groups, lambda item, page=page: render(data.fields(item[0]), page, item[0]))
        for page in (Page(), Page(resolution=256))
    }
    return {name: round(rate, 1) for name, rate in rates(jobs, min(seconds, 15)).items()}


def encode(data: Dataset, seconds: float, encoders: list[str]) -> dict:
    """Items encoded per CPU second by each encoder, rendering included, nothing read from the cache."""
    from studylib.encoders.embeddings import uncached

    groups = np.array_split(np.arange(data.n_items), -(-data.n_items // 8))
    encode = {name: uncached(data, name) for name in encoders}
    jobs = {name: _job(groups, lambda items, name=name: encode[name](items.tolist())) for name in encoders}
    return {name: round(rate, 2) for name, rate in rates(jobs, seconds).items()}


# -- the runner ----------------------------------------------------------------------------------------------------


def runner(trials: int = 1000) -> dict:
    """CPU seconds of what surrounds a training, against a bare ``import torch`` in the same run.

    ``trial_start``: a trial's process up to the first line of its own; ``list``: ``study trials`` over a thousand
    finished trials; ``read``: the same thousand found by a notebook that has nothing left to train.
    """
    record = _a_record()
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "trials")
        specs = [Trial(**record["trial"] | {"seed": seed}) for seed in range(trials)]
        for seed, spec in enumerate(specs):
            own = record | {"key": f"{seed:016x}", "trial": spec.model_dump(mode="json")}
            store.write(own, {"cpu_seconds": 1.0}, None)
        environment = os.environ | {"STUDY_RESULTS": folder}
        began = time.process_time()
        run_trials(specs, store, train=False)
        return {
            "import_torch": _cpu_seconds(["-c", "import torch"], environment),
            "trial_start": _cpu_seconds(["-c", "import studylib.trial"], environment),
            "list": _cpu_seconds(["-m", "studylib.cli", "trials"], environment),
            "read": round(time.process_time() - began, 3),
        }


def _a_record() -> dict:
    """A record as large as one of Scientific's: ranks of 2,843 users."""
    users = np.random.default_rng(0).integers(0, 400, 2843).astype(np.uint16)
    ranks = Ranks(users, np.ones_like(users))
    return {
        "key": "", "format": FORMAT, "trial": trial(data="bench", features="random").model_dump(mode="json"),
        "data": {"fingerprint": "0" * 64}, "epochs": [{"epoch": epoch, "loss": 1.0} for epoch in range(40)],
        "metrics": ranks.means(), "metrics_unseen": ranks.means(), "ranks": ranks.pack(), "ranks_unseen": ranks.pack(),
    }  # fmt: skip


def _cpu_seconds(arguments: list[str], environment: dict[str, str]) -> float:
    """Least CPU time of a fresh interpreter, of three."""
    spent = []
    for _ in range(TURNS):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *arguments], env=environment, check=True, stdout=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return round(min(spent), 3)
