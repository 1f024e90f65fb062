"""What each modality of a history is worth: exact Shapley values over all subsets of modalities (001, Table 3b).

A game's players are the modalities, its payout is a metric of one and the same model with only some of them in the
history. With n modalities that is 2^n evaluations and no sampling. The payout is a mean over users and the values are
linear in it, so every user has values of their own, and intervals come from resampling users.
"""

from collections.abc import Sequence
from itertools import combinations
from math import factorial

import numpy as np
import pandas as pd
from jaxtyping import Float

from studylib.analysis.significance import bootstrap_interval, compare
from studylib.data import planted
from studylib.data.planted import Knobs
from studylib.errors import StudyError
from studylib.metrics import Ranks

Payouts = dict[frozenset[str], Float[np.ndarray, "*seeds users"]]


def shapley_values(payouts: Payouts) -> dict[str, Float[np.ndarray, "*seeds users"]]:
    """Each player's value, user by user: sum over the subsets S without the player of

        |S|! (n - |S| - 1)! / n! * (payout(S with the player) - payout(S))      (Shapley, 1953)

    Raises:
        StudyError: a subset of the players is missing.

    >>> payouts = {frozenset(): 0.0, frozenset("a"): 1.0, frozenset("b"): 2.0, frozenset("ab"): 4.0}
    >>> shapley_values({players: np.array([payout]) for players, payout in payouts.items()})
    {'a': array([1.5]), 'b': array([2.5])}
    """
    players = sorted(frozenset().union(*payouts))
    for size in range(len(players) + 1):
        for subset in combinations(players, size):
            if frozenset(subset) not in payouts:
                raise StudyError(f"Shapley values: no payout of {'+'.join(subset) or 'nothing'}; evaluate all subsets")
    found, n = {}, len(players)
    for player in players:
        others = [other for other in players if other != player]
        found[player] = sum(
            factorial(size) * factorial(n - size - 1) / factorial(n)
            * (payouts[frozenset(subset) | {player}] - payouts[frozenset(subset)])
            for size in range(n)
            for subset in combinations(others, size)
        )  # fmt: skip
    return found


def subsets(games: dict[str, Payouts], labels: dict[str, str]) -> pd.DataFrame:
    """One row a subset of modalities, the worst first: what is left of histories, and the mean payout of each game.

    Args:
        games: by metric; the first one orders the rows.
        labels: of the modalities, in the order in which they are named.
    """
    rows = [
        {"modalities": " + ".join(label for name, label in labels.items() if name in present) or "none"}
        | {metric: payouts[present].mean() for metric, payouts in games.items()}
        for present in next(iter(games.values()))
    ]
    return pd.DataFrame(rows).sort_values(next(iter(games)), ignore_index=True)


def by_metric(games: dict[str, Payouts], labels: dict[str, str]) -> pd.DataFrame:
    """``table`` of each game, below each other, with the modalities' labels, the metric, and the seeds of the first."""
    found = pd.concat([table(payouts).assign(metric=metric) for metric, payouts in games.items()], ignore_index=True)
    seeds = len(np.atleast_2d(next(iter(next(iter(games.values())).values()))))
    return found.assign(modality=found["modality"].map(labels), seeds=seeds)


def payouts_of(records: Sequence[dict], metric: str = "recall@10") -> Payouts:
    """Per-user payouts of a masked model's trials, [seeds, users], by the modalities that histories had.

    Raises:
        StudyError: a trial was not trained with masks.
    """
    name, k = metric.split("@")
    sums: dict[frozenset[str], list[np.ndarray]] = {}
    for record in records:
        if "ranks_subsets" not in record:
            raise StudyError(f"{record['key']}: trained without masks; set masking, and fusion to stacked")
        whole = {record["trial"]["features"]: record["ranks"]}
        for subset, ranks in (record["ranks_subsets"] | whole).items():
            present = frozenset(subset.split("+")) - {""}
            sums.setdefault(present, []).append(getattr(Ranks.unpack(ranks), name)(int(k)))
    return {present: np.stack(rows) for present, rows in sums.items()}


