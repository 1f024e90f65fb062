"""What tables say, as printed and in sentences that their numbers alone decide."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from studylib.analysis.significance import Comparison, compare
from studylib.drawn import TRAINED
from studylib.methods import BESIDE, NO_RIVALS
from studylib.metrics import best_epoch
from studylib.tables import METRIC, METRICS, best_by_validation, epochs_planned, paired, per_user, validation_users

EQUAL = 0.01  # relative change up to which two rows count as equal
FEWER_SEEDS = (
    "A number of seeds behind a name: fewer than other rows have. Such a row is compared as if its seeds varied as "
    "those of the other do."
)
GOAL = "item-kNN, plain: the goal"
PREPOSITION = {"better": "than", "worse": "than", "equal": "to", "not told apart": "from"}


def readable(table: pd.DataFrame, tested: bool = True) -> pd.DataFrame:
    """The table as it is printed: mean ± sd, four decimals, the interval in brackets.

    Args:
        tested: with differences to the reference; without where contrasts below hold the same pairs against each other,
            which are corrected over other pairs.
    """

    def against(row):
        if row["difference"] != row["difference"]:
            return "reference"
        other = "" if row["against"] == reference else f" against {row['against']}"
        return f"{row['difference']:+.4f} [{row['low']:+.4f}, {row['high']:+.4f}]{other}"

    reference = table.loc[table["difference"].isna(), "method"].iloc[0]

    columns = {"method": table["method"], "seeds": table["seeds"]}
    for column in METRICS:
        columns[printed(column)] = _spread(table, column)
    columns[f"{printed(METRIC)}, seen left out"] = table[f"{METRIC} unseen"].map("{:.4f}".format)
    if "paper" in table:
        columns["paper"] = table["paper"].map(lambda value: f"{value:.4f}" if value == value else "–")
    if tested:
        columns[f"Δ {printed(METRIC)} [95 %]"] = [against(row) for _, row in table.iterrows()]
        columns["p (Holm)"] = table["p holm"].map(lambda value: f"{value:.4f}" if value == value else "–")
    columns["CPU s"] = table["cpu seconds"].map(lambda value: f"{value:.0f}" if value == value else "–")
    return pd.DataFrame(columns)


def readable_means(table: pd.DataFrame) -> pd.DataFrame:
    """``tables.means`` as it is printed: mean ± sd, four decimals."""
    metrics = [column for column in table if f"{column} sd" in table]
    return table[["method", "seeds", "items"]].assign(**{printed(metric): _spread(table, metric) for metric in metrics})


def _spread(table: pd.DataFrame, metric: str) -> list[str]:
    return [
        f"{mean:.4f}" + (f" ± {sd:.4f}" if sd == sd else "")
        for mean, sd in zip(table[metric], table[f"{metric} sd"], strict=True)
    ]


def printed(metric: str) -> str:
    """A metric's name as papers print it.

    >>> printed("recall@10"), printed("ndcg@5")
    ('Recall@10', 'NDCG@5')
    """
    name, k = metric.split("@")
    return f"{ {'recall': 'Recall', 'ndcg': 'NDCG', 'mrr': 'MRR'}[name] }@{k}"


def readable_changes(table: pd.DataFrame) -> pd.DataFrame:
    """``changes`` as it is printed: one row a pair, one column a metric, and the paper's row below where it has one.

    With a column ``items`` (``with_and_without_seen``) a row for each of its values.
    """
    if table.empty:
        return table
    by = ["pair", "items"] if "items" in table else ["pair"]
    said = table.apply(lambda row: f"{row['difference %']:+.1f} [{row['low %']:+.1f}, {row['high %']:+.1f}]", axis=1)
    theirs = table[table["paper %"].notna()]
    theirs = theirs.assign(said=theirs["paper %"].map("{:+.1f}".format), source="paper, %")
    both = pd.concat([table.assign(said=said, source="here, %"), theirs])
    both["title"] = both["metric"].map(printed)
    wide = both.pivot(index=[*by, "source"], columns="title", values="said")
    rows = table[by].drop_duplicates().itertuples(index=False)
    order = [(*row, source) for row in rows for source in ("here, %", "paper, %")]
    titles = [printed(metric) for metric in table["metric"].unique()]
    return wide.loc[[row for row in order if row in wide.index], titles].reset_index()


def names_with_seeds(table: pd.DataFrame) -> pd.Series:
    """Each row's name, with its number of seeds where another row has more: it holds more luck."""
    content = table["kind"] != "baseline"
    fewer = content & (table["seeds"] < table.loc[content, "seeds"].max())
    counted = table["seeds"].map(lambda seeds: f", {seeds} seed{'s' if seeds > 1 else ''}")
    return table["method"].where(~fewer, table["method"] + counted)


