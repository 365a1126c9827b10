"""Train the language model: character n-grams -> a multinomial logistic regression per script, in the form that langid's engine runs.

langid trains a naive Bayes over byte n-grams chosen by information gain. The engine only needs a weight per feature and class, so the
weights here come from logistic regression, which tells near languages apart (Assamese and Bangla, Nepali and Hindi) because it
weighs the features that differ and not all that are frequent. Features of a script are chosen by how much they move its scores.
"""

import json
import random
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from scipy.optimize import minimize
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

from index_builder.language import ROMAN, SCRIPTS, Block, LanguageModel, as_bytes, as_features, build_trie, save_model, words_by_script
from index_builder.train.language_data import NEIGHBOURS, SEEDS, Row, classes_of, read_training, snippets
from index_builder.train.settings import checked, read_toml
from index_builder.train.transliteration import train_transliteration
from index_builder.vocabulary import MajlisError

CORPUS = Path(__file__).resolve().parents[2] / "assets" / "corpus"
_CALIBRATION_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class Config:
    """All that decides the result, beside the data; kept with the weights."""

    seed: int = 0
    snippets: int = 50_000
    neighbour_snippets: int = 12_000
    romanised_snippets: int = 30_000
    features: int = 12_000
    most_letters: int = 5
    strength: float = 0.3
    ours: float = 1.0
    favoured: dict[str, float] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path = SEEDS) -> "Config":
        return cls(**checked(cls, read_toml(path).get("config", {}), str(path)))


@dataclass(frozen=True, slots=True)
class Examples:
    """Snippets of one script as the automaton reads them, with their classes as numbers."""

    texts: list[str]
    labels: np.ndarray


def train_language(data: Path, out: Path, say: Callable[[str], None] = print, corpus: Path | None = CORPUS, config: Config | None = None) -> dict:
    """Train on `data` (the folder described in the model card) and `corpus` (a folder of JSONL), write the model to `out`.

    Returns what is kept in the model's `about`: configuration, rows per source, features per script. Raises MajlisError when a file is missing.
    """
    config = config or Config.read()
    start = time.monotonic()
    rows = read_training(data, corpus, config.seed)
    by_class: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_class[row.label].append(row)
    say(f"{len(rows)} rows in {len(by_class)} classes ({time.monotonic() - start:.0f} s)")
    blocks = []
    for script in SCRIPTS:
        examples = _examples(by_class, script, config)
        blocks.append(_train_script(examples, script, config))
        say(f"{script}: {len(examples.texts)} snippets, {len(blocks[-1].weights)} features ({time.monotonic() - start:.0f} s)")
    counts = Counter((row.label, row.source, row.licence) for row in rows)
    sources = {" · ".join(key): count for key, count in sorted(counts.items())}
    about = {"config": asdict(config), "rows": sources}
    save_model(LanguageModel("majlis-langid", tuple(blocks), about), out)
    train_transliteration(data, rows, out, say)
    say(f"written to {out} after {time.monotonic() - start:.0f} s")
    return about


def _examples(by_class: dict[str, list[Row]], script: str, config: Config) -> Examples:
    texts: list[str] = []
    labels: list[int] = []
    for number, label in enumerate(classes_of(script)):
        rng = random.Random(f"{config.seed} {label}")
        count = config.neighbour_snippets if label in NEIGHBOURS else config.romanised_snippets if label.endswith(ROMAN) else config.snippets
        if not by_class[label]:
            raise MajlisError(f"No training rows for {label}.")
        for text in snippets(by_class[label], count, rng):
            words = words_by_script(_as_typed(text, label, rng)).by_script.get(script)
            if words:
                texts.append(as_features(words))
                labels.append(number)
    order = np.random.default_rng(config.seed).permutation(len(texts))
    return Examples([texts[place] for place in order], np.asarray(labels)[order])


def _as_typed(text: str, label: str, rng: random.Random) -> str:
    """The spellings that keyboards make of a text: Assamese with the Bengali ra, Hindi without the dot below, no final punctuation."""
    if label == "as" and rng.random() < 0.2:
        return text.replace("ৰ", "র")
    if label in ("hi", "ne") and rng.random() < 0.3:
        return text.replace("\u093c", "").replace("ँ", "ं")
    if label == "fa" and rng.random() < 0.3:
        return text.replace("ی", "ي").replace("ک", "ك")
    return text