def ideal_payouts(knobs: Knobs, players: dict[str, str], k: int = 10) -> Payouts:
    """Per-user Recall@k of a reader who knows the planted knobs, of the last product's groups those of a subset only.

    It ranks products by their probability to be the next one: what an unseen group causes goes by popularity. A hit is
    an expectation where products are equally probable. With crossed groups no reader of the same groups does better
    but by chance, so these are the values that an analysis has to find.

    Args:
        players: the names of the modalities, and the cause that each shows (``planted.CAUSES``).

    Raises:
        StudyError: groups that do not cross, where an ideal reader would have to know more than the last product.
    """
    if not knobs.crossed:
        raise StudyError("the ideal reader is known for crossed groups only; add crossed=4,items=64 to the knobs")
    data, _, truth = planted.generate(knobs)
    popularity = truth.popularity / truth.popularity.sum()
    last, users = np.array([history[-1] for history in data.test.histories]), np.arange(len(data.test.targets))
    following = {}
    for cause in players.values():
        fits = np.stack([truth.follows(cause, item) * popularity for item in range(data.n_items)])
        following[cause] = (fits / fits.sum(1, keepdims=True))[last]
    found = {}
    for size in range(len(players) + 1):
        for subset in combinations(players, size):
            seen = {players[name]: getattr(knobs, players[name]) for name in subset}
            odds = (1 - sum(seen.values())) * np.tile(popularity, (len(last), 1))
            odds += sum(share * following[cause] for cause, share in seen.items())
            above = odds - odds[users, data.test.targets][:, None]
            ahead, equal = (above > 1e-12).sum(1), (abs(above) <= 1e-12).sum(1)
            found[frozenset(subset)] = np.clip((k - ahead) / equal, 0, 1)
    return found


def beside_ideal(payouts: Payouts, knobs: Knobs, players: dict[str, str]) -> pd.DataFrame:
    """``table`` by cause, with the cause's knob in front and the value and share of the ideal reader behind.

    ``off``: by how much a value misses the ideal reader's, user by user, with its interval over users and seeds. The
    ideal reader has nothing to learn, so a trained model's values miss a little of his for certain, given users enough.
    """
    ideal_payout = ideal_payouts(knobs, players)
    found, ideal = (
        table(game).set_index("modality").loc[list(players), ["value", "low", "high", "share"]]
        for game in (payouts, ideal_payout)
    )
    found.insert(0, "knob", [getattr(knobs, cause) for cause in players.values()])
    found = found.assign(**{"ideal value": ideal["value"], "ideal share": ideal["share"]})
    values, sought = shapley_values(payouts), shapley_values(ideal_payout)
    for name in players:
        off = compare(np.atleast_2d(values[name]), np.broadcast_to(sought[name], np.atleast_2d(values[name]).shape))
        found.loc[name, ["off", "off low", "off high"]] = off.difference, off.low, off.high
    return found.rename(index=players).reset_index()


def beside_controls(payouts: Payouts, controls: Sequence[Payouts]) -> pd.DataFrame:
    """One row a control: the value of the modality that it replaces, less its own, as ``compare`` has it.

    Codes also name items, so codes without content have a value too; what the modality's is above it is its content's.

    Args:
        payouts: of the game with the modality.
        controls: of games with the same modalities but one.
    """
    rows, values = [], shapley_values(payouts)
    for payouts_of_control in controls:
        others = shapley_values(payouts_of_control)
        (modality,), (control,) = values.keys() - others.keys(), others.keys() - values.keys()
        first, second = np.atleast_2d(values[modality]), np.atleast_2d(others[control])
        row = {"modality": modality, "seeds": len(first), "control": control, "seeds of control": len(second)}
        row |= {"value": first.mean(), "value of control": second.mean()}
        rows.append(row | compare(first, second).row)
    return pd.DataFrame(rows)


def findings(table: pd.DataFrame, payouts: Payouts) -> list[str]:
    """What ``table`` says of the modalities; intervals over users and seeds decide what was seen.

    Args:
        payouts: what the table was made from.

    >>> payouts = {frozenset(): [[0.0]], frozenset("a"): [[1.0]], frozenset("b"): [[2.0]], frozenset("ab"): [[4.0]]}
    >>> payouts = {players: np.repeat(payout, 9, axis=1) for players, payout in payouts.items()}
    >>> print(*findings(table(payouts), payouts)[:2], sep="\\n")
    The values add up to 4.0000: a Recall@10 of 4.0000 with all of a history less 0.0000 with nothing of it.
    b is worth most: +1.0000 [+1.0000, +1.0000] more than the next, over users alone (one seed).
    """
    everything = max(payouts, key=len)
    most = table.loc[table["value"].idxmax()]
    known = most["lead low"] > 0
    over = _over(most["by_seeds"])
    lines = [
        f"The values add up to {table['value'].sum():.4f}: a Recall@10 of {payouts[everything].mean():.4f} with all of "
        f"a history less {payouts[frozenset()].mean():.4f} with nothing of it.",
        f"{most['modality']} is worth most{'' if known else ', not told apart from the next'}: {most['lead']:+.4f} "
        f"[{most['lead low']:+.4f}, {most['lead high']:+.4f}] more than the next, over {over}.",
    ]
    for _, row in table.iterrows():
        over = _over(row["by_seeds"])
        seen = "is not" if row["both low"] > 0 or row["both high"] < 0 else "is"
        share = f", {row['share']:.0%} of the gain" if row["share"] == row["share"] else ""
        value = f"{row['value']:+.4f} Recall@10 [{row['low']:+.4f}, {row['high']:+.4f}] over users"
        lines.append(f"{row['modality']}: {value}{share}; over {over} 0 {seen} in its interval.")
    return lines


