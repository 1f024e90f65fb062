"""A data set: items with text and pictures, users with sequences, and the leave-one-out split."""

from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from pathlib import Path

import numpy as np
from jaxtyping import Int

from studylib.errors import StudyError
from studylib.files import check_regular, shown

FIELDS = ("title", "brand", "categories", "description")  # any other field is an attribute
SHORTEST = 3  # one interaction each for training, validation and test
PICTURES = (".jpg", ".jpeg", ".png")
LARGEST_PICTURE = 256 << 20  # bytes of a file; a product's picture has a thousandth of that


@dataclass(frozen=True)
class Split:
    """Histories and the item that follows each.

    ``histories``: one int64 array of item ids per user, oldest first; ``targets``: int64 [users]; ``users``: their
    numbers in the data set, by default 0, 1, 2, ...
    """

    histories: tuple[np.ndarray, ...]
    targets: np.ndarray
    users: np.ndarray | None = None

    def __post_init__(self):
        if self.users is None:
            object.__setattr__(self, "users", np.arange(len(self.histories)))

    def __len__(self) -> int:
        return len(self.histories)


@dataclass(frozen=True, eq=False)
class Dataset:
    """One data set, validated when it is made.

    Args:
        name: what tables call it.
        users: the users' names, one per sequence.
        sequences: item ids in 0..n_items-1, oldest first, at least three a user.
        n_items: size of the catalogue.
        items: per item its text fields in reading order, e.g. ``{"title": ..., "brand": ...}``; None without text.
        keys: per item the name it has outside (an ASIN); None without.
        folder: where pictures, features and Semantic-ID indexes are looked for; None without.

    Raises:
        StudyError: a sequence is too short or names an item outside the catalogue.

    >>> data = Dataset("toy", ("ann",), (np.array([0, 2, 1, 3]),), n_items=4)
    >>> data.test.histories[0], data.test.targets
    (array([0, 2, 1]), array([3]))
    >>> data.valid.histories[0], data.valid.targets
    (array([0, 2]), array([1]))
    """

    name: str
    users: tuple[str, ...]
    sequences: tuple[np.ndarray, ...]
    n_items: int
    items: tuple[dict[str, str], ...] | None = None
    keys: tuple[str, ...] | None = None
    folder: Path | None = None
    source: str = field(default="")

    def __post_init__(self):
        where = self.source or self.name
        if not self.sequences:
            raise StudyError(f"{where}: no user at all; give at least one sequence of {SHORTEST} items")
        if len(set(self.users)) < len(self.users):
            raise StudyError(f"{where}: two users of one name; names tell the users apart, so make them different")
        for what, rows in (("item texts", self.items), ("item keys", self.keys)):
            if rows is not None and len(rows) != self.n_items:
                raise StudyError(f"{where}: {len(rows)} {what} for {self.n_items} items; give one an item")
        for user, sequence in zip(self.users, self.sequences, strict=True):
            if len(sequence) < SHORTEST:
                raise StudyError(
                    f"{where}: user {shown(user)} has {len(sequence)} item(s); leave-one-out needs at least {SHORTEST} "
                    "(one each for training, validation, test): drop the user or filter to 5-core"
                )
            outside = (sequence < 0) | (sequence >= self.n_items)
            if outside.any():
                raise StudyError(
                    f"{where}: user {shown(user)} names item {int(sequence[outside][0])}, outside "
                    f"0..{self.n_items - 1}; renumber the items or add the missing ones"
                )

    # -- the leave-one-out split (000, 4.1.1) ----------------------------------------------------------------

    @cached_property
    def training(self) -> tuple[np.ndarray, ...]:
        """Per user all but the last two items: the only part that any model may learn from."""
        return tuple(sequence[:-2] for sequence in self.sequences)

    @cached_property
    def valid(self) -> Split:
        return Split(self.training, np.array([sequence[-2] for sequence in self.sequences]))

    @cached_property
    def test(self) -> Split:
        return Split(
            tuple(sequence[:-1] for sequence in self.sequences),
            np.array([sequence[-1] for sequence in self.sequences]),
        )

    # -- content ------------------------------------------------------------------------------------------------

    def text(self, item: int) -> str:
        """The item's fields, one a line, in reading order."""
        return "\n".join(self.fields(item))

    def fields(self, item: int) -> list[str]:
        """The lines of ``text``, empty ones left out."""
        if self.items is None:
            raise StudyError(
                f"{self.source or self.name}: no item text; add {self.name}.item.json, or use features: or index:"
            )
        return [value for value in self.items[item].values() if value.strip()]

    def check_texts(self) -> None:
        """Raise StudyError if the data set has text but an item's is empty: it cannot be drawn or encoded."""
        for item in range(self.n_items if self.items is not None else 0):
            if not self.text(item):
                where = self.folder / f"{self.name}.item.json" if self.folder else self.source or self.name
                raise StudyError(
                    f"{where}: item {item}: empty text; an item needs at least a title to be drawn "
                    "or encoded: write one, for example 'no description'"
                )

    def title(self, item: int) -> str:
        """What a person would call the item."""
        if self.items is None:
            return self.keys[item] if self.keys else f"item {item}"
        return self.items[item].get("title") or self.text(item)[:80] or f"item {item}"

    @cached_property
    def products(self) -> Int[np.ndarray, " items"]:
        """The number of the product that each item is a variant of: its title and description, whatever else it has."""
        said = [(text.get("title"), text.get("description")) for text in self.items or [{}] * self.n_items]
        numbers: dict[tuple | int, int] = {}
        return np.array([numbers.setdefault(one if any(one) else item, len(numbers)) for item, one in enumerate(said)])

    @cached_property
    def pictures(self) -> list[Path]:
        """One picture file per item.

        Raises:
            StudyError: there is no ``images`` folder, or an item has no picture in it, or one that is no regular file.
        """
        images = self.folder / "images" if self.folder else None
        if images is None or not images.is_dir():
            raise StudyError(f"{self.source or self.name}: no images folder; add images/<item id>.jpg or .png")
        found: dict[str, Path] = {}
        for path in sorted(images.iterdir()):
            if path.suffix.lower() in PICTURES:
                if path.stem in found:
                    raise StudyError(
                        f"{images}: {found[path.stem].name} and {path.name}: two pictures; remove one of the two"
                    )
                found[path.stem] = path
        for item in range(self.n_items):
            if str(item) not in found:
                raise StudyError(f"{images}: item {item} has no picture; add {item}.jpg or {item}.png")
            check_regular(found[str(item)], "replace it with a JPEG or PNG, or a link to one", LARGEST_PICTURE)
        return [found[str(item)] for item in range(self.n_items)]

    # -- facts ------------------------------------------------------------------------------------------------

    @property
    def statistics(self) -> dict[str, float | int | None]:
        """Table 1 of 000: users, items, interactions, mean sequence length, mean words an item (None without text)."""
        interactions = sum(map(len, self.sequences))
        words = None
        if self.items is not None:
            words = round(sum(len(self.text(item).split()) for item in range(self.n_items)) / self.n_items, 1)
        return {
            "users": len(self.users),
            "items": self.n_items,
            "interactions": interactions,
            "mean_length": round(interactions / len(self.users), 2),
            "mean_words": words,
        }

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over names, sequences and text: two data sets that agree on it train the same models."""
        digest = sha256(f"{self.name}\0{self.n_items}\0".encode())
        for user, sequence in zip(self.users, self.sequences, strict=True):
            digest.update(user.encode() + b"\0" + sequence.astype("<i8").tobytes() + b"\1")
        for item in range(self.n_items if self.items is not None else 0):
            digest.update(self.text(item).encode() + b"\2")
        return digest.hexdigest()
