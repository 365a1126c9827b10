"""Prints one Markdown table. Figures are medians over many calls in this run; compare ratios of one run, not runs of different days."""

import argparse
import os
import platform
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path

import hnswlib
import numpy as np
import psutil

from demo.detect import Detector
from demo.languages import endonym
from demo.retrieve import native_script, retrieve
from index_builder.encode import StaticEncoder, normalised, open_encoder
from index_builder.evaluate import (
    SUITES,
    Figures,
    RefusalTable,
    Table,
    evaluate_refusal,
    evaluate_retrieval,
    figures,
    first_rank,
    read_questions,
)
from index_builder.relevance import Relevance, load_relevance
from index_builder.search import Index, brute_force
from index_builder.vocabulary import LANGUAGES

ROOT = Path(__file__).resolve().parent.parent
STARTS = 3


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--results", type=Path, metavar="FILE.md", help="also measure retrieval and refusal, and write the results page")
    parser.add_argument("--sizes", default="10000,100000", help="numbers of random vectors for HNSW against brute force")
    options = parser.parse_args(arguments)
    rows: list[tuple[str, str]] = []

    def add(name: str, value: str) -> None:
        rows.append((name, value))
        print(f"| {name} | {value} |", flush=True)

    print(f"{machine()}\n\n| | |\n|---|---|")
    for name, value in app_start():
        add(name, value)
    questions = dev_questions()
    for name, value in engine_rows(questions):
        add(name, value)
    for size in map(int, options.sizes.split(",")):
        add(f"HNSW against numpy brute force, {size:,} vectors x 256, one query, k = 10", hnsw_against_brute_force(size))
    if options.results:
        options.results.write_text(results_page(rows), encoding="utf-8")
        print(f"written to {options.results}")
    return 0


def results_page(speed: list[tuple[str, str]]) -> str:
    """docs/results.md, from one run of everything that can be measured with what ships."""
    test, dev = (quality(split) for split in ("test", "dev"))
    own = {lang: figures for lang, figures in own_language_figures("test")}
    refused = {row.lang: row for table in test if isinstance(table, RefusalTable) for row in table.rows}
    summary = [
        f"| {endonym(lang)} | {one.success_at_1:.2f} ({one.low:.2f} to {one.high:.2f}) | {one.success_at_5:.2f} | {one.questions} | {refused[lang].refused:.2f} | {refused[lang].wrongly_refused:.2f} |"
        for lang, one in own.items()
    ]
    return "\n".join(
        [
            "# Results",
            "",
            "Everything here is printed by one command, `python -m benchmarks --results docs/results.md`, with the models and the index that ship. Language",
            "detection has [a page of its own](language-detection.md). Figures are shares; the interval is the 95 % bootstrap interval. Nothing was tuned on `test`.",
            "",
            "A reworded question in the language of its answer, and questions that the corpus nearly answers (test half):",
            "",
            "| | right evidence first | among the first five | questions | unanswerable refused | answerable wrongly refused |",
            "|---|---|---|---|---|---|",
            *summary,
            "",
            "What to make of it: in one's own language the right evidence is on the page nearly nine times in ten. Across languages it is found about half the time: the static",
            "encoder knows too few cultural words. Refusal is weak: the unanswerable questions are near misses by design, and similarity alone cannot tell them; an",
            "answer below even odds is marked as perhaps not what was asked. Twins in other locales also answer some questions, so the figures are lower bounds.",
            "",
            "## Speed",
            "",
            machine(),
            "",
            "| | |",
            "|---|---|",
            *(f"| {name} | {value} |" for name, value in speed),
            "",
            "## Test half",
            "",
            *(f"{table.as_markdown()}\n" for table in test),
            "## Dev half",
            "",
            "Weights of the fusion and the refusal threshold were chosen on these questions.",
            "",
            *(f"{table.as_markdown()}\n" for table in dev),
        ]
    )


def quality(split: str) -> list[Table | RefusalTable]:
    """Retrieval and refusal as the app does them: romanised questions are transliterated first."""
    index, relevance = _index()
    data = ROOT / "assets/evaluation"
    return [*evaluate_retrieval(index, data, split, native_script(Detector.open())), evaluate_refusal(index, data, split, relevance)]


def own_language_figures(split: str) -> list[tuple[str, Figures]]:
    """Per language, of the paraphrases in the language of their evidence."""
    index, _ = _index()
    asked = read_questions(ROOT / "assets/evaluation/paraphrase.jsonl", split, frozenset(entry.entry_id for entry in index.entries()))
    return [(lang, figures(lang, [first_rank(index, one) for one in asked if one.lang == one.evidence_lang == lang])) for lang in LANGUAGES]


def _index() -> tuple[Index, Relevance]:
    folder = ROOT / "assets/models/encoder"
    return Index(ROOT / "assets/index", open_encoder(folder)), load_relevance(folder)


def machine() -> str:
    model = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").is_file():
        model = next(
            (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), model
        )
    memory = psutil.virtual_memory().total / 1e9
    return f"{model}, {os.cpu_count()} cores, {memory:.0f} GB, {platform.system()} {platform.release()}, Python {platform.python_version()}"


