"""How far the first hit answers a question, as a probability; fitted on questions that the corpus answers and questions that it nearly answers.

Similarity alone cannot tell a near miss ("Who was Zainul Abedin married to?", and what he painted is known): it sees the same person.
So the question's words are looked for one by one, the first hit is held against the others, and what kind of answer is asked for counts.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import regex

from index_builder.asking import KINDS, content, kinds_of
from index_builder.cross_encoder import log_odds
from index_builder.encode import Encoder
from index_builder.search import Index
from index_builder.sound import skeleton
from index_builder.text import fold, same_word, sentences, stem, words
from index_builder.vocabulary import Hit, MajlisError

FILE = "relevance.json"  # beside the encoder's weights: the figures hold for that encoder alone
HITS = 5  # how many hits are looked at
_SOUNDS_ALIKE = 0.9  # of a word found in other letters; one that is written alike counts 1
_LEAST_IDF = 0.1
_NUMBER = regex.compile(r"\p{Nd}")
_YEAR = regex.compile(r"(?<!\p{Nd})\p{Nd}{4}(?!\p{Nd})")


@dataclass(frozen=True, slots=True)
class Judgement:
    relevance: float  # in [0, 1]
    weak: bool  # too little to answer from


@dataclass(frozen=True, slots=True)
class Fit:
    """A logistic regression: name of a feature -> weight, and the probability below which the app does not answer."""

    weights: Mapping[str, float]
    bias: float
    threshold: float

    def of(self, features: Mapping[str, float]) -> float:
        score = self.bias + sum(weight * features[name] for name, weight in self.weights.items())
        return 1 / (1 + math.exp(-max(-50.0, min(50.0, score))))


@dataclass(frozen=True, slots=True)
class Relevance:
    """`own` judges a first hit in the reader's language, `other` one in another language, where fewer words can be shared."""

    own: Fit
    other: Fit

    def judge(self, question: str, lang: str, hits: Sequence[Hit], index: Index) -> Judgement:
        """How far the first of `hits` answers `question`, asked by a reader of `lang`."""
        if not hits:
            return Judgement(0.0, True)
        fit = self.own if hits[0].entry.lang == lang else self.other
        relevance = fit.of(features(question, hits, index.encoder, index.telling(words(question))))
        return Judgement(relevance, relevance < fit.threshold)


_PLAIN = Fit({"dense": 6.0, "coverage": 2.0}, bias=-3.0, threshold=0.0)
UNCALIBRATED = Relevance(_PLAIN, _PLAIN)  # for an encoder that nobody calibrated: shows a figure, never abstains


def features(question: str, hits: Sequence[Hit], encoder: Encoder, idf: Mapping[str, float]) -> dict[str, float]:
    """What can be said about a question and its hits (best first, at least one), all of it independent of how long the question is.

    idf: how much each folded word of the question tells (Index.telling). Similarities are cosines; shares lie in [0, 1]; log-odds of the
    cross-encoder are 0 where it did not look.
    """
    first, others = hits[0], hits[1:HITS]
    entry = first.entry
    asked = content(words(question)) or list(dict.fromkeys(words(question)))
    weight = np.array([max(_LEAST_IDF, idf[word]) for word in asked])
    parts = sentences(entry.text)
    similarity = _similarity(question, [*parts, *filter(None, [entry.question]), entry.text], encoder)
    found_in = _finder(asked, words(f"{entry.title} {entry.question} {entry.text}"), encoder)
    by_sentence = [found_in(words(part)) for part in parts]
    in_text = np.max([*by_sentence, found_in(words(entry.title))], axis=0)
    in_entry = np.maximum(in_text, found_in(words(entry.question)))
    rarest = in_entry[np.argsort(-weight, kind="stable")]
    kinds = kinds_of(words(question))
    text = fold(entry.text)
    found = {
        "dense": first.dense,
        "coverage": first.coverage,
        "mean_view": float(np.mean(similarity)),
        "whole": float(similarity[-1]),
        "best_sentence": float(max(similarity[: len(parts)], default=0.0)),
        "words_in_text": _mean(in_text, weight),
        "words_in_entry": _mean(in_entry, weight),
        "words_in_a_sentence": max((_mean(one, weight) for one in by_sentence), default=0.0),
        "words_written_alike": _mean((in_entry >= 1).astype(float), weight),
        "worst_word": float(in_entry.min(initial=1.0)),
        "rarest_word": float(rarest[0]) if len(rarest) else 1.0,
        "second_rarest_word": float(rarest[1]) if len(rarest) > 1 else 1.0,
        "ahead": first.fused - (others[0].fused if others else 0.0),
        "ahead_of_three": first.fused - float(np.mean([hit.fused for hit in others[:3]] or [0.0])),
        "coverage_ahead": first.coverage - max((hit.coverage for hit in others), default=0.0),
        "dense_ahead": first.dense - max((hit.dense for hit in others), default=0.0),
        "words_ahead": _ahead(first.lexical, [hit.lexical for hit in others]),
        "same_topic_next": float(bool(others) and others[0].entry.topic == entry.topic),
        "pair": float(entry.kind == "qa"),
        "by_question": float(first.matched_by == "question"),
        "by_query": float(first.matched_by == "query"),
    }
    found |= {f"asks_{kind}": float(kind in kinds) for kind in KINDS}
    found["number_given"] = float("number" in kinds and bool(_NUMBER.search(text)))
    found["time_given"] = float("time" in kinds and bool(_YEAR.search(text)))
    answers = log_odds(np.array([0.5 if hit.answers is None else hit.answers for hit in hits[:HITS]])).tolist()
    found["answers"], found["answers_ahead"] = answers[0], answers[0] - max(answers[1:], default=answers[0])
    return found


