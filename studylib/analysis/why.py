"""Why OCR-text helps, as a test (000, section 4.5, takeaway 7): is its gain larger where texts are attribute-dense?

A user's gain is NDCG@20 of OCR-text minus that of text on the user's own test target, seeds averaged. It is related to
what the texts are like: of the target, and on average over the history. NDCG@20 sees every place of the list that 20
beams give, and a step near its top more than one near its end; but most users have no gain, since no list has their
target. Where every item is scored (``ranked``) each target has a place, and a gain is how often the place halves.

Spearman's correlation asks for no straight line. Many users share a target, and what is said of a target's text is
then said once, not once a user: so beside the interval over users, as in the study's other tables, stands one that
resamples targets, with all their users. The control deals the items' properties out at random, all of them together, so
that it too keeps who shares what. Its mean is not 0 where a history's length goes with the gain: of a skewed property
long histories have other means than short ones, whichever item has what. So the p-value is that of a normal
distribution of the control's mean and spread, which also goes below what so many draws could count. Variants of one
product (of one title and description: a shirt in five colours) have nearly one text, so they are drawn, and dealt out,
together.

Whatever is worse than text may lose less where text does: so the same relation is asked of rows that read nothing
(``beside_controls``), whose gain holds the same text.

What sets the two apart besides the takeaway's reasons is that a text encoder reads so many tokens and no more, and a
page carries all: ``share cut off`` is what it misses. It goes with length, and no property here is held fixed for
another.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from scipy import stats

from studylib import results
from studylib.analysis.attributes import PROPERTIES, item_properties, subwords_of
from studylib.analysis.correlation import correlations, places
from studylib.analysis.significance import MIDDLE, compare, holm, members
from studylib.config import Trial
from studylib.data import Dataset, load
from studylib.data.registry import is_planted
from studylib.errors import StudyError
from studylib.methods import method
from studylib.metrics import MISSED, Ranks
from studylib.settings import checked
from studylib.tables import method_of

RELATED = tuple((of, kind) for of in ("target", "history") for kind in PROPERTIES)
CUTOFF = 20
RESAMPLES = 1000
DEALT = 4000  # draws of the control: a p of 0.001 is then known to an eighth of itself
POOLED = "pooled"
Users = Float[np.ndarray, " users"]
Seeds = Float[np.ndarray, "seeds users"]


@dataclass(frozen=True, eq=False)
class Case:
    """A data set, how well its users fare under both encoders, and ``attributes.item_properties`` of its items."""

    data: Dataset
    text: Seeds
    ocr: Seeds
    properties: pd.DataFrame

    @property
    def gain(self) -> Users:
        # Means over seeds: equal ones must not differ in the last digit.
        return (self.ocr.mean(0) - self.text.mean(0)).round(12)

    def related(self, order: Int[np.ndarray, " items"] | None = None) -> Float[np.ndarray, "related users"]:
        """``RELATED`` of every user: what the target has, and the mean of what the history has.

        ``order``: item i is taken to have the properties of item ``order[i]``.
        """
        items = self.properties[list(PROPERTIES)].to_numpy()
        items = items if order is None else items[order]
        histories = self.data.test.histories
        lengths = np.array([len(history) for history in histories])
        sums = np.add.reduceat(items[np.concatenate(histories)], np.cumsum(lengths) - lengths)
        return np.concatenate([items[self.data.test.targets], sums / lengths[:, None]], axis=1).T.round(12)

    @cached_property
    def variants(self) -> list[Int[np.ndarray, " variants"]]:
        """The items of each product."""
        return members(self.data.products)

    def sharing(self) -> list[Int[np.ndarray, " users"]]:
        """The users of each product that is a target."""
        return members(self.data.products[self.data.test.targets])

    def dealt(self, rng: np.random.Generator) -> Int[np.ndarray, " items"]:
        """Whose properties each item gets where products change places: a variant those of a variant, in turn."""
        order = np.empty(self.data.n_items, dtype=np.int64)
        for items, source in zip(self.variants, rng.permutation(len(self.variants)), strict=True):
            order[items] = np.resize(self.variants[source], len(items))
        return order


def cases(names: Sequence[str], text: str, ocr: str) -> tuple[list[Case], dict[str, str]]:
    """The data sets whose table 2 has both rows, and why each of the others is left out.

    Args:
        names: of data sets.
        text, ocr: names of encoders; the first one's tokenizer cuts the texts.

    Raises:
        StudyError: none of them has both rows.
    """
    found, left_out = [], {}
    rows = [method(name).label for name in (text, ocr)]
    for name in names:
        try:
            groups = results.records_behind("table_2", name)
        except StudyError as error:
            left_out[name] = str(error)
            continue
        absent = [row for row in rows if row not in groups]
        if absent:
            left_out[name] = f"its table_2 has no row {absent[0]}"
        else:
            found.append(case(load(name), *(groups[row] for row in rows), text))
    if not found:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in left_out.items())
        raise StudyError(
            f"datasets: none has rows of {' and '.join(rows)} in a table_2 ({reasons}); run 02_unimodal first"
        )
    return found, left_out


def case(data: Dataset, text: Sequence[dict], ocr: Sequence[dict], text_encoder: str) -> Case:
    """From finished trials on ``data``: the records of all seeds with text, and with OCR-text.

    Args:
        text_encoder: whose tokenizer cuts the texts.

    Raises:
        StudyError: no records, records of other users, no item text, or no such tokenizer.
    """
    return Case(data, score(data, text), score(data, ocr), item_properties(data, *subwords_of(text_encoder)))


def ranked(
    cases: Sequence[Case], names: Sequence[str], text: str, ocr: str, run: Callable[[list[Trial]], Sequence[dict]]
) -> list[Case]:
    """Those of the cases that ``names`` names with ``nearness`` for scores: of the same trials, with every item scored.

    Args:
        run: trials -> their records.

    Raises:
        StudyError: a name that is none of the cases.
    """
    known = {one.data.name: one for one in cases}
    if unknown := [name for name in names if name not in known]:
        raise StudyError(f"ranked: {', '.join(unknown)}: not among the data sets here, {', '.join(known)}; take it out")
    found = []
    for name in names:
        behind, one = results.records_behind("table_2", name), known[name]
        records = (run([_every_item_scored(record) for record in behind[method(row).label]]) for row in (text, ocr))
        theirs, ours = (score(one.data, group, nearness) for group in records)
        found.append(replace(one, text=theirs, ocr=ours))
    return found


def _every_item_scored(record: dict) -> Trial:
    trial = checked(Trial, record["trial"])
    return trial.model_copy(update={"generator": trial.generator.model_copy(update={"search": "exact"})})


def ndcg(ranks: Ranks) -> Users:
    """NDCG@20."""
    return ranks.ndcg(CUTOFF)


def nearness(ranks: Ranks) -> Users:
    """Minus log2 of each target's place among all items, 1 the first; of items that share an ID the middle place.

    One more is half the way to the top.

    >>> nearness(Ranks.of([0, 1, 7])).tolist()
    [0.0, -1.0, -3.0]

    Raises:
        StudyError: a target that was not found, or is further down than a record can say (65,534 items ahead).
    """
    if (ranks.first >= MISSED - 1).any():
        raise StudyError("why: a target without a place; have every item scored (search: exact), of fewer than 65,535")
    return 0.0 - np.log2(ranks.first + (ranks.group + 1.0) / 2)


def score(data: Dataset, records: Sequence[dict], of: Callable[[Ranks], Users] = ndcg) -> Seeds:
    """``of`` every record, in the order of their seeds, and test user.

    Raises:
        StudyError: there is no record, or one of another number of users.
    """
    if not records:
        raise StudyError(f"{data.name}: no finished trial to compare; run notebooks/02_unimodal.ipynb on it first")
    records = sorted(records, key=lambda record: record["trial"]["seed"])  # the same on both sides: pairs
    found = [of(Ranks.unpack(record["ranks"])) for record in records]
    for record, values in zip(records, found, strict=True):
        if len(values) != len(data.test):
            raise StudyError(
                f"trial {record.get('key', '?')}: ranks of {len(values)} users, {data.name} has {len(data.test)}; "
                "give the trials of this data set"
            )
    return np.stack(found)


def relations(cases: Sequence[Case], seed: int = 0, resamples: int = RESAMPLES, dealt: int = DEALT) -> pd.DataFrame:
    """One row a data set (and ``pooled`` where there are several), property, and whose it is: target's or history's.

    Pooled are real data sets alone: what is made up would only say what was put in.

    Columns: ``data``, ``of``, ``property``, ``users``, ``seeds`` (the fewest of either side); Spearman's ``rho`` with
    the gain, its 95 % bootstrap interval over users, ``low`` and ``high``, and over targets, ``low targets`` and
    ``high targets``; the middle 95 % of the control, ``shuffled low`` and ``shuffled high``; ``p``, how rarely the
    control would be as far from its mean (two-sided), and ``p holm`` over the table. Positive: the more of it, the more
    OCR-text gains. What is the same for all users (where no text is cut off, say) is related to nothing: it has no row.
    """
    _some(cases)
    tables = []
    for name, group in _groups(cases).items():
        table = _relations(group, np.random.default_rng([seed, len(tables)]), resamples, dealt)
        table.insert(0, "data", name)
        tables.append(table)
    table = pd.concat(tables, ignore_index=True)
    return table.assign(**{"p holm": holm(table["p"].tolist())})


def _groups(cases: Sequence[Case]) -> dict[str, list[Case]]:
    """Each data set by itself, and the real ones together."""
    return {one.data.name: [one] for one in cases} | ({POOLED: pool} if len(pool := pooled(cases)) > 1 else {})


def _relations(group: Sequence[Case], rng: np.random.Generator, resamples: int, deals: int) -> pd.DataFrame:
    x, gains = [places(one.related()) for one in group], [places(one.gain[None]) for one in group]
    sharing = [one.sharing() for one in group]
    over_users, over_targets, control = [], [], []
    for _ in range(resamples):
        users = [rng.integers(0, len(one.gain), len(one.gain)) for one in group]
        over_users.append(correlations(_taken(x, users), _taken(gains, users)))
        users = [np.concatenate([one[at] for at in rng.integers(0, len(one), len(one))]) for one in sharing]
        over_targets.append(correlations(_taken(x, users), _taken(gains, users)))
    for _ in range(deals):
        dealt = [places(one.related(one.dealt(rng))) for one in group]
        control.append(correlations(dealt, gains))
    table, rho = pd.DataFrame(RELATED, columns=["of", "property"]), correlations(x, gains)
    table["users"], table["rho"] = sum(len(one.gain) for one in group), rho
    table["seeds"] = min(len(side) for one in group for side in (one.text, one.ocr))
    table[["low", "high"]] = _middle(over_users)
    table[["low targets", "high targets"]] = _middle(over_targets)
    table[["shuffled low", "shuffled high"]] = _middle(control)
    varies = np.any([rows.any(1) for rows in x], axis=0)  # of equal values every place is 0
    table, control = table[varies].copy(), np.array(control)[:, varies]
    table["p"] = 2 * stats.norm.sf(np.abs(table["rho"] - control.mean(0)) / control.std(0))
    return table


def without_reading(cases: Sequence[Case]) -> dict[str, list[Case]]:
    """The same data sets with a control of their table 2 in OCR-text's place, for each that all of them have."""
    behind = [results.records_behind("table_2", one.data.name) for one in cases]
    controls = [{name for name, group in groups.items() if method_of(group[0]).kind == "control"} for groups in behind]
    shared = [name for name in (behind[0] if cases else ()) if all(name in some for some in controls)]
    return {
        name: [replace(one, ocr=score(one.data, groups[name])) for one, groups in zip(cases, behind, strict=True)]
        for name in shared
    }


