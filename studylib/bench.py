"""Speed on one thread, in CPU seconds, against a named reference in the same run.

Each measurement alternates short turns of ours and the reference's, so that a machine that slows down slows both.
"""

import json
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
from studylib.config import BUDGETS, TigerSettings, TokenizerSettings, Trial, trial
from studylib.data import Dataset, load
from studylib.decoding import TensorTree, beam_search
from studylib.errors import StudyError
from studylib.evaluation import padded
from studylib.fusion import late
from studylib.metrics import Ranks
from studylib.models.t5 import to_t5
from studylib.semantic_ids import SemanticIds
from studylib.store import FORMAT, Store
from studylib.trials import run as run_trials

TURNS = 3


def run(
    what: str,
    data_set: str,
    index: Path | None,
    seconds: float,
    encoders: str,
    items: str = "",
    tokenizers: str = "residual-kmeans",
) -> dict:
    """One benchmark; returns the numbers that the command prints as its last line.

    Args:
        what: "train", "decode", "fused", "tokenize", "render", "encode" or "runner".
        data_set: a data set's name or folder ("tokenize" and "runner" have inputs of their own).
        index: a Semantic-ID index; None: random IDs of four levels of 256 codes.
        seconds: bound of the whole run.
        encoders: names with commas between, for "encode".
        items: numbers with commas between: "tokenize" prints a table of what each size costs instead.
        tokenizers: names with commas between, for that table.
    """
    torch.set_num_threads(1)
    if items and what != "tokenize":
        raise StudyError(f"bench {what}: --items is for tokenize; leave it out")
    if what == "tokenize" and items:
        return growth(items, tokenizers)
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
    return {"train": train, "decode": decode, "fused": fused}[what](data, ids, seconds)


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
    model = training.build(settings, ids, seed=0).train()
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
    model = to_t5(training.build(settings, ids, seed=0)).train()
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
    small = training.build(BUDGETS["cpu"], ids, seed=0).eval()
    large = training.build(BUDGETS["paper"], ids, seed=0)
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