def _train_script(examples: Examples, script: str, config: Config) -> Block:
    spare = int(len(examples.texts) * _CALIBRATION_SHARE)
    fit, check = slice(spare, None), slice(0, spare)
    # the automaton reads one byte a letter; what is rarer than the 250 commonest letters is no letter of these languages
    letters = "".join(sorted(letter for letter, count in Counter("".join(examples.texts)).most_common(250) if count >= 20))
    vectoriser = CountVectorizer(analyzer=_analyser(config.most_letters), min_df=8, dtype=np.float32)
    counts = csr_matrix(vectoriser.fit_transform(examples.texts[fit]))
    names = vectoriser.get_feature_names_out()
    usable = np.array([set(name) <= set(letters) for name in names])
    model = _fit(counts, examples.labels[fit], config, iterations=25)
    # how far a feature moves the scores over all snippets: langid's own choice, information gain, keeps what is frequent in one
    # language even where a shorter feature says the same
    moved = (model.coef_ - model.coef_.mean(axis=0)).std(axis=0) if len(model.coef_) > 1 else np.abs(model.coef_[0])
    moved = moved * np.sqrt(np.asarray(counts.sum(axis=0)).ravel()) * usable
    kept = np.sort(np.argsort(-moved, kind="stable")[: config.features])
    model = _fit(counts[:, kept], examples.labels[fit], config, iterations=60)
    weights, bias = _two_classes_too(model)
    classes = classes_of(script)
    ours = np.array([label not in NEIGHBOURS for label in classes])
    bias = bias + config.ours * ours * (not ours.all()) + np.array([config.favoured.get(label, 0.0) for label in classes])
    chosen = [str(name) for name in names[kept]]
    vectoriser = CountVectorizer(analyzer=_analyser(config.most_letters), vocabulary={name: place for place, name in enumerate(chosen)}, dtype=np.float32)
    scores = vectoriser.transform(examples.texts[check]) @ weights + bias
    # as our users meet them: a neighbour once for every ten of the snippets that training has of it
    shares = np.where(ours, 1.0, 0.1)[examples.labels[check]]
    temperature = _temperature(scores, examples.labels[check], np.array([len(text) for text in examples.texts[check]]), shares)
    trie = build_trie([as_bytes(name, letters) for name in chosen])
    return Block(script, classes, letters, trie, weights.astype(np.float32), bias.astype(np.float32), temperature)


def _analyser(most: int) -> Callable[[str], list[str]]:
    """Every n-gram of 1 to `most` characters within a word and its two spaces, and every whole word."""

    def analyse(text: str) -> list[str]:
        found: list[str] = []
        for word in text.split():
            word = f" {word} "
            size = len(word)
            for length in range(1, most + 1):
                found += [word[place : place + length] for place in range(size - length + 1)]
            if size > most:
                found.append(word)
        return [piece for piece in found if piece != " "]

    return analyse


def _fit(counts: csr_matrix, labels: np.ndarray, config: Config, iterations: int) -> LogisticRegression:
    model = LogisticRegression(C=config.strength, solver="lbfgs", max_iter=iterations, tol=1e-4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # stopping early is meant: the last digits of the weights do not change a decision
        return model.fit(counts, labels)


def _two_classes_too(model: LogisticRegression) -> tuple[np.ndarray, np.ndarray]:
    """Weights (features, classes) and bias, also where scikit-learn keeps one row for two classes."""
    if len(model.classes_) == 2:
        return np.hstack([-model.coef_.T / 2, model.coef_.T / 2]), np.array([-model.intercept_[0] / 2, model.intercept_[0] / 2])
    return model.coef_.T, model.intercept_


def _temperature(scores: np.ndarray, labels: np.ndarray, characters: np.ndarray, shares: np.ndarray) -> tuple[float, float]:
    """(a, b) of exp(a + b log(characters)) that makes the held-out snippets most likely (Guo et al. 2017, with length)."""

    def loss(parameters: Sequence[float]) -> float:
        scaled = scores / np.exp(parameters[0] + parameters[1] * np.log(characters))[:, None]
        scaled = scaled - scaled.max(axis=1, keepdims=True)
        surprise = np.log(np.exp(scaled).sum(axis=1)) - scaled[np.arange(len(labels)), labels]
        return float(np.average(surprise, weights=shares))

    best = minimize(loss, (0.0, 0.0), method="Nelder-Mead", options={"maxiter": 200})
    return round(float(best.x[0]), 4), round(float(best.x[1]), 4)


def describe(folder: Path) -> str:
    """Sources of a trained model as a Markdown table, for its card."""
    rows = json.loads((folder / "model.json").read_text(encoding="utf-8"))["about"]["rows"]
    lines = ["| class | source | licence | rows |", "|---|---|---|---|"]
    return "\n".join(lines + [f"| {' | '.join(key.split(' · '))} | {count} |" for key, count in rows.items()])
