"""What decides an encoder beside the data: the settings of each model that it is made of, and how they are put together."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from index_builder.train.settings import checked, read_toml
from index_builder.vocabulary import MajlisError


@dataclass(frozen=True, slots=True)
class Config:
    """All that decides one trained model, beside the data. A share of 0 or a weight of 0 switches its method off."""

    seed: int = 0
    vocabulary: int = 50_000
    dimension: int = 256
    steps: int = 2_500
    batch: int = 1_024
    scale: float = 20.0
    learning_rate: float = 5e-3
    romanised_share: float = 0.0  # of each batch
    question_share: float = 0.0
    mined_share: float = 0.0  # of the parallel part of each batch
    mined_every: int = 1_000  # steps after which neighbours are looked up with the encoder of the moment
    cloze_share: float = 0.0  # of the examples whose first side loses half of its pieces
    scripture_weight: float = 1.0  # scripture is old in style and over half of the Assamese rows
    token_dropout: float = 0.0  # share of pieces left out of each training text, so that no sentence leans on one rare piece
    ngram_features: bool = False
    sound_features: bool = False
    matryoshka: tuple[int, ...] = ()  # shorter prefixes of the vector that must serve alone
    teacher_weight: float = 0.0
    class_weight: float = 0.0
    checkpoint_every: int = 500

    @classmethod
    def of(cls, values: Mapping[str, object], where: str) -> "Config":
        """Raises MajlisError for settings that are unknown, of another type, or share out more than there is; `where` they stand is named."""
        config = cls(**checked(cls, values, where))
        if not 0 < config.shares()["parallel"] <= 1:
            raise MajlisError(
                f"{where}: romanised_share {config.romanised_share} and question_share {config.question_share} leave {config.shares()['parallel']:.2f} of a batch "
                "for parallel text. Give shares of 0 or more that add up to less than 1."
            )
        return config

    @property
    def needs_teacher(self) -> bool:
        return self.teacher_weight > 0 or self.class_weight > 0

    def shares(self) -> dict[str, float]:
        """Of each batch, by the family of the examples."""
        shares = {"romanised": self.romanised_share, "question": self.question_share}
        return {"parallel": 1 - sum(shares.values())} | shares


@dataclass(frozen=True, slots=True)
class Recipe:
    """All that decides an encoder, beside the data; kept with the weights."""

    members: tuple[Config, ...]  # models whose vectors are put side by side; all have the vocabulary of the first
    within_power: float = 0.0  # how far differences between translations are evened out (directions.py); 0.5 does it wholly
    kept: int = 0  # directions that are kept of all members'; 0: their vectors as they are, which only a single member can be

    @classmethod
    def read(cls, path: Path) -> "Recipe":
        """A file of settings for all members, and a table [[member]] for each with what differs. Raises MajlisError for one that makes no sense."""
        values = read_toml(path)
        own = {name: values.pop(name) for name in ("within_power", "kept") if name in values}
        own = checked(cls, own, str(path))
        tables = values.pop("member", [{}])
        if not isinstance(tables, list) or not tables or not all(isinstance(table, dict) for table in tables):
            raise MajlisError(f"{path}: member is {tables!r}, expected one or more tables [[member]].")
        recipe = cls(tuple(Config.of(values | table, str(path)) for table in tables), **own)
        total = sum(member.dimension for member in recipe.members)
        if not 0 <= recipe.kept <= total:
            raise MajlisError(
                f"{path}: kept is {recipe.kept}, expected 1 to {total}, the dimensions of all members, or 0 to leave them as they are."
            )
        if not recipe.kept and (recipe.within_power or len(recipe.members) > 1):
            raise MajlisError(f"{path}: within_power and several members ask for directions. Say with kept how many of {total} to keep.")
        if len({member.vocabulary for member in recipe.members}) > 1:
            raise MajlisError(f"{path}: the members differ in vocabulary, and their vectors are put side by side. Set it once, above them.")
        return recipe