def findings(table: pd.DataFrame, groups: dict[str, Sequence[dict]] | None = None) -> list[str]:
    """What a table of comparisons shows, in sentences that its numbers alone decide: row by row against its reference.

    Args:
        groups: what the table was made from, for what ``best_row`` says.
    """
    name_of = _name_of(table)
    lines = [FEWER_SEEDS] if any(name != said for name, said in name_of.items()) else []
    for _, row in table[(table["kind"] != "baseline") & table["difference"].notna()].iterrows():
        said = verdict(row)
        lines.append(
            f"{name_of[row['method']]} is {said} {PREPOSITION[said]} "
            f"{name_of[row['against']]}: {row['difference']:+.4f} {printed(METRIC)} "
            f"[{row['low']:+.4f}, {row['high']:+.4f}], {row['difference'] / row['base']:+.1%}, p {row['p holm']:.4f}"
            f"{over_users_alone(row['by_seeds'])}."
        )
    return lines if groups is None else lines + best_row(table, groups)


def best_row(table: pd.DataFrame, groups: dict[str, Sequence[dict]]) -> list[str]:
    """A table's best row by validation beside the strongest baseline, and each control or contrast above it; sentences.

    These are not chosen: they stand there to say what a row is worth that has less than content, or no reading of it.
    """
    content = table[~table["kind"].isin(BESIDE)]
    baselines = table[table["kind"] == "baseline"]
    if content.empty or baselines.empty:
        return []
    if len({validation_users(groups[name]) for name in content["method"]}) > 1:
        return ["Rows were validated on different users, so none is chosen here as the best by validation."]
    name_of = _name_of(table)
    # The best is chosen on validation, so that its test is no test of its luck; the strongest baseline gets its luck.
    best = best_by_validation(groups, content["method"])
    strongest = baselines.loc[baselines[METRIC].idxmax(), "method"]
    mean = table.set_index("method")[METRIC]
    found = compare(*paired(groups[best], groups[strongest], METRIC))
    lines = [
        f"The best row with content by validation, {name_of[best]} ({mean[best]:.4f}), is {_said(found)} {strongest} "
        f"({mean[strongest]:.4f}), which reads no content at all: {found.difference:+.4f} "
        f"[{found.low:+.4f}, {found.high:+.4f}], p {found.p:.4f}, uncorrected."
    ]
    above = table[table["kind"].isin(NO_RIVALS) & (table[METRIC] > mean[best])]
    for name, kind in zip(above["method"], above["kind"], strict=True):
        found = compare(*paired(groups[name], groups[best], METRIC))
        lines.append(
            f"A {kind} has a larger mean, {name_of[name]} ({mean[name]:.4f}): it is {_said(found)} {name_of[best]}, "
            f"p {found.p:.4f}, uncorrected."
        )
    return lines


def _name_of(table: pd.DataFrame) -> dict[str, str]:
    return dict(zip(table["method"], names_with_seeds(table), strict=True))


def _said(found: Comparison) -> str:
    return "not told apart from" if found.p >= 0.05 else "above" if found.difference > 0 else "below"


def over_users_alone(by_seeds: float) -> str:
    """What is to be said of a test that knows nothing of seeds: its standard error by them is NaN."""
    return ", over users alone (one seed each)" if np.isnan(by_seeds) else ""