def _similarity(question: str, texts: Sequence[str], encoder: Encoder) -> np.ndarray:
    vectors = encoder.encode([question, *texts], "query")
    return vectors[1:] @ vectors[0]


def _finder(asked: Sequence[str], text: Sequence[str], encoder: Encoder) -> Callable[[Sequence[str]], np.ndarray]:
    """A function of some of the words of `text` that gives (len(asked),) how far each asked word stands among them.

    1 as it is or in another form, less when it sounds or means alike. All words are folded. One call to the encoder serves every part of a text.
    """
    held = {word: place for place, word in enumerate(dict.fromkeys(text))}
    if not asked or not held:
        return lambda part: np.zeros(len(asked))
    vectors = encoder.encode([*asked, *held], "query")
    strength = np.clip(vectors[: len(asked)] @ vectors[len(asked) :].T, 0.0, 1.0)
    stems, sounds = [stem(word) for word in held], [skeleton(word) for word in held]
    for row, word in enumerate(asked):
        own_stem, own_sound = stem(word), skeleton(word)
        for other, place in held.items():
            if stems[place] == own_stem and same_word(word, other):
                strength[row, place] = 1.0
            elif own_sound and sounds[place] == own_sound:
                strength[row, place] = max(strength[row, place], _SOUNDS_ALIKE)

    def found(part: Sequence[str]) -> np.ndarray:
        places = [held[word] for word in part if word in held]
        return strength[:, places].max(1) if places else np.zeros(len(asked))

    return found


def _mean(strength: np.ndarray, weight: np.ndarray) -> float:
    return float(np.average(strength, weights=weight)) if len(weight) else 0.0


def _ahead(first: float, others: Sequence[float]) -> float:
    """How much of `first` no other reaches, in [-1, 1]."""
    highest = max(others, default=0.0)
    return (first - highest) / max(first, highest) if max(first, highest) > 0 else 0.0


def load_relevance(folder: Path) -> Relevance:
    path = folder / FILE
    if not path.is_file():
        return UNCALIBRATED
    try:
        fits = json.loads(path.read_text(encoding="utf-8"))["fit"]
        relevance = Relevance(*(Fit(dict(fits[name]["weights"]), fits[name]["bias"], fits[name]["threshold"]) for name in ("own", "other")))
        for fit in (relevance.own, relevance.other):
            for name, value in (*fit.weights.items(), ("bias", fit.bias), ("threshold", fit.threshold)):
                if not isinstance(value, int | float) or name not in NAMES | {"bias", "threshold"}:
                    raise ValueError(f"{name} is {value!r}")
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise MajlisError(
            f"{path} cannot be read ({error!r}). Restore it, or write it anew with `python -m index_builder calibrate`."
        ) from error
    return relevance


def save_relevance(relevance: Relevance, folder: Path, how: str) -> None:
    """Written whole or not at all."""
    text = json.dumps({"fit": asdict(relevance), "how": how}, indent=1) + "\n"
    partial = (folder / FILE).with_suffix(".partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(folder / FILE)


NAMES = frozenset(
    {
        "dense", "coverage", "mean_view", "whole", "best_sentence", "words_in_text", "words_in_entry", "words_in_a_sentence", "words_written_alike",
        "worst_word", "rarest_word", "second_rarest_word", "ahead", "ahead_of_three", "coverage_ahead", "dense_ahead", "words_ahead", "same_topic_next",
        "pair", "by_question", "by_query", "number_given", "time_given", "answers", "answers_ahead", *(f"asks_{kind}" for kind in KINDS),
    }
)  # fmt: skip
