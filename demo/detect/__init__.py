"""Text -> which language it is in, how sure that is, and why. Script first, then langid's engine with our own weights for that script.

    detector = Detector.open()
    detector.detect("অসমৰ ৰাজধানী কি?")        # lang "as", why "ৰ occurs only in Assamese"
    detector.detect("আর?", prior="bn")          # the previous turn's language decides for what is too short to tell

A call changes nothing but caches, so threads share one detector.
"""

from dataclasses import dataclass, replace

import numpy as np

from demo.detect.classifier import Classifier, Scored
from demo.detect.letters import GRAMMAR, LETTERS, NAMES, other_script
from demo.detect.stock import StockLangid
from demo.detect.transliterate import Transliterator
from demo.events import Detection, Reason
from demo.settings import ROOT, Settings
from index_builder.language import ROMAN, without_quotes, words_by_script
from index_builder.vocabulary import LANGUAGES

NAME = "majlis-langid"
STOCK = "langid-stock"
BUNDLED = ROOT / "assets" / "models" / "language"
NOT_SURE = 0.45  # below it, no language is named; the ranking is still shown
MIXED = 0.98  # a text in two scripts is judged by one of them
_PRIOR_ODDS = {1: 25.0, 2: 10.0, 3: 4.0}  # by number of words: what one word cannot tell, the conversation can
_GRAMMAR = frozenset(GRAMMAR.split())


@dataclass(frozen=True, slots=True)
class _Chosen:
    """The words that decide, and what was set aside."""

    script: str
    words: list[str]
    mixed: bool


@dataclass(frozen=True, slots=True)
class Detector:
    """`detect` is pure: the same text and prior give the same Detection."""

    name: str
    classifier: Classifier
    transliterator: Transliterator
    stock: StockLangid | None = None  # langid as it comes, when the settings ask for it

    @classmethod
    def open(cls, settings: Settings | None = None) -> "Detector":
        """Load the model that `settings.language` names; without settings, or without a folder for it, the bundled one.

        Raises MajlisError, saying what to restore, when the folder holds no usable model.
        """
        model = settings.models.get(settings.language) if settings else None
        folder = ROOT / model.folder if model and model.folder else BUNDLED
        stock = StockLangid.open() if settings and settings.language == STOCK else None
        return cls(STOCK if stock else NAME, Classifier.open(folder), Transliterator(folder), stock)

    def detect(self, text: str, prior: str = "") -> Detection:
        """The language of `text`. `prior`, the language of the turn before, counts for texts of up to three words that could be either.

        Never raises. Nothing to go by (no letters) gives lang "und", confidence 0 and an even ranking of our seven.
        """
        chosen = _choose(text)
        if chosen is None:
            return _nothing()
        if not self.classifier.knows(chosen.script):
            return _other(chosen)
        if self.stock:
            return self.stock.detect(text, chosen.script)
        scored = self.classifier.score(chosen.words, chosen.script)
        if sum(map(len, chosen.words)) == 1:
            scored = replace(scored, probabilities=(scored.probabilities + 1 / len(scored.classes)) / 2)  # one letter proves little
        probabilities, swayed = _with_prior(scored, prior, len(chosen.words))
        order = np.argsort(-probabilities, kind="stable")
        best, rival = scored.classes[order[0]], scored.classes[order[1]]
        confidence = float(probabilities[order[0]]) * (MIXED if chosen.mixed else 1.0)
        ranking = [(_lang(scored.classes[place]), float(probabilities[place])) for place in order]
        if chosen.mixed:
            ranking = [(lang, share * MIXED) for lang, share in ranking] + [("und", 1 - MIXED)]
        romanised = best.endswith(ROMAN)
        sure = confidence >= NOT_SURE
        why, reason = f"could be {_name(best)} or {_name(rival)}: too little to tell", Reason("unsure", _lang(best), _lang(rival))
        if sure:
            why, reason = self._why(chosen, best, rival, swayed)
        found = Detection(
            lang=_lang(best) if sure else "und", script=chosen.script, romanised=romanised and sure, confidence=confidence,
            ranking=tuple(sorted(ranking, key=lambda pair: -pair[1])),
            why=why, reason=reason,
        )  # fmt: skip
        return replace(found, native=self.transliterator.native(text, found.lang)) if found.romanised else found

    def native(self, text: str, lang: str) -> str:
        """Text in Latin letters in the script of `lang`, when the user says which language it is; empty when there is no word list for it."""
        return self.transliterator.native(text, lang)

    def _why(self, chosen: _Chosen, best: str, rival: str, swayed: bool) -> tuple[str, Reason]:
        """One short line in English, and the same for the page to say in the reader's language."""
        lang, other = _lang(best), _lang(rival)
        if swayed:
            return f"too short to tell; the turn before was in {_name(best)}", Reason("prior", lang)
        letters = "".join(chosen.words)
        for letter, sentence in LETTERS.get(best, ()):
            if letter in letters:
                return sentence, Reason("letter", lang, shown=letter)
        word = self.classifier.telling(chosen.words, chosen.script, best, rival)
        if not word:
            return f"closest to {_name(best)} among the languages in this script", Reason("closest", lang)
        if best.endswith(ROMAN):
            return f"“{word}” is {_name(best.removesuffix(ROMAN))} in Latin letters", Reason("roman", lang, shown=word)
        if other == lang:  # the rival was the same language in Latin letters
            return f"“{word}” is {_name(best)}", Reason("closest", lang)
        return f"“{word}” is {_name(best)} rather than {_name(rival)}", Reason("word", lang, other, word)


