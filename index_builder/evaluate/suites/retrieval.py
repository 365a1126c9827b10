"""How well search finds: the bundled questions, or any folder of corpus, queries and qrels in the form of BEIR or TREC.

Such a folder holds corpus.jsonl (_id, text, and where there are any title and lang) or corpus.tsv (id TAB text); queries.jsonl or
queries.tsv likewise, all of them also as .gz or .xz; and qrels/SPLIT.tsv with BEIR's header, or qrels.txt as trec_eval reads it. It is
indexed with the encoder below --out first. The bundled questions are *.jsonl of id, lang, split, question, evidence_lang and
qrels {entry id: grade}, with answer and answer_en where a short one is known.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from index_builder.evaluate import metrics
from index_builder.evaluate.files import Unique, digests, json_lines, text_lines
from index_builder.evaluate.measure import Task, by_language
from index_builder.evaluate.questions import SETS, Asked, read_questions
from index_builder.evaluate.runs import Cell, Row, Table
from index_builder.evaluate.statistics import macro_average, mean, mean_with_interval
from index_builder.evaluate.suites.opening import (
    described_encoder,
    described_index,
    encoder_of,
    index_of,
    index_options,
    question_options,
)
from index_builder.evaluate.tokens import tokenizer
from index_builder.evaluate.trec import read_qrels
from index_builder.search import Index, Reader
from index_builder.store import BuildSettings, build_index
from index_builder.vocabulary import LANGUAGES, Entry, Hit, MajlisError

SUMMARY = "How well search finds the right evidence; with --data, on any folder of corpus, queries and qrels (BEIR or TREC form)."
FIRST = 10  # how far a ranking is read for success and MRR; what is relevant below counts as not found
DEPTH = 50  # for average precision and the token budgets
BUDGETS = (200, 500, 2_000)
_SHORT = 200  # characters of the evidence that a row keeps

METRICS: dict[str, Callable[[dict[str, int], Sequence[str]], float]] = {
    "success@1": metrics.success_at(1), "success@5": metrics.success_at(5), "recall@10": metrics.recall_at(FIRST), "nDCG@10": metrics.ndcg_at(FIRST),
    "MRR@10": lambda grades, ranked: metrics.reciprocal_rank(grades, ranked[:FIRST]), "mAP": metrics.average_precision,
}  # fmt: skip


def add_options(parser: argparse.ArgumentParser) -> None:
    index_options(parser)
    question_options(parser)
    parser.add_argument("--native", action="store_true", help="write romanised questions in their own script first, as the app does")
    parser.add_argument("--lang", default="", choices=["", *LANGUAGES], help="language of a BEIR or TREC folder whose rows name none")


def open_task(options: argparse.Namespace) -> Task:
    if corpus := _file(options.data, "corpus"):
        return _folder_task(options, corpus)
    index = index_of(options)
    known = frozenset(entry.entry_id for entry in index.entries())
    files = [options.data / f"{name}.jsonl" for name in SETS]
    asked = [one for path in files for one in read_questions(path, options.split, known)]
    names, cut = tokenizer()
    configuration = {
        "split": options.split, "data": digests(files), "index": described_index(index), "native": options.native, "tokens": names,
    }  # fmt: skip
    native = _native() if options.native else None
    title = f"Retrieval, {options.split}" + ("" if options.native else ", romanised questions as typed")
    return Task(
        "retrieval", title, configuration, lambda done: _rows(index, asked, done, native, cut),
        lambda rows: tables(rows, index.manifest["entries_by_language"]), _note(options.split, names), index.close,
    )  # fmt: skip


def _note(split: str, tokens: str) -> str:
    tuned = "The weights of the fusion were chosen on these questions. " if split == "dev" else "Nothing was tuned on these questions. "
    return f"{tuned}The interval is the 95 % bootstrap interval. R@Kt: tokens by {tokens}."


def _native() -> Callable[[str], str]:
    from demo.detect import Detector
    from demo.retrieve import native_script

    return native_script(Detector.open())


def first_hits(index: Index, one: Asked, native: Callable[[str], str] | None = None) -> list[Hit]:
    """The DEPTH best hits. `native` turns a romanised question into its own script."""
    text = native(one.text) if native and one.set == "romanised" else one.text
    return index.search(text, DEPTH, reader=Reader(one.lang))


def _rows(
    index: Index, asked: Sequence[Asked], done: frozenset[str], native: Callable[[str], str] | None, cut: Callable[[str], list[str]]
) -> Iterator[Row]:
    pool = index.manifest["entries_by_language"]
    tokens = lru_cache(maxsize=None)(cut)
    for one in asked:
        if f"{one.set}/{one.query_id}" in done:
            continue
        hits = first_hits(index, one, native)
        row = ranked_row(f"{one.set}/{one.query_id}", one.set, one.lang, one.text, dict.fromkeys(sorted(one.relevant), 1), hits)
        row["evidence_lang"] = one.evidence_lang
        row["langs"] = [hit.entry.lang for hit in hits[:FIRST]]
        bias = metrics.same_language_bias(one.lang, row["langs"], pool)
        if bias is not None:
            row["scores"]["same-language bias"] = round(bias, 4)
        contexts = [tokens(hit.entry.text) for hit in hits]
        for budget in BUDGETS:
            hit = metrics.token_budget_hit(one.answers, contexts, budget) if one.answers else None
            if hit is not None:
                row["scores"][f"R@{budget}t"] = float(hit)
                row[f"tokens@{budget}"] = len(metrics.first_tokens(contexts, budget))
        yield row


def ranked_row(row_id: str, name: str, lang: str, question: str, relevant: dict[str, int], hits: Sequence[Hit]) -> Row:
    """A row with every ranking figure; the evidence is kept where the first hit is wrong."""
    ranked = [hit.entry.entry_id for hit in hits]
    row: Row = {
        "id": row_id, "set": name, "lang": lang, "question": question, "relevant": relevant,
        "found": [[hit.entry.entry_id, round(hit.fused, 6)] for hit in hits[:FIRST]], "ranks": metrics.relevant_ranks(relevant, ranked),
        "scores": {key: round(metric(relevant, ranked), 6) for key, metric in METRICS.items()},
    }  # fmt: skip
    if hits and not row["scores"]["success@1"]:
        first = hits[0].entry
        row["evidence"] = [{"id": first.entry_id, "lang": first.lang, "text": first.text[:_SHORT]}]
    return row


# tables


def tables(rows: Sequence[Row], pool: dict[str, int]) -> list[Table]:
    """For each set a row a language; then question language against evidence language, token budgets, and the pull of the own language."""
    found = []
    for name in dict.fromkeys(row["set"] for row in rows):
        of_set = [row for row in rows if row["set"] == name]
        groups = by_language(of_set)
        lines = [_line(lang, group) for lang, group in groups.items()]
        if len(groups) > 1:
            lines.append(_line("all", of_set))
            lines.append(("macro-average", len(of_set), *(macro_average({k: _scores(g, m) for k, g in groups.items()}) for m in METRICS)))
        sides = {side: [row for row in of_set if (row["lang"] == row.get("evidence_lang")) == own] for side, own in _SIDES}
        if all(sides.values()):
            lines += [_line(side, group) for side, group in sides.items()]
        found.append(Table(name, ("questions in", "n", *METRICS), lines))
    found += [table for table in (_pairs(rows), _budgets(rows), _bias(rows, pool)) if table.rows]
    return found


_SIDES = (("own language", True), ("another language", False))


def _line(name: str, rows: Sequence[Row]) -> tuple[Cell, ...]:
    first, *others = METRICS
    return (name, len(rows), mean_with_interval(_scores(rows, first)), *(mean(_scores(rows, metric)) for metric in others))


def _scores(rows: Sequence[Row], metric: str) -> list[float]:
    return [row["scores"][metric] for row in rows if metric in row["scores"]]


def _pairs(rows: Sequence[Row]) -> Table:
    """success@1 of each pair of languages; the count in brackets says how far to trust it."""
    paired = [row for row in rows if row.get("evidence_lang")]
    langs = [lang for lang in LANGUAGES if any(row["evidence_lang"] == lang for row in paired)]
    lines = []
    for lang, group in by_language(paired).items():
        cells = [_scores([row for row in group if row["evidence_lang"] == other], "success@1") for other in langs]
        lines.append((lang, *(f"{sum(cell) / len(cell):.2f} ({len(cell)})" if cell else "" for cell in cells)))
    note = "success@1 over all sets, and the number of questions. A row is the language of the question, a column that of its evidence."
    return Table("question language against evidence language", ("", *langs), lines, note)


def _budgets(rows: Sequence[Row]) -> Table:
    lines = []
    for name in dict.fromkeys(row["set"] for row in rows):
        of_set = [row for row in rows if row["set"] == name and f"R@{BUDGETS[0]}t" in row["scores"]]
        groups = by_language(of_set)
        for lang, group in groups.items():
            figures = [mean(_scores(group, f"R@{budget}t")) for budget in BUDGETS]
            lines.append(
                (f"{name} {lang}", len(group), *figures, *(round(sum(row[f"tokens@{b}"] for row in group) / len(group)) for b in BUDGETS))
            )
        if len(groups) > 1:
            figures = [macro_average({lang: _scores(group, f"R@{budget}t") for lang, group in groups.items()}) for budget in BUDGETS]
            lines.append(
                (
                    f"{name} macro-average",
                    len(of_set),
                    *figures,
                    *(round(sum(row[f"tokens@{b}"] for row in of_set) / len(of_set)) for b in BUDGETS),
                )
            )
    note = "Share of questions whose gold answer stands, letter for letter, in the first K tokens of what was found; and the tokens that there were."
    return Table(
        "token budgets (R@Kt)", ("questions", "n", *(f"R@{b}t" for b in BUDGETS), *(f"tokens of {b}" for b in BUDGETS)), lines, note
    )


def _bias(rows: Sequence[Row], pool: dict[str, int]) -> Table:
    judged = [row for row in rows if "same-language bias" in row["scores"] and row.get("evidence_lang") != row["lang"]]
    total = sum(pool.values())
    lines = [
        (lang, len(group), mean([sum(one == lang for one in row["langs"]) / len(row["langs"]) for row in group]), round(pool[lang] / total, 4),
         mean(_scores(group, "same-language bias")))
        for lang, group in by_language(judged).items()
    ]  # fmt: skip
    note = "Questions whose evidence is in another language: share of the first ten in the question's own language, against that language's share of the index."
    return Table("same-language bias", ("questions in", "n", "own language found", "own language in the index", "bias"), lines, note)


# folders of corpus, queries and qrels


def _folder_task(options: argparse.Namespace, corpus: Path) -> Task:
    queries_file, qrels_file = _file(options.data, "queries"), _qrels_file(options.data, options.split)
    if not queries_file or not qrels_file:
        raise MajlisError(
            f"{options.data} has {corpus.name}, but no {'queries' if not queries_file else f'qrels of the split {options.split}'}. Expected queries.jsonl or "
            f"queries.tsv, and qrels/{options.split}.tsv or qrels.{options.split}.tsv or qrels.txt, as BEIR and TREC publish them."
        )
    files = [corpus, queries_file, qrels_file]
    encoder = encoder_of(options)
    entries = list(_entries(corpus, options.lang))
    qrels = read_qrels(qrels_file, known=[entry.entry_id for entry in entries])
    queries = _queries(queries_file, options.lang)
    if unknown := sorted(qrels.keys() - queries.keys()):
        raise MajlisError(
            f"{qrels_file}: query {unknown[0]!r} is judged, but {queries_file.name} holds none of that id. Give the queries of these qrels."
        )
    configuration: dict[str, Any] = {
        "split": options.split,
        "data": digests(files),
        "encoder": described_encoder(encoder),
        "folder": options.data.name,
    }

    def rows(done: frozenset[str]) -> Iterator[Row]:
        folder = options.out / "indexes" / f"{corpus.parent.name}-{digests([corpus])[corpus.name]}-{encoder.fingerprint[:8]}"
        if not folder.exists():
            build_index(entries, encoder, folder, BuildSettings(), say=lambda _: None)
        index = Index(folder, encoder)
        try:
            for query_id, relevant in qrels.items():
                if query_id not in done:
                    lang, text = queries[query_id]
                    hits = index.search(text, DEPTH, reader=Reader(lang))
                    yield ranked_row(query_id, options.data.name, lang, text, relevant, hits)
        finally:
            index.close()

    title = f"Retrieval on {options.data.name}, {options.split}"
    return Task("retrieval", title, configuration, rows, lambda done: tables(done, {}), f"mAP over the first {DEPTH}.")


def _file(folder: Path, stem: str) -> Path | None:
    names = [f"{stem}{kind}{packed}" for kind in (".jsonl", ".tsv") for packed in ("", ".gz", ".xz")]
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _qrels_file(folder: Path, split: str) -> Path | None:
    names = [f"qrels/{split}.tsv", f"qrels.{split}.tsv", f"qrels.{split}.txt", "qrels.tsv", "qrels.txt"]
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _entries(path: Path, lang: str) -> Iterator[Entry]:
    unique = Unique("the passage")
    for where, passage_id, row in _texts(path):
        unique(passage_id, where)
        yield Entry(
            passage_id, "passage", _lang_of(row, lang, where), row["text"].strip() or row.get("title", ""), title=row.get("title", "")
        )


def _queries(path: Path, lang: str) -> dict[str, tuple[str, str]]:
    unique = Unique("the query")
    found = {}
    for where, query_id, row in _texts(path):
        unique(query_id, where)
        found[query_id] = (_lang_of(row, lang, where), row["text"])
    return found


def _texts(path: Path) -> Iterator[tuple[str, str, dict[str, str]]]:
    """(where, id, {text, title?, lang?}) of a BEIR .jsonl (_id, text, title) or a .tsv (id TAB text)."""
    if ".jsonl" in path.name:
        for where, row in json_lines(path):
            row_id = row.get("_id", row.get("id"))
            if row_id is None or not isinstance(row.get("text"), str):
                raise MajlisError(f"{where}: expected _id and text, found {', '.join(row)}.")
            lang = row.get("lang") or (row.get("metadata") or {}).get("lang", "")
            yield where, str(row_id), {"text": row["text"], "title": row.get("title") or "", "lang": lang}
        return
    for where, line in text_lines(path):
        if line.strip():
            row_id, tab, text = line.partition("\t")
            if not tab:
                raise MajlisError(f"{where}: expected id TAB text, found {line!r:.60}.")
            yield where, row_id.strip(), {"text": text}


def _lang_of(row: dict[str, str], lang: str, where: str) -> str:
    found = row.get("lang") or lang
    if found not in LANGUAGES:
        raise MajlisError(
            f"{where}: the language is {found!r}, expected one of {', '.join(LANGUAGES)}. Name it with --lang where the rows do not."
        )
    return found