def app_start() -> list[tuple[str, str]]:
    """From process start to the first HTTP answer and to the first quoted answer through the page's own queue; medians of STARTS starts."""
    from gradio_client import Client  # before the clock starts

    http, first, memory = [], [], []
    for _ in range(STARTS):
        port = _free_port()
        began = time.perf_counter()
        app = subprocess.Popen([sys.executable, "app.py", "--port", str(port), "--offline"], cwd=ROOT, stdout=subprocess.DEVNULL)
        try:
            http.append(_until(lambda port=port: _answers(port), app) - began)
            client = Client(f"http://127.0.0.1:{port}/", verbose=False)
            answer = client.predict("What is a kalboishakhi storm?", "en", api_name="/answer")
            first.append(time.perf_counter() - began)
            if "nor'wester" not in str(answer):
                raise RuntimeError(f"the app gave no answer that the corpus holds: {answer}")
            time.sleep(2)  # until what is read in the background has been read
            process = psutil.Process(app.pid)
            memory.append(sum(one.memory_info().rss for one in (process, *process.children(recursive=True))) / 1e6)
        finally:
            app.kill()
            app.wait()
    return [
        (f"process start to first HTTP answer, median of {STARTS}", f"{np.median(http):.2f} s"),
        (f"process start to first quoted answer over HTTP, median of {STARTS}", f"{np.median(first):.2f} s"),
        ("resident memory of the whole app and its children, models loaded", f"{np.median(memory):.0f} MB"),
    ]


def dev_questions() -> list[str]:
    index, _ = _index()
    known = frozenset(entry.entry_id for entry in index.entries())
    return [one.text for suite in SUITES for one in read_questions(ROOT / f"assets/evaluation/{suite}.jsonl", "dev", known)]


def engine_rows(questions: list[str]) -> list[tuple[str, str]]:
    began = time.perf_counter()
    encoder = open_encoder(ROOT / "assets/models/encoder")
    assert isinstance(encoder, StaticEncoder)
    encoder.encode(["first"], "query")
    loaded = time.perf_counter() - began
    index, relevance = _index()
    detector = Detector.open()

    detect = _times(detector.detect, questions)
    found = [detector.detect(question) for question in questions]
    search = _times(lambda i: retrieve(index, questions[i], found[i].lang, relevance, native=found[i].native), range(len(questions)))
    both = np.array(detect) + np.array(search)
    batch = (questions * 20)[:10_000]
    began = time.perf_counter()
    encoder.encode(batch, "query")
    per_second = len(batch) / (time.perf_counter() - began)
    single = _times(lambda question: encoder.encode([question], "query"), questions)
    return [
        ("encoder: loaded and first vector", f"{loaded:.2f} s"),
        (f"encoder: {len(batch):,} questions in one call", f"{per_second:,.0f} per second"),
        ("encoder: one question", _quantiles(single)),
        ("language detection", _quantiles(detect)),
        (f"retrieval, {len(index):,} entries", _quantiles(search)),
        ("detection and retrieval", _quantiles(list(both))),
    ]


def hnsw_against_brute_force(size: int) -> str:
    random = np.random.default_rng(0)
    # Like sentences, the vectors fill few of their dimensions (32), and queries lie near one of them, as questions do near their answers.
    # Vectors random in all 256 have no neighbours worth finding: all are about equally far.
    spread = random.standard_normal((32, 256), dtype=np.float32)
    vectors = normalised(random.standard_normal((size, 32), dtype=np.float32) @ spread)
    queries = normalised(vectors[random.integers(0, size, 200)] + 0.3 / 16 * random.standard_normal((200, 256), dtype=np.float32))
    graph = hnswlib.Index(space="ip", dim=256)
    graph.init_index(max_elements=size, ef_construction=200, M=16, random_seed=100)
    began = time.perf_counter()
    graph.add_items(vectors, np.arange(size))
    built = time.perf_counter() - began
    graph.set_ef(96)
    graph.set_num_threads(1)
    fast = _times(lambda query: graph.knn_query(query, k=10), queries)
    slow = _times(lambda query: brute_force(vectors, query, 10), queries)
    exact = [{row for row, _ in brute_force(vectors, query, 10)} for query in queries]
    recall = np.mean([len(exact[i] & set(graph.knn_query(query, k=10)[0][0])) / 10 for i, query in enumerate(queries)])
    ratio = np.median(slow) / np.median(fast)
    return f"{np.median(fast) * 1e3:.2f} ms against {np.median(slow) * 1e3:.2f} ms ({ratio:.1f} x), recall@10 {recall:.3f}, built in {built:.0f} s"


def _times(call: Callable, inputs) -> list[float]:
    inputs = list(inputs)
    for one in inputs[:20]:
        call(one)
    took = []
    for one in inputs:
        began = time.perf_counter()
        call(one)
        took.append(time.perf_counter() - began)
    return took


def _quantiles(seconds: list[float]) -> str:
    p50, p99 = np.percentile(seconds, [50, 99])
    return f"p50 {p50 * 1e3:.2f} ms, p99 {p99 * 1e3:.2f} ms"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _answers(port: int) -> bool:
    try:
        return urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=1).status == 200
    except (urllib.error.URLError, OSError):
        return False


def _until(true: Callable[[], bool], process: subprocess.Popen, limit: float = 60) -> float:
    ends = time.perf_counter() + limit
    while time.perf_counter() < ends:
        if process.poll() is not None:
            raise RuntimeError(f"the app ended with status {process.returncode} before it answered")
        if true():
            return time.perf_counter()
        time.sleep(0.02)
    raise TimeoutError(f"the app did not answer within {limit:.0f} s")


if __name__ == "__main__":
    sys.exit(main())
