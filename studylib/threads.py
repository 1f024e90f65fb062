"""How many threads torch computes with: sums in another order are other bytes."""

import sys
from contextlib import contextmanager


@contextmanager
def torch_threads(number: int | None = None):
    """``number`` threads inside, if given; afterwards as many as before, whatever was done inside.

    Torch is not loaded for it: what is here before it does not compute with it.
    """
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    before = torch.get_num_threads()
    try:
        if number:
            torch.set_num_threads(number)
        yield
    finally:
        torch.set_num_threads(before)