def _over(by_seeds: float) -> str:
    return "users alone (one seed)" if np.isnan(by_seeds) else "users and seeds"


def contents(rows: pd.DataFrame) -> list[str]:
    """What a table of ``beside_controls`` says: is a modality worth more than codes that mean nothing?

    >>> row = {"modality": "text", "control": "random IDs", "seeds": 1, "value": 0.03, "value of control": 0.02}
    >>> contents(pd.DataFrame([row | {"difference": 0.01, "low": -0.01, "high": 0.03, "by_seeds": np.nan}]))
    ['random IDs in the place of text are worth +0.0200; text is worth +0.0100 [-0.0100, +0.0300] more, over users \
alone (one seed): that its content is worth anything is not seen.']
    """
    lines = []
    for _, row in rows.iterrows():
        over = _over(row["by_seeds"])
        lines.append(
            f"{row['control']} in the place of {row['modality']} are worth {row['value of control']:+.4f}; "
            f"{row['modality']} is worth {row['difference']:+.4f} [{row['low']:+.4f}, {row['high']:+.4f}] more, over "
            f"{over}: that its content is worth anything is {'' if row['low'] > 0 else 'not '}seen."
        )
    return lines


def recovered(rows: pd.DataFrame) -> list[str]:
    """What a table of ``beside_ideal``, with a column ``data``, says of each setting of the knobs."""
    lines = []
    for name, row in rows.groupby("data", sort=False):
        order = "the" if _same_order(row["value"].to_numpy(), row["ideal value"].to_numpy()) else "not the"
        off = (row["share"] - row["ideal share"]).abs().max()
        shares = f"shares off by {off:.2f} at most" if off == off else "no gain to share"
        inside = row["ideal value"].between(row["low"], row["high"])
        missed = "" if inside.all() else f", not of {' and '.join(row['modality'][~inside])}"
        most = row.loc[row["off"].abs().idxmax()]
        lines.append(
            f"{name}: {order} order of the ideal reader, {shares}; intervals hold its value of "
            f"{' and '.join(row['modality'][inside]) or 'none'}{missed}. User by user a value is off by "
            f"{most['off']:+.4f} [{most['off low']:+.4f}, {most['off high']:+.4f}] at most, that of the "
            f"{most['modality']}."
        )
        for _, silent in row[row["knob"] == 0].iterrows():
            inside = "holds" if silent["low"] <= 0 <= silent["high"] else "does not hold"
            lines.append(f"{name}: nothing follows from the {silent['modality']}; its interval {inside} 0.")
    return lines


def _same_order(values: np.ndarray, ideal: np.ndarray) -> bool:
    """Whether every two that differ in ``ideal`` differ likewise; equal ones have no order."""
    above = np.sign(np.subtract.outer(ideal, ideal))
    return bool((np.sign(np.subtract.outer(values, values)) == above)[above != 0].all())


def table(payouts: Payouts, seed: int = 0) -> pd.DataFrame:
    """One row a modality: value, its 95 % bootstrap interval over users, and its share of what all modalities add.

    ``both low`` and ``both high``: the interval over users and seeds (of one seed over users, and ``by_seeds``, the
    standard error by seeds, is NaN), as is that of ``lead``, the value less that of the best of the others. NaN shares
    where all of them add nothing to speak of: the interval of the sum reaches down to 0.

    The values add up to the payout of all modalities minus that of none, which is checked.
    """
    values = shapley_values(payouts)
    gain = payouts[frozenset(values)] - payouts[frozenset()]
    total, seen = float(gain.mean()), bootstrap_interval(_by_user(gain), seed)[0] > 0
    if abs(sum(value.mean() for value in values.values()) - total) > 1e-9:
        raise AssertionError("Shapley values do not add up to what all modalities add")
    rows = []
    for player, value in values.items():
        low, high = bootstrap_interval(_by_user(value), seed)
        share = value.mean() / total if seen else np.nan
        row = {"modality": player, "value": value.mean(), "low": low, "high": high, "share": share}
        both = compare(value, np.zeros_like(value), seed)
        row |= {"both low": both.low, "both high": both.high, "by_seeds": both.by_seeds}
        lead = value - max((other for name, other in values.items() if name != player), key=np.mean, default=0)
        found = compare(lead, np.zeros_like(lead), seed)
        rows.append(row | {"lead": lead.mean(), "lead low": found.low, "lead high": found.high})
    return pd.DataFrame(rows)


def _by_user(values: Float[np.ndarray, "*seeds users"]) -> Float[np.ndarray, " users"]:
    return np.atleast_2d(values).mean(0)