def of_fusion(
    table: pd.DataFrame,
    groups: dict[str, Sequence[dict]],
    contrasts: pd.DataFrame,
    rows: Sequence[str],
    goals: dict[str, float],
) -> list[str]:
    """What there is to say of fused rows: ``best_row``, ``decided``, ``reached`` by the best of ``rows``, the fused
    ones, by validation, and ``still_rising`` of these.
    """
    best = best_by_validation(groups, rows)
    lines = best_row(table, groups) + decided(contrasts)
    return lines + reached(best, groups[best], goals) + still_rising(groups, rows)


def decided(contrasts: pd.DataFrame) -> list[str]:
    """What ``tables.contrasts`` tell apart, a sentence a pair, and how many pairs they do not.

    >>> row = {"pair": "A: O against T", "difference": -0.01, "low": -0.015, "high": -0.005, "by_seeds": np.nan}
    >>> for line in decided(pd.DataFrame([row | {"p holm": p} for p in (0.007, 1.0)])): print(line)
    A: O against T: -0.0100 Recall@10 [-0.0150, -0.0050], p 0.0070, over users alone (one seed each).
    Of 2 pairs 1 is told apart.
    """
    kept = contrasts[contrasts["p holm"] < 0.05]
    lines = [
        f"{row['pair']}: {row['difference']:+.4f} {printed(METRIC)} [{row['low']:+.4f}, {row['high']:+.4f}], "
        f"p {row['p holm']:.4f}{over_users_alone(row['by_seeds'])}."
        for _, row in kept.iterrows()
    ]
    return [*lines, f"Of {len(contrasts)} pairs {len(kept)} {'is' if len(kept) == 1 else 'are'} told apart."]


def changed(changes: pd.DataFrame) -> list[str]:
    """What ``tables.changes`` tell apart from none, a sentence a change, and of how many.

    >>> row = {"pair": "small against large", "metric": "recall@10", "difference %": -3.0, "by_seeds": 0.01}
    >>> for line in changed(pd.DataFrame([row | {"p holm": p} for p in (0.007, 1.0)])): print(line)
    small against large: Recall@10 -3.0 %, p 0.0070.
    Of 2 changes 1 is told apart from none.
    >>> print(changed(pd.DataFrame([row | {"p holm": 0.007, "by_seeds": np.nan}]))[-1])
    Of 1 change 1 is told apart from none, 1 of them over users alone: another seed might undo it.
    """
    kept = changes[changes["p holm"] < 0.05]
    lines = [
        f"{row['pair']}: {printed(row['metric'])} {row['difference %']:+.1f} %, p {row['p holm']:.4f}"
        f"{over_users_alone(row['by_seeds'])}."
        for _, row in kept.iterrows()
    ]
    of_one_seed = kept["by_seeds"].isna().sum()
    unsure = f", {of_one_seed} of them over users alone: another seed might undo it" if of_one_seed else ""
    many, verb = "changes" if len(changes) > 1 else "change", "is" if len(kept) == 1 else "are"
    return [*lines, f"Of {len(changes)} {many} {len(kept)} {verb} told apart from none{unsure}."]


def within(changes: pd.DataFrame, bound: float) -> list[str]:
    """Do ``tables.changes`` of each pair stay within ``bound`` %? A sentence a pair: its own interval decides.

    That is not corrected for the other pairs, so a "no" may stand at a change that ``changed`` does not tell apart.

    >>> row = {"pair": "small against large", "metric": "recall@10", "difference %": -3.0, "high %": -1.0}
    >>> for low in (-3.5, -6.0): print(*within(pd.DataFrame([row | {"by_seeds": 0.01, "low %": low}]), 4.0))
    small against large: yes; Recall@10 -3.0 % [-3.5, -1.0]
    small against large: cannot be told; Recall@10 -3.0 % [-6.0, -1.0]
    """
    lines = []
    for _, row in changes[changes["metric"] == METRIC].iterrows():
        low, high = row["low %"], row["high %"]
        told = "no" if low >= bound or high <= -bound else "yes" if -bound < low and high < bound else "cannot be told"
        interval = f"{row['difference %']:+.1f} % [{low:+.1f}, {high:+.1f}]"
        lines.append(f"{row['pair']}: {told}{over_users_alone(row['by_seeds'])}; {printed(METRIC)} {interval}")
    return lines