def beside_controls(
    cases: Sequence[Case], controls: dict[str, Sequence[Case]], seed: int = 0, resamples: int = RESAMPLES
) -> pd.DataFrame:
    """Is OCR-text's relation more than that of what does not read? One row a data set, property, and control.

    Args:
        controls: of ``without_reading``.

    Columns: ``data``, ``of``, ``property``, ``control``, ``seeds`` of it (the fewest); ``rho`` of OCR-text, ``control
    rho``, and their ``difference`` with its 95 % bootstrap interval over targets, ``low`` and ``high``, not corrected.
    More seeds blur a gain less, and its rho is larger: so of each data set OCR-text's is that of as many seeds as the
    control has, averaged over the choice of them.
    """
    tables = []
    for number, (data, group) in enumerate(_groups(cases).items()):
        rng = np.random.default_rng([seed, number, 1])
        x, sharing = [places(one.related()) for one in group], [one.sharing() for one in group]
        names = {one.data.name for one in group}
        sides = {name: [one for one in of if one.data.name in names] for name, of in controls.items()}
        theirs = {name: [_gains(side)] for name, side in sides.items()}
        ours = {name: [_gains(some) for some in _as_few(group, side)] for name, side in sides.items()}
        drawn = {name: [] for name in controls}
        for _ in range(resamples):
            users = [np.concatenate([one[at] for at in rng.integers(0, len(one), len(one))]) for one in sharing]
            taken = _taken(x, users)
            for name, draws in drawn.items():
                draws.append(_mean_rho(taken, ours[name], users) - _mean_rho(taken, theirs[name], users))
        varies = np.any([rows.any(1) for rows in x], axis=0)
        for name, draws in drawn.items():
            table = pd.DataFrame(RELATED, columns=["of", "property"]).assign(data=data, control=name)
            table["seeds"] = min(len(one.ocr) for one in sides[name])
            table["rho"], table["control rho"] = _mean_rho(x, ours[name]), _mean_rho(x, theirs[name])
            table["difference"] = table["rho"] - table["control rho"]
            table[["low", "high"]] = _middle(draws)
            tables.append(table[varies])
    first = ["data", "of", "property", "control"]
    table = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=first)
    return table[[*first, *table.columns.difference(first, sort=False)]]