def fused(data: Dataset, ids: SemanticIds, seconds: float) -> dict:
    """What an ID of two modalities costs, per target in training and per user in search, against one of one.

    ``late`` is twice as long as ``ids``, ``delimited`` has three levels of one code besides. The ``cpu`` budget.
    """
    other = SemanticIds(np.random.default_rng(1).permutation(ids.codes), ids.sizes)
    kinds = {"one": ids} | {name: late.combine([ids, other], name) for name in ("late", "delimited")}
    lengths = [min(len(history), 50) for history in data.test.histories]
    by_length = np.array_split(np.argsort(lengths, kind="stable"), -(-len(lengths) // 48))

    def search(kind: SemanticIds) -> Callable[[], int]:
        model = training.build(BUDGETS["cpu"], kind, seed=0).eval()
        return _job(by_length, lambda users: _search(model, kind, data, users, BUDGETS["cpu"].beams))

    trained = rates({name: _one_pass(data, kind, BUDGETS["cpu"]) for name, kind in kinds.items()}, seconds / 2)
    searched = rates({name: search(kind) for name, kind in kinds.items()}, seconds / 2)
    return {
        f"{what}_{name}": round(found["one"] / found[name], 2)
        for what, found in (("training", trained), ("decoding", searched))
        for name in ("late", "delimited")
    } | {"targets_per_second": round(trained["one"], 1), "users_per_second": round(searched["one"], 1)}


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

    Both take turns, three at most, and the least time counts; no turn begins that ``seconds`` would not let end. In the
    time that is left R-VQ and then RQ-VAE have one turn each; 150 seconds are enough for both.
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
    others = _learned(x, seconds - (time.monotonic() - started), max(times["ours"]))
    return {
        "ours_seconds": round(ours, 3),
        "faiss_seconds": round(theirs, 3),
        "ratio": round(ours / theirs, 3),
        "ours_error": round(ours_error, 5),
        "faiss_error": round(faiss_error, 5),
    } | others


def _learned(x: np.ndarray, seconds: float, turn: float) -> dict:
    """R-VQ's and RQ-VAE's CPU seconds, error and codes in use at level 1, as far as ``seconds`` go.

    ``turn``: what residual k-means took; R-VQ takes up to 3 times, RQ-VAE up to 16 times as long.
    """
    from studylib.tokenizers import r_vq, rq_vae

    found, started = {}, time.monotonic()
    for name, tokenizer, times in (("r_vq", r_vq, 3), ("rq_vae", rq_vae, 16)):
        if time.monotonic() - started + turn * times > seconds:
            break
        began = time.process_time()
        result = tokenizer.fit(x)
        found[f"{name}_seconds"] = round(time.process_time() - began, 3)
        found[f"{name}_error"] = round(result.error[-1], 5)
        found[f"{name}_usage"] = len(np.unique(result.codes[:, 0]))
    return found


def growth(items: str, tokenizers: str) -> dict:
    """What tokenizing costs as the catalogue grows: a line for each tokenizer and size, each in a process of its own.

    128 dimensions, L 3, K 256, through the door ``tokenizers.fit``: CPU seconds, the process's peak memory up to there
    (the embeddings, 512 bytes an item, and torch included), CPU seconds of the prefix tree, and users a CPU second of a
    20-beam search along it by an untrained generator of the ``cpu`` budget. Not bound by ``--seconds``.

    Raises:
        StudyError: a size is no number of at least 256, a tokenizer is unknown, or a process failed.
    """
    sizes = items.split(",")
    for size in sizes:
        if not size.isdecimal() or int(size) < 256:
            raise StudyError(f"bench tokenize --items: {size!r} is no number from 256 up; write 10000,100000")
    specs = [trial(data="bench", features="bench", tokenizer={"name": name}) for name in tokenizers.split(",")]
    rows = []
    print(
        f"{'tokenizer':16} {'items':>9} {'fit CPU s':>10} {'peak MiB':>9} {'tree CPU s':>10} {'users/s':>8}", flush=True
    )
    for spec in specs:
        for size in sizes:
            call = f"from studylib.bench import growth_row; growth_row({int(size)}, {spec.tokenizer.name!r})"
            done = subprocess.run([sys.executable, "-c", call], capture_output=True, text=True)
            if done.returncode:
                last = (done.stderr.strip() or f"exit status {done.returncode}").splitlines()[-1]
                raise StudyError(f"bench tokenize --items: {size} items: {last}; try fewer items")
            row = json.loads(done.stdout.splitlines()[-1])
            print(
                f"{row['tokenizer']:16} {row['items']:9} {row['fit_seconds']:10.2f} {row['peak_mb']:9.0f} "
                f"{row['tree_seconds']:10.2f} {row['users_per_second']:8.0f}",
                flush=True,
            )
            rows.append(row)
    return {"growth": rows}


def growth_row(items: int, name: str) -> None:
    """Print one row of ``growth`` as JSON."""
    from studylib import tokenizers

    torch.set_num_threads(1)
    x = _many_items(items)
    began = time.process_time()
    ids = tokenizers.fit(x, TokenizerSettings(name=name), seed=0)
    fitted = time.process_time()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    built_from = time.process_time()
    tree = ids.tree
    built = time.process_time() - built_from
    row = {
        "tokenizer": name, "items": items, "fit_seconds": round(fitted - began, 3), "peak_mb": round(peak, 1),
        "tree_seconds": round(built, 3), "users_per_second": round(_users_per_second(ids), 1),
        "leaves": len(tree.group_sizes),
        "error": round(ids.error[-1], 5), "collisions_before": ids.report[-1]["before"], "sizes": list(ids.sizes),
    }  # fmt: skip
    print(json.dumps(row))


def _many_items(items: int, dims: int = 128, part: int = 10_000) -> np.ndarray:
    """Different items around 10,000 of ``text_like``, made in parts so that making them needs no memory of its own."""
    kinds, x = text_like(part, dims), np.empty((items, dims), dtype=np.float32)
    for start in range(0, items, part):
        rng = np.random.default_rng((11, start))
        chosen = kinds[rng.integers(0, part, min(part, items - start))]
        x[start : start + part] = chosen + rng.standard_normal(chosen.shape, dtype=np.float32) * (0.3 / dims**0.5)
    return x


def _users_per_second(ids: SemanticIds, users: int = 32, history: int = 20, seconds: float = 6) -> float:
    """Beam search with 20 beams, random histories, in batches of 32 users."""
    model = training.build(BUDGETS["cpu"], ids, seed=0).eval()
    tree, codes = TensorTree(ids.tree), torch.as_tensor(ids.codes)
    items = torch.randint(len(codes), (users, history), generator=torch.Generator().manual_seed(0))
    lengths = torch.full((users,), history)

    def job() -> int:
        beam_search(model, tree, codes[items], lengths, BUDGETS["cpu"].beams)
        return users

    return rates({"search": job}, seconds)["search"]


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
