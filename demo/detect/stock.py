"""langid 1.1.6 with the model it comes with, restricted to our seven languages: what the bundled model is compared with."""

from dataclasses import dataclass
from typing import Any

from demo.events import Detection
from index_builder.vocabulary import LANGUAGES


@dataclass(frozen=True, slots=True)
class StockLangid:
    identifier: Any

    @classmethod
    def open(cls) -> "StockLangid":
        from langid.langid import LanguageIdentifier, model  # here: the import decodes a large model

        identifier = LanguageIdentifier.from_modelstring(model, norm_probs=True)
        identifier.set_languages(list(LANGUAGES))
        return cls(identifier)

    def detect(self, text: str, script: str) -> Detection:
        """It knows no romanised text and no "not one of ours". A lone surrogate would stop it: such letters are left out."""
        ranking = tuple(self.identifier.rank(text[:2_000].encode("utf-8", "ignore").decode("utf-8")))
        return Detection(ranking[0][0], script, False, min(ranking[0][1], 1.0), ranking, "langid 1.1.6, its own model")