def _gains(group: Sequence[Case]) -> list[np.ndarray]:
    return [places(one.gain[None]) for one in group]


def _mean_rho(
    x: Sequence[np.ndarray], choices: Sequence[Sequence[np.ndarray]], users: Sequence[np.ndarray] | None = None
) -> Float[np.ndarray, " related"]:
    """The mean over choices of gains of rho with ``x``, of all users or of those that ``x`` was taken of."""
    found = [correlations(x, gains if users is None else _taken(gains, users)) for gains in choices]
    return np.mean(found, axis=0)


def _as_few(group: Sequence[Case], others: Sequence[Case]) -> list[list[Case]]:
    """The cases with as many seeds of OCR-text as the others have: beginning with the first, with the second, ..."""
    few = [min(len(one.ocr), len(other.ocr)) for one, other in zip(group, others, strict=True)]
    choices = max(len(one.ocr) if n < len(one.ocr) else 1 for n, one in zip(few, group, strict=True))
    return [
        [replace(one, ocr=np.roll(one.ocr, -start, axis=0)[:n]) for n, one in zip(few, group, strict=True)]
        for start in range(choices)
    ]


def more_than_controls(table: pd.DataFrame, of: str, kind: str) -> list[str]:
    """What ``beside_controls`` says of one property, a sentence a data set.

    >>> row = {"data": "shop", "of": "history", "property": "words", "control": "pixels", "rho": 0.05}
    >>> row |= {"control rho": 0.01, "difference": 0.04, "low": 0.01, "high": 0.07}
    >>> print(*more_than_controls(pd.DataFrame([row]), "history", "words"))
    shop: rho 0.050 against 0.010 of pixels, more by 0.040 [0.010, 0.070]
    """
    chosen, lines = table[(table["of"] == of) & (table["property"] == kind)], []
    for data, rows in chosen.groupby("data", sort=False):
        parts = [
            f"{row['rho']:.3f} against {row['control rho']:.3f} of {row['control']}, more by {row['difference']:.3f} "
            f"[{row['low']:.3f}, {row['high']:.3f}]"
            for _, row in rows.iterrows()
        ]
        lines.append(f"{data}: rho {'; '.join(parts)}")
    return lines


