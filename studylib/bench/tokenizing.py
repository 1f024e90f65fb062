"""Tokenizers: residual k-means against faiss, what they cost as the catalogue grows, and the tree of the result."""

import json
import resource
import subprocess
import sys
import time

import numpy as np
import torch

from studylib import training
from studylib.bench.turns import TURNS, rates
from studylib.config import BUDGETS, TokenizerSettings, trial
from studylib.decoding import TensorTree, beam_search
from studylib.errors import StudyError
from studylib.semantic_ids import SemanticIds


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
        raise StudyError("bench tokenize: faiss is not installed; pip install faiss-cpu (extra 'opq')") from None
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
            found["not_measured"] = f"{name} and what follows it, for want of time; give --seconds 150"
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
        StudyError: a size is no number of at least 256, a tokenizer is unknown or wants more than embeddings, or a
            process failed.
    """
    sizes = items.split(",")
    for size in sizes:
        if not size.isdecimal() or int(size) < 256:
            raise StudyError(f"bench tokenize --items: {size!r} is no number from 256 up; write 10000,100000")
    if "letter" in tokenizers.split(","):
        raise StudyError("bench tokenize --tokenizers: letter wants SASRec's embeddings of real items; take rq-vae")
    specs = [trial(data="bench", features="bench", tokenizer={"name": name}) for name in tokenizers.split(",")]
    rows = []
    print(
        f"{'tokenizer':16} {'items':>9} {'fit CPU s':>10} {'peak MiB':>9} {'tree CPU s':>10} {'users/s':>8}", flush=True
    )
    for spec in specs:
        for size in sizes:
            call = f"from studylib.bench.tokenizing import growth_row; growth_row({int(size)}, {spec.tokenizer.name!r})"
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
