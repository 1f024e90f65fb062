"""From a trained generator to per-user ranks and to recommended items."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from studylib.data.dataset import Split
from studylib.decoding import Found, TensorTree, beam_search
from studylib.metrics import MISSED, PickedRanks, Ranks
from studylib.models.generator import Generator
from studylib.semantic_ids import SemanticIds

USERS_PER_BATCH = 48
BEAMS_PER_BATCH = 2**16  # of all users together, which every item of a catalogue would be too many for


@dataclass(frozen=True)
class Searcher:
    """A trained generator, its IDs and a way to search: give it histories, it gives leaves of the prefix tree."""

    model: Generator
    ids: SemanticIds
    history: int = 50
    beams: int = 20
    search: str = "tree"
    user_tokens: np.ndarray | None = None  # by user, for a generator that has user tokens
    missing: tuple[int, ...] = ()  # modalities that histories lack, for a generator that has mask tokens

    def leaves(self, histories: Sequence[np.ndarray], of_users: np.ndarray | None = None):
        """Yield ``(users, found, found without seen items)`` for batches of users of about equal history length."""
        device = next(self.model.parameters()).device
        codes = torch.as_tensor(self.ids.codes, device=device)
        tree = TensorTree(self.ids.written.tree, device)
        beams = len(tree.group_sizes) if self.search == "exact" else self.beams  # a beam a leaf, and none is dropped
        batch = min(USERS_PER_BATCH, max(1, BEAMS_PER_BATCH // beams))
        order = np.argsort([min(len(history), self.history) for history in histories], kind="stable")
        for users in np.array_split(order, max(1, -(-len(order) // batch))):
            table, lengths = padded([histories[user][-self.history :] for user in users])
            table, lengths = table.to(device), lengths.to(device)
            tokens = None
            if self.user_tokens is not None:
                tokens = torch.as_tensor(self.user_tokens[of_users[users]], device=device)
            seen = torch.as_tensor(_filled([np.unique(histories[user]) for user in users], -1), device=device)
            found = beam_search(
                self.model, tree, codes[table], lengths, beams, seen, self.search != "free", tokens, self.missing
            )
            yield users, *found

    def ranks(self, split: Split) -> tuple[Ranks, Ranks]:
        """Ranks of the targets, and with the items of each user's history left out."""
        return self.answers(split)[:2]

    def answers(self, split: Split) -> tuple[Ranks, Ranks, list[Ranks], PickedRanks]:
        """``ranks``; by modality of a late-fused ID those if its codes alone had to be right; those of drawn items.

        Of a modality, the place is that of the best beam with the target's codes of it (004, Table 3). Free search may
        write codes of one modality that are not those of the other's item: there the place is among all that is
        written, and below the modalities stand the ranks of the whole ID among the same.
        """
        parts = [] if self.ids.target else [list(part) for part in self.ids.parts]
        if parts and self.search == "free":
            parts.append(list(range(self.ids.levels)))
        shape = (2 + len(parts), len(split))
        first, group = np.full(shape, MISSED, dtype=np.uint16), np.ones(shape, dtype=np.uint16)
        place = np.full(len(split), MISSED, dtype=np.uint16)
        tree, targets = self.ids.written.tree, self.ids.codes[split.targets]
        target_leaf, of_leaf = tree.leaf_of[split.targets], self.ids.codes[tree.items[tree.group_first[:-1]]]
        for users, every, unseen in self.leaves(split.histories, split.users):
            place[users], first[0, users], group[0, users] = _places(every, target_leaf[users])
            _, first[1, users], group[1, users] = _places(unseen, target_leaf[users])
            for row, levels in enumerate(parts, 2):  # all items of a leaf have the same codes: no group, a sure place
                first[row, users] = _place_of_codes(every, of_leaf, targets[users], levels)
        # A target that the user had before can never be recommended once seen items are left out.
        repeated = [target in history for history, target in zip(split.histories, split.targets, strict=True)]
        first[1, repeated] = MISSED
        every, unseen, *apart = (Ranks(*row) for row in zip(first, group, strict=True))
        return every, unseen, apart, PickedRanks(place, every.group)

    def recommend(
        self, history: np.ndarray, count: int = 10, seen: bool = False, user: int = 0
    ) -> list[tuple[int, float]]:
        """The ``count`` best items with their log-probabilities; items of the history only if ``seen``.

        ``user`` matters only to a generator that has user tokens.
        """
        for _, every, unseen in self.leaves([history], np.array([user])):
            found = every if seen else unseen
            ranked = [
                (int(item), float(score))
                for leaf, score in zip(found.leaves[0].tolist(), found.scores[0].tolist(), strict=True)
                if leaf >= 0
                for item in self.ids.written.tree.group(leaf)
                if seen or item not in history
            ]
        return ranked[:count]


def _places(found: Found, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where each user's leaf ``wanted`` was found; how many items it has.

    The place is told in leaves and in items ahead of it; what was not found has MISSED twice, and 1.
    """
    leaves, sizes = found.leaves.cpu().numpy(), found.sizes.cpu().numpy()
    right = leaves == wanted[:, None]
    slot = np.arange(len(wanted)), right.argmax(1)
    nothing = np.cumsum(leaves < 0, axis=1)  # free search drops what is no item's ID
    leaves_ahead, items_ahead = slot[1] - nothing[slot], (np.cumsum(sizes, axis=1) - sizes)[slot]
    hit, most = right.any(1), int(MISSED)  # of a group of more, a hit is worth 0
    return (
        np.where(hit, np.minimum(leaves_ahead, most - 1), MISSED),
        np.where(hit, np.minimum(items_ahead, most - 1), MISSED),
        np.where(hit, np.minimum(sizes[slot], most), 1),
    )


def _place_of_codes(found: Found, of_leaf: np.ndarray, wanted: np.ndarray, levels: list[int]) -> np.ndarray:
    """Items, or of free search written IDs, ahead of the first with each user's codes ``wanted`` at ``levels``.

    Args:
        of_leaf: the codes of every leaf, [leaf, level].
    """
    leaves, sizes = found.leaves.cpu().numpy(), found.sizes.cpu().numpy()
    written, there = of_leaf[leaves], leaves >= 0
    if found.codes is not None:  # also what is no item's ID
        written, there, sizes = found.codes.cpu().numpy(), np.isfinite(found.scores.cpu().numpy()), np.ones_like(sizes)
    right = there & (written[..., levels] == wanted[:, None, levels]).all(-1)
    ahead = (np.cumsum(sizes, axis=1) - sizes)[np.arange(len(wanted)), right.argmax(1)]
    return np.where(right.any(1), np.minimum(ahead, int(MISSED) - 1), MISSED)


def padded(histories: Sequence[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
    """Histories as one table [users, items], filled behind with item 0, and their lengths [users]."""
    return torch.as_tensor(_filled(histories, 0)), torch.tensor([len(history) for history in histories])


def _filled(rows: Sequence[np.ndarray], filling: int) -> np.ndarray:
    table = np.full((len(rows), max(map(len, rows))), filling, dtype=np.int64)
    for row, values in zip(table, rows, strict=True):
        row[: len(values)] = values
    return table
