"""One encoder looked at closely: shorter, centred and unrounded vectors, and the sentences that it finds worst."""

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from index_builder.encode import Encoder, normalised, open_encoder
from index_builder.evaluate.encoder_material import Material, views_of
from index_builder.evaluate.encoder_rows import Vectors, flores_hits, flores_means, passage_ranks, pool_figures, ranks, summed_up
from index_builder.evaluate.runs import Row
from index_builder.evaluate.statistics import mean_with_interval
from index_builder.vocabulary import MajlisError

WORST = 50  # sentences a language
_SHORTER = (64, 128)


def variant_rows(encoder: Encoder, flores: Vectors, material: Material, unrounded: Path | None) -> Iterator[Row]:
    views = views_of(material.entries)
    asked = [one for one in material.cross if one.lang != "en"]

    def row(name: str, of_encoder: Encoder, vectors: Vectors, change: Callable[[np.ndarray, Sequence[str]], np.ndarray]) -> Row:
        hits = flores_hits({lang: change(one, [lang] * len(one)) for lang, one in vectors.items()})
        questions = change(of_encoder.encode([one.text for one in asked], "query"), [one.lang for one in asked])
        entries = change(of_encoder.encode(views.texts, "passage"), views.langs)
        _, among_all = passage_ranks(questions, entries, views.starts, asked, material.entries)
        pooled = [share for share, _ in pool_figures({lang: change(one, [lang] * len(one)) for lang, one in vectors.items()}).values()]
        made = summed_up(f"variant/{name}", "variant", "all", flores_means(hits), variant=name)
        more = {"translations first": np.concatenate(pooled), "success@5 of all": among_all <= 5}
        made["intervals"] |= {metric: mean_with_interval(values) for metric, values in more.items()}
        worst = min(hits, key=lambda pair: hits[pair].mean())
        return made | {"worst": [f"{worst[0]} -> {worst[1]}", round(float(hits[worst].mean()), 4)]}

    yield row(f"as it is, {encoder.dimension} dimensions", encoder, flores, lambda vectors, langs: vectors)
    for dimension in _SHORTER:
        if dimension < encoder.dimension:
            yield row(f"the first {dimension} dimensions", encoder, flores, lambda vectors, langs, d=dimension: normalised(vectors[:, :d]))
    yield row("each language's mean taken away", encoder, flores, centred)
    if unrounded:
        with tempfile.TemporaryDirectory() as folder:
            precise = float32_encoder(encoder, unrounded, Path(folder))
            vectors = {lang: precise.encode(texts, "query") for lang, texts in material.flores.items()}
            yield row("float32 weights", precise, vectors, lambda vectors, langs: vectors)


def centred(vectors: np.ndarray, langs: Sequence[str]) -> np.ndarray:
    """Unit rows from which the mean of the rows of the same language was taken."""
    found = vectors.copy()
    of_row = np.array(langs)
    for lang in np.unique(of_row):
        found[of_row == lang] -= vectors[of_row == lang].mean(0)
    return normalised(found)


def float32_encoder(encoder: Encoder, vectors: Path, folder: Path) -> Encoder:
    """The same encoder with the weights as they were before they were rounded, written to `folder`."""
    from index_builder.train.encoder import shortened

    try:
        table = load_file(vectors)["embedding.weight"]
        shipped = load_file(encoder.folder / "model.safetensors")["embedding.weight"]
    except (OSError, KeyError, SafetensorError) as error:
        raise MajlisError(
            f"{vectors} does not hold the vectors of the encoder in {encoder.folder} ({error}). Name the vectors.safetensors that its training left in --work."
        ) from error
    if not np.array_equal(shortened(table), shipped):
        raise MajlisError(
            f"{vectors} is of another training run than the encoder in {encoder.folder}. Name the vectors.safetensors that its training left in --work."
        )
    save_file({"embedding.weight": table}, folder / "model.safetensors")
    for name in ("tokenizer.json", "modules.json"):
        (folder / name).write_bytes((encoder.folder / name).read_bytes())
    return open_encoder(folder, encoder.name, encoder.query_prefix, encoder.passage_prefix)


def write_worst(path: Path, texts: Mapping[str, Sequence[str]], vectors: Vectors) -> None:
    """For each language the sentences whose translations stand lowest on average, with each rank and what was preferred where it is worst."""
    langs = list(texts)
    partial_file = path.with_name(path.name + ".partial")
    try:
        with partial_file.open("w", encoding="utf-8", newline="\n") as file:
            for lang in langs:
                others = [other for other in langs if other != lang]
                scores = {other: vectors[lang] @ vectors[other].T for other in others}
                found = {other: ranks(scores[other], np.eye(len(texts[lang]), dtype=bool)) for other in others}
                # the logarithm, so that one rank of 900 does not outweigh five of 30
                badness = np.mean([np.log(found[other]) for other in others], axis=0)
                for line in np.argsort(-badness, kind="stable")[:WORST]:
                    worst = max(others, key=lambda other: found[other][line])
                    first = int(scores[worst][line].argmax())
                    row = {
                        "lang": lang, "line": int(line) + 1, "text": texts[lang][line], "en": texts["en"][line] if "en" in texts else "",
                        "ranks": {other: int(found[other][line]) for other in others},
                        "preferred": {"lang": worst, "line": first + 1, "text": texts[worst][first], "en": texts["en"][first] if "en" in texts else ""},
                        "cosine": {"right": round(float(scores[worst][line, line]), 3), "preferred": round(float(scores[worst][line, first]), 3)},
                    }  # fmt: skip
                    file.write(json.dumps(row, ensure_ascii=False) + "\n")
        partial_file.replace(path)
    except OSError as error:
        partial_file.unlink(missing_ok=True)
        raise MajlisError(
            f"{path} could not be written ({error}). Give a file in a folder that exists and has space with --worst."
        ) from error