def _taken(parts: Sequence[np.ndarray], users: Sequence[np.ndarray]) -> list[np.ndarray]:
    return [part[:, chosen] for part, chosen in zip(parts, users, strict=True)]


def _middle(draws: Sequence[np.ndarray]) -> Float[np.ndarray, "related 2"]:
    return np.quantile(draws, MIDDLE, axis=0).T


def pooled(cases: Sequence[Case]) -> list[Case]:
    """Those of real data."""
    return [one for one in cases if not is_planted(one.data.name)]


def told_apart(relations: pd.DataFrame) -> list[str]:
    """A sentence for each of ``relations`` that is told apart from none, and how many are."""
    kept = relations[relations["p holm"] < 0.05]
    lines = [
        f"{row['data']}: {row['property']} of the {row['of']}: rho {row['rho']:+.3f} (p {row['p holm']:.4f})"
        for _, row in kept.iterrows()
    ]
    return [*lines, f"of {len(relations)} relations {len(kept)} are told apart from none."]


def gains(table: pd.DataFrame) -> list[str]:
    """The mean gain, a sentence a data set of ``by_data_set``."""
    return [
        f"{row['data']}: {row['gain']:+.4f} [{row['low']:+.4f}, {row['high']:+.4f}] over {row['users']} users."
        for _, row in table.iterrows()
    ]


