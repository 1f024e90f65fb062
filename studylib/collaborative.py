"""Item embeddings that know who bought what with what: the collaborative side of LETTER and MSCGRec."""

import numpy as np
from jaxtyping import Float

from studylib.config import NextItemSettings, Trial
from studylib.data import Dataset
from studylib.encoders import cache
from studylib.engines import train_again
from studylib.errors import StudyError
from studylib.keys import key_of
from studylib.next_item import EMBEDDINGS
from studylib.store import work_folder


def item_embeddings(trial: Trial, data: Dataset) -> Float[np.ndarray, "items d_model"]:
    """The item embeddings of a finished SASRec or GRU4Rec trial, float32; trained now if they are not here.

    Gradients come from the training split alone. Test items change no byte of the result. Validation items choose
    which epoch's embeddings these are, and nothing else: every epoch's are the same whatever the validation items.

    Raises:
        StudyError: another kind of trial, the data set is not what ``load`` finds, or the training failed.
    """
    if not isinstance(trial.generator, NextItemSettings):
        raise StudyError(f"a {trial.generator.name} trial has no item embeddings; choose one of sasrec or gru4rec")
    key = key_of(trial, data)
    file = work_folder(key) / EMBEDDINGS
    matrix = cache.read(file)
    if matrix is None:
        print(f"no item embeddings of {trial.generator.name} {key} on this machine: training it", flush=True)
        train_again(key, trial)
        matrix = cache.read(file)
        if matrix is None:
            raise StudyError(
                f"{file}: not there, or damaged, after training; remove its folder and run the trial again"
            )
    if matrix.shape != (data.n_items, trial.generator.d_model):
        raise StudyError(f"{file}: shape {matrix.shape}, expected {(data.n_items, trial.generator.d_model)}; remove it")
    return matrix
