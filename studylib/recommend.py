"""From a finished trial to products that a person can look at, and to codes and models that a program can use."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from studylib import content
from studylib.checkpoints import Damaged
from studylib.config import Trial
from studylib.data import Dataset, load
from studylib.engines import train_again
from studylib.errors import StudyError
from studylib.evaluation import Searcher
from studylib.keys import key_of
from studylib.semantic_ids import SemanticIds
from studylib.settings import checked
from studylib.store import Store, work_folder


@dataclass(frozen=True)
class Finished:
    """A finished trial with its data set.

    Args:
        key: its whole key.
        data: as it is now; the trial was made of the same.
        record: as it is stored.
    """

    key: str
    trial: Trial
    data: Dataset
    record: dict

    @cached_property
    def searcher(self) -> Searcher:
        """The trained generator; trained again if its weights are not on this machine.

        Raises:
            StudyError: a baseline, which has none.
        """
        self._need_generator("generator")
        return with_weights(self.trial, self.data, self.key)

    @cached_property
    def ids(self) -> SemanticIds:
        """Its Semantic IDs, as they were kept with it.

        Raises:
            StudyError: a baseline, which has none; or stacked fusion, whose histories have more codes than are written.
        """
        self._need_generator("Semantic IDs")
        if self.trial.fusion == "stacked":
            raise StudyError(
                f"{self.key}: reads the codes of several modalities and writes those of one; see searcher.ids"
            )
        codes = content.codes_of(self.record, data=self.data)
        return SemanticIds(codes, tuple(int(size) for size in codes.max(0) + 1), source=self.key)

    def _need_generator(self, what: str) -> None:
        if self.trial.generator.name != "tiger":
            raise StudyError(f"{self.key}: {self.trial.generator.name} has no {what}; choose a trial of tiger")

    def recommend(
        self,
        history: Sequence[int],
        count: int = 10,
        seen: bool = False,
        user: int = 0,
        without: Sequence[str] = (),
    ) -> list[tuple[int, float]]:
        """The ``count`` best items after ``history`` (item ids, oldest first) with their scores, best first.

        Args:
            seen: allow items of the history.
            user: the user's number; matters only to a generator with user tokens.
            without: modalities that the history lacks, as if no item had them; for a generator trained with masks.

        Raises:
            StudyError: an empty history, an item that the data set has not, a modality that the trial has not or has
                no masks for, or a baseline that is trained.
        """
        missing = self._numbers(without)
        history = np.asarray(history, dtype=np.int64)
        if not len(history) or history.min() < 0 or history.max() >= self.data.n_items:
            raise StudyError(f"history: give items of 0 to {self.data.n_items - 1}, at least one, oldest first")
        if self.trial.generator.name in ("item-knn", "popularity"):
            return self._counted(history, count, seen)
        searcher = replace(self.searcher, missing=missing)
        found = searcher.recommend(history, count, seen, user)
        if len(found) < count:  # more are asked for than the trial's beams reach
            wider = replace(searcher, beams=count + len(set(history.tolist())))
            found = wider.recommend(history, count, seen, user)
        return found

    def _numbers(self, without: Sequence[str]) -> tuple[int, ...]:
        """The places of these modalities in the trial's; what it lacks is refused before weights are trained again."""
        known = self.trial.modalities if getattr(self.trial.generator, "masking", 0) else ()
        for name in without:
            if name not in known:
                there = f"choose from {', '.join(known)}" if known else "choose a trial that is trained with masking"
                raise StudyError(f"{self.key}: cannot leave out {name!r}; {there}")
        return tuple(known.index(name) for name in without)

    def _counted(self, history: np.ndarray, count: int, seen: bool) -> list[tuple[int, float]]:
        from studylib.trial import baseline

        scores = baseline(self.trial, self.data).scores([history])[0]
        if not seen:
            scores[history] = -np.inf
        best = np.argsort(-scores, kind="stable")[:count]
        return [(int(item), float(scores[item])) for item in best if scores[item] > -np.inf]


def opened(key: str, data: str = "") -> Finished:
    """A finished trial by its key, or by as much of it as tells it from the others.

    Args:
        data: where its data set is now, if it was given as a folder that has moved.

    Raises:
        StudyError: no such trial, several, or made from other data than the data set holds now.
    """
    record = Store.default().found(key)
    trial, key = checked(Trial, record["trial"]), record["key"]
    if data:
        trial = trial.model_copy(update={"data": data})
    dataset = load(trial.data)
    if key_of(trial, dataset) != key:
        raise StudyError(
            f"{key}: made from other data than {dataset.source or dataset.name} holds now; run the trial again"
        )
    return Finished(key, trial, dataset, record)


def lines(
    finished: Finished,
    user: str | None = None,
    count: int = 10,
    seen: bool = False,
    history: Sequence[int] = (),
    without: Sequence[str] = (),
) -> Iterator[str]:
    """A user's history, or another one, and the ``count`` best items, as titles.

    Raises:
        StudyError: no such user, or as ``Finished.recommend``.
    """
    data, trial = finished.data, finished.trial
    if user is not None and user not in data.users:
        raise StudyError(f"{trial.data}: no user {user!r}; users are named like {', '.join(data.users[:3])}")
    if len(history) and getattr(trial.generator, "user_tokens", 0):
        raise StudyError(f"{finished.key}: its generator reads a user's token too; give --user, no --history")
    number = data.users.index(user) if user is not None else 0
    read = history if len(history) else data.test.histories[number]
    found = finished.recommend(read, count, seen, number, without)
    whose = "the history given" if len(history) else f"history of user {data.users[number]}"
    yield f"{whose} ({data.name}), oldest first:"
    yield from (f"  {item:>6}  {data.title(int(item))}" for item in read)
    of = trial.features if trial.generator.name == "tiger" else trial.generator.name
    lacking = f", without {', '.join(without)}" if without else ""
    yield f"next, by {of} (seed {trial.seed}){lacking}:"
    for place, (item, score) in enumerate(found, 1):
        bought = "  <- bought" if not len(history) and item == data.test.targets[number] else ""
        yield f"  {place:>2}  {item:>6}  {score:7.2f}  {data.title(item)}{bought}"


def with_weights(trial: Trial, data: Dataset, key: str) -> Searcher:
    """The trained generator, trained again if its weights are lost or damaged.

    The weights of a trial are not published with its record: where they are missing the trial is trained again, which
    on the same machine gives the same weights.
    """
    from studylib.trial import WEIGHTS, trained

    file = work_folder(key) / WEIGHTS
    if file.exists():
        try:
            return trained(trial, data, file.parent)
        except Damaged as error:
            print(f"{error}: damaged weights, or of no use here", flush=True)
            aside = file.with_suffix(".unused")
            if not aside.exists():  # the first may be good elsewhere; later ones were trained here, and can be again
                file.replace(aside)
                print(f"{file}: kept as {aside.name}", flush=True)
            file.unlink(missing_ok=True)
    print(f"{file}: no weights here; copy its folder from where it was trained. Training it again now", flush=True)
    train_again(key, trial)
    return trained(trial, data, file.parent)
