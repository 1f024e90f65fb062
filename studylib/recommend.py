"""From a finished trial and a user to products that a person can look at."""

import json

from studylib import paths
from studylib.checkpoints import Damaged
from studylib.config import Trial
from studylib.data import Dataset, load
from studylib.engines import ELSEWHERE, FINISHED, run_trial
from studylib.errors import StudyError
from studylib.evaluation import Searcher
from studylib.store import Store, work_folder
from studylib.trials import key_of, parse_trial


def recommend(key: str, user: str | None = None, count: int = 10, seen: bool = False) -> None:
    """Print the user's history and the ``count`` best items as titles.

    The weights of a trial are not published with its record: where they are missing the trial is trained again, which
    on the same machine gives the same weights.

    Raises:
        StudyError: no such trial, a baseline, no such user, or the data set is not here.
    """
    store = Store.default()
    record = store.record(key)
    if record is None:
        raise StudyError(f"{key}: no finished trial of that key; 'study trials' lists them")
    trial = parse_trial(json.dumps(record["trial"]))
    if trial.generator.name != "tiger":
        raise StudyError(f"{key}: a {trial.generator.name} trial has no generator; choose a trial of tiger")
    data = load(trial.data)
    if key_of(trial, data) != key:
        raise StudyError(f"{key}: made from other data than {data.source or data.name} holds now; run the trial again")
    if user is not None and user not in data.users:
        raise StudyError(f"{trial.data}: no user {user!r}; users are named like {', '.join(data.users[:3])}")
    searcher = with_weights(trial, data, key)
    number = data.users.index(user) if user is not None else 0
    history = data.test.histories[number]
    print(f"history of user {data.users[number]} ({data.name}), oldest first:")
    for item in history:
        print(f"  {item:>6}  {data.title(int(item))}")
    print(f"next, by {trial.features} (seed {trial.seed}):")
    for place, (item, score) in enumerate(searcher.recommend(history, count, seen, number), 1):
        bought = "  <- bought" if item == data.test.targets[number] else ""
        print(f"  {place:>2}  {item:>6}  {score:7.2f}  {data.title(item)}{bought}")


def with_weights(trial: Trial, data: Dataset, key: str) -> Searcher:
    """The trained generator, trained again if its weights are lost or damaged."""
    from studylib.trial import WEIGHTS, trained

    file = work_folder(key) / WEIGHTS
    if file.exists():
        try:
            return trained(trial, data, file.parent)
        except Damaged as error:
            print(f"{error}: damaged weights, or of no use here", flush=True)
            file.unlink()
    print(f"no weights of {key} on this machine: training it again", flush=True)
    # Beside the published store: another machine may give other bytes, and a record is never written over.
    outcome = run_trial(key, trial.model_dump_json(), str(paths.cache_root() / "retrained"))
    if outcome not in (FINISHED, ELSEWHERE):
        raise StudyError(f"{key}: {outcome}")
    return trained(trial, data, file.parent)