def _choose(text: str) -> _Chosen | None:
    """The script that the sentence is built in, with its words; None when there are no letters."""
    everything = words_by_script(text).by_script
    if not everything:
        return None
    bare = without_quotes(text)
    found = (words_by_script(bare).by_script if bare != text else everything) or everything
    latin, others = found.get("Latn", []), {script: words for script, words in found.items() if script != "Latn"}
    if not others:
        return _Chosen("Latn", latin, False)
    script, words = max(others.items(), key=lambda pair: sum(map(len, pair[1])))
    if len(latin) > len(words) and sum(word in _GRAMMAR for word in latin) >= 2:
        return _Chosen("Latn", latin, True)
    if script == "Zyyy" and len(latin) > 3 * len(words):
        return _Chosen("Latn", latin, True)
    # quoted words of the same script count again: a proverb is in the language of the question, a film title in Latin letters is not
    return _Chosen(script, everything[script], len(others) > 1 or len(latin) > len(words))


def _with_prior(scored: Scored, prior: str, length: int) -> tuple[np.ndarray, bool]:
    """Probabilities with the odds of the previous turn's language raised, and whether that changed the winner."""
    odds = _PRIOR_ODDS.get(length, 1.0)
    raised = np.array([odds if prior and _lang(label) == prior else 1.0 for label in scored.classes])
    probabilities = scored.probabilities * raised
    probabilities = probabilities / probabilities.sum()
    return probabilities, int(np.argmax(probabilities)) != int(np.argmax(scored.probabilities))


def _nothing() -> Detection:
    return Detection("und", "Zyyy", False, 0.0, tuple((lang, 1 / len(LANGUAGES)) for lang in LANGUAGES), "no letters to go by")


def _other(chosen: _Chosen) -> Detection:
    lang, script, name = other_script(chosen.words)
    if lang == "und":
        return Detection("und", script, False, 0.0, (("und", 1.0),), "a script that none of our languages is written in")
    confidence = MIXED if chosen.mixed else 0.99
    return Detection(lang, script, False, confidence, ((lang, confidence), ("und", 1 - confidence)), f"written in {name} letters")


def _lang(label: str) -> str:
    return label.removesuffix(ROMAN)


def _name(label: str) -> str:
    return NAMES.get(_lang(label), label)


__all__ = ["BUNDLED", "NAME", "STOCK", "Detector"]
