"""A question through the whole engine, without a language model: detection, retrieval, quoting."""

from benchmarks.measure import COLUMNS, Options, bundled_index, dev_questions, quantile_lines
from demo.detect import Detector
from demo.engine import Engine, Question
from demo.events import Done
from index_builder.encode import BUNDLED
from index_builder.evaluate.runs import Table
from index_builder.relevance import load_relevance
from index_builder.support import load_support

TITLE = "a question through the engine"
NOTE = "The questions of the dev half, one at a time, answered by quoting. Times are those that the page shows under an answer."
_PARTS = {
    "detection": ("detect",),
    "retrieval": ("retrieve",),
    "detection and retrieval": ("detect", "retrieve"),
    "whole answer": ("total",),
}


def tables(options: Options) -> list[Table]:
    engine = Engine(Detector.open(), bundled_index(), load_relevance(BUNDLED), support=load_support(BUNDLED))
    try:
        questions = dev_questions()
        _timings(engine, questions)  # to warm up
        passes = [_timings(engine, questions) for _ in range(options.runs)]
        title = f"{len(engine.index):,} entries"
    finally:
        engine.close()
    rows = []
    for name, parts in _PARTS.items():
        rows += quantile_lines(name, [[sum(one[part] for part in parts) for one in timings] for timings in passes])
    return [Table(title, COLUMNS, rows)]


def _timings(engine: Engine, questions: list[str]) -> list[dict[str, float]]:
    """Of every question that got an answer or was refused; those in a language that is not spoken take no search."""
    events = (event for question in questions for event in engine.ask(Question(question, mode="verbatim")))
    return [event.timings_ms for event in events if isinstance(event, Done)]