def _some(cases: Sequence[Case]) -> None:
    if not cases:
        raise StudyError("why: no data set; give at least one with trials of text and of OCR-text")


def quartiles(cases: Sequence[Case]) -> pd.DataFrame:
    """One row a data set (and ``pooled``), property, whose it is, and quartile of users by it, 1 the lowest.

    Columns: ``data``, ``of``, ``property``, ``quartile``, ``users``, ``mean`` of the property, NDCG@20 of ``text`` and
    ``ocr``, and ``gain`` with its 95 % bootstrap interval over targets, ``low`` and ``high``. Quartiles are each data
    set's own; users of equal value stay together, so they may differ in size, or one be missing.
    """
    _some(cases)
    tables = []
    for one in cases:
        facts = {
            "text": one.text.mean(0),
            "ocr": one.ocr.mean(0),
            "gain": one.gain,
            "target": one.data.products[one.data.test.targets],
        }
        for (of, kind), values in zip(RELATED, one.related(), strict=True):
            quartile = 1 + np.searchsorted(np.quantile(values, [0.25, 0.5, 0.75]), values)
            own = {"data": one.data.name, "of": of, "property": kind, "quartile": quartile, "mean": values}
            table = pd.DataFrame(own | facts).assign(catalogue=one.data.name)
            tables.append(table.sort_values("quartile", kind="stable"))
    real = {one.data.name for one in pooled(cases)}
    if len(real) > 1:
        tables += [table.assign(data=POOLED) for table in tables if table["data"].iloc[0] in real]
    by = ["data", "of", "property", "quartile"]
    rows = []
    for names, group in pd.concat(tables).groupby(by, sort=False):
        low, high = _interval_over_targets(group)
        means = group[["mean", "text", "ocr", "gain"]].mean().to_dict()
        rows.append(dict(zip(by, names, strict=True)) | {"users": len(group)} | means | {"low": low, "high": high})
    return pd.DataFrame(rows)


def _interval_over_targets(users: pd.DataFrame) -> tuple[float, float]:
    shared = users.groupby(["catalogue", "target"])["gain"].agg(["sum", "count"]).to_numpy()
    draws = np.random.default_rng(0).multinomial(len(shared), np.full(len(shared), 1 / len(shared)), size=RESAMPLES)
    sums, counts = (draws @ shared).T
    low, high = np.quantile(sums / counts, MIDDLE)
    return float(low), float(high)


def by_data_set(cases: Sequence[Case]) -> pd.DataFrame:
    """One row a data set, for 000's own argument, which goes from data set to data set: texts, and gain.

    Columns: ``data``, the mean over items of each of ``PROPERTIES``, ``users``, the share of them ``without a gain``
    (mostly, no seed of either has the target in its list), ``seeds`` of text and of OCR-text, mean ``gain`` with its
    95 % interval over users and seeds, ``low`` and ``high``. As many points as data sets: a picture, no test.
    """
    _some(cases)
    rows = []
    for one in cases:
        found = compare(one.ocr, one.text)
        seeds = f"{len(one.text)} and {len(one.ocr)}"
        users = {"users": len(one.gain), "without a gain": (one.gain == 0).mean(), "seeds": seeds}
        gain = users | {"gain": found.difference, "low": found.low, "high": found.high}
        rows.append({"data": one.data.name} | one.properties[list(PROPERTIES)].mean().to_dict() | gain)
    return pd.DataFrame(rows)