def encoders_or_seeds(spread: pd.DataFrame, theirs: Sequence[float], seeds: int = 5) -> list[str]:
    """Is "the encoder does not matter" more than noise? A sentence on our encoders, and one on the paper's.

    Args:
        spread: ``drawn.between_encoders``; nothing is said where the trained ones have no row. Standard deviations
            are compared as shares of the mean, for the scales differ.
        theirs: the paper's encoders' means, each over ``seeds`` seeds. Whether they differ by more than equal encoders
            would is an F test, against the spread of a seed here.

    >>> spread = {"sd of means": 0.004, "sd by chance": 0.002, "sd of a seed": 0.005, "least difference": 0.01}
    >>> row = {"rows": TRAINED, "mean": 0.1, "p": 0.3, "seeds free": 8} | spread
    >>> for line in encoders_or_seeds(pd.DataFrame([row]), [0.098, 0.1, 0.102]): print(line)  # doctest: +ELLIPSIS
    Spread of the encoders' means: 4.0 % of their mean, by users and seeds alone 2.0 %: not told apart, p 0.3000; ...
    The paper's: 2.0 %, not told apart from the 2.2 % of equal encoders of 5 seeds, if a seed moves ...
    >>> print(encoders_or_seeds(pd.DataFrame([row]), [0.08, 0.1, 0.12])[1][:36])
    The paper's: 20.0 %, more than the 2
    >>> rows = pd.DataFrame([row | {"sd of a seed": 0.0}])
    >>> len(encoders_or_seeds(rows, [0.098, 0.1, 0.102])), encoders_or_seeds(rows[:0], [0.098, 0.1, 0.102])
    (1, [])
    """
    if not len(spread) or spread["rows"].iloc[0] != TRAINED:
        return []
    spread, mean = spread.iloc[0], spread["mean"].iloc[0]
    ours, noise, alone = (spread[name] / mean for name in ("sd of means", "sd by chance", "sd of a seed"))
    paper, alone = np.std(theirs, ddof=1) / np.mean(theirs), alone / np.sqrt(seeds)
    told = "told apart" if spread["p"] < 0.05 else "not told apart"
    missed = f"; a difference below {100 * spread['least difference'] / mean:.0f} % would mostly be missed"
    said = [
        f"Spread of the encoders' means: {100 * ours:.1f} % of their mean, by users and seeds alone "
        f"{100 * noise:.1f} %: {told}, p {spread['p']:.4f}{missed if spread['p'] >= 0.05 else ''}."
    ]
    if not alone:  # seeds that all find the same give nothing to compare the paper's with
        return said
    p = stats.f.sf((paper / alone) ** 2, len(theirs) - 1, spread["seeds free"])
    beside = "more than" if p < 0.05 else "not told apart from"
    return [
        *said,
        f"The paper's: {100 * paper:.1f} %, {beside} the {100 * alone:.1f} % of equal encoders of {seeds} seeds, if a "
        f"seed moves its generator as much as ours (F test, p {p:.2f}).",
    ]


def beside_goal(table: pd.DataFrame, names: Sequence[str], goals: dict[str, float]) -> pd.DataFrame:
    """Some rows of ``comparison``, every item allowed and seen items left out; below them the goals, if there are any.

    Args:
        goals: by rule (``tables.RULES``), what was to be reached.
    """
    columns = {METRIC: "every item", f"{METRIC} unseen": "seen left out"}
    found = table.set_index("method").loc[[*names], ["seeds", *columns]].rename(columns=columns)
    if goals:
        found.loc[GOAL] = {"seeds": 1} | goals
    return found.astype({"seeds": int}).reset_index()


def reached(name: str, group: Sequence[dict], goals: dict[str, float]) -> list[str]:
    """Whether a row is above its goals, a sentence each, with the 95 % interval over users and seeds.

    Args:
        goals: by rule (``tables.RULES``), what was to be reached.
    """
    lines = []
    for rule, goal in goals.items():
        values = per_user(group, METRIC, rule)
        found = compare(values, np.full_like(values, goal))
        said = "reached" if found.difference > 0 else "not reached"
        said += ", but its interval holds the goal" if found.low < 0 < found.high else ""
        lines.append(
            f"Goal, {rule}: {name} has {goal + found.difference:.4f} [{goal + found.low:.4f}, {goal + found.high:.4f}]"
            f"{over_users_alone(found.by_seeds)}, the goal is {goal}: {said}."
        )
    return lines


