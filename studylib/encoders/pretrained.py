"""Loading through transformers, the same way for every encoder: eval mode, best device, no code from the repository."""

import os
import re
from pathlib import Path

from studylib.errors import StudyError

TRUST = "STUDY_TRUST_REMOTE_CODE"


def device() -> str:
    """ "cuda" where there is one, else "cpu"."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def load(family: str, folder: Path, **options):
    """``transformers.<family>.from_pretrained(folder)``, quietly; models in eval mode on ``device()``.

    Raises:
        StudyError: the folder does not hold such a model.
    """
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    try:
        found = getattr(transformers, family).from_pretrained(str(folder), **options)
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
        reason = str(error).strip().split("\n")[0][:200]
        raise StudyError(
            f"{folder}: transformers.{family} cannot be loaded ({reason}); the folder must hold the model as "
            "save_pretrained writes it: config.json, model.safetensors, and tokenizer or preprocessor files"
        ) from None
    return found.eval().to(device()) if hasattr(found, "eval") else found


def plain_weights(file: Path) -> dict:
    """A state dict from a .pth file: tensors only, no other object is ever unpickled.

    Raises:
        StudyError: the file is damaged or holds anything but tensors.
    """
    import pickle

    import torch

    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        reason = str(error).split("\n")[0][:120]
        raise StudyError(f"{file}: not a file of plain weights ({reason}); fetch it again") from None


def trusted_revision() -> str | None:
    """The commit that the user trusts to bring its own code (``STUDY_TRUST_REMOTE_CODE``), or None.

    Raises:
        StudyError: the variable holds something that is not a full commit id.
    """
    revision = os.environ.get(TRUST)
    if revision is None:
        return None
    if not re.fullmatch(r"[0-9a-f]{40}", revision):
        raise StudyError(f"{TRUST}: {revision!r} is not a commit id of 40 hex digits; pin the revision you have read")
    return revision