def still_rising(groups: dict[str, Sequence[dict]], names: Sequence[str]) -> list[str]:
    """Of some rows, those whose every seed is best on validation in the last epoch that it was to have; one sentence.

    >>> epochs = [{"epoch": n, "recall@10": n / 10} for n in (1, 2)]
    >>> settings = {"epochs": 2, "targets": 100}
    >>> row = {"epochs": epochs, "data": {"users": 1, "interactions": 4}, "trial": {"seed": 0, "generator": settings}}
    >>> still_rising({"A": [row], "B": [row | {"epochs": [{"epoch": 1, "recall@10": 1}, *epochs]}]}, ["A", "B"])
    ['Best on validation in the last epoch that they had, so that more training might help: A.']
    """
    rising = [
        name
        for name in names
        if all(best_epoch(record["epochs"])["epoch"] == epochs_planned(record) for record in groups[name])
    ]
    said = "Best on validation in the last epoch that they had, so that more training might help"
    return [f"{said}: {'; '.join(rising)}."] if rising else []


def verdict(row: pd.Series) -> str:
    """What the corrected test, and the interval, say of a row of ``comparison``.

    >>> made = {"p holm": 1.0, "base": 0.1, "difference": 0.0, "low": -0.0005, "high": 0.0005}
    >>> [verdict(pd.Series(made | more)) for more in ({}, {"high": 0.002}, {"difference": -0.01, "p holm": 0.01})]
    ['equal', 'not told apart', 'worse']
    """
    if row["p holm"] < 0.05:
        return "better" if row["difference"] > 0 else "worse"
    return "equal" if max(-row["low"], row["high"]) <= EQUAL * row["base"] else "not told apart"


def direction(changes: Sequence[float]) -> str:
    """One word for relative changes on several data sets.

    >>> direction([-0.2, -0.1]), direction([0.004]), direction([0.1, -0.1]), direction([-0.2, -0.001])
    ('worse', 'equal', 'mixed', 'mixed')
    """
    signs = {0 if abs(change) <= EQUAL else int(np.sign(change)) for change in changes}
    return ("equal", "better", "worse")[signs.pop()] if len(signs) == 1 else "mixed"


def beside_grid(table: pd.DataFrame, names: Sequence[str], grid: dict[str, dict[str, float]]) -> pd.DataFrame:
    """Our direction and 002's, for the rows of ``comparison`` that 002 has too.

    Args:
        names: of the table's rows but the baselines, as ``grid`` knows them.
        grid: relative changes by data set and row (``papers.grid``).

    A direction of ours is "better" or "worse" where the Holm-corrected test says so, "equal" where the interval of the
    change lies within ``EQUAL``, else "not told apart". One of 002's is that of all its data sets; it gives no spread,
    so there a change within ``EQUAL`` counts as none; "mixed" where they disagree. The columns are there without rows.
    """
    rows = []
    for name, (_, row) in zip(names, table[table["kind"] != "baseline"].iterrows(), strict=True):
        theirs = {data: changes[name] for data, changes in grid.items() if name in changes}
        if not theirs:
            continue
        ours, paper = verdict(row), direction(list(theirs.values()))
        rows.append(
            {
                "row": row["method"],
                "ours": f"{row['difference'] / row['base']:+.1%}",
                "p (Holm)": f"{row['p holm']:.4f}",
                "our direction": ours,
                "002": ", ".join(f"{data} {change:+.1%}" for data, change in theirs.items()),
                "its direction": paper,
                "agree": "–" if "mixed" in paper or ours == "not told apart" else "yes" if ours == paper else "no",
            }
        )
    columns = ["row", "ours", "p (Holm)", "our direction", "002", "its direction", "agree"]
    return pd.DataFrame(rows, columns=columns)
