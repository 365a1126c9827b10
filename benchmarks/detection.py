"""Telling the language of a question."""

from benchmarks.measure import COLUMNS, Options, dev_questions, line, percentile_lines, seconds
from demo.detect import Detector
from index_builder.evaluate.runs import Table

TITLE = "language detection"
NOTE = "The questions of the dev half, one at a time."


def tables(options: Options) -> list[Table]:
    questions = dev_questions()
    loaded = [seconds(lambda: Detector.open().detect(questions[0])) for _ in range(options.runs)]
    rows = [line("loaded and first language told", "s", loaded)]
    rows += percentile_lines("one question", Detector.open().detect, questions, options.runs)
    return [Table("detection", COLUMNS, rows)]
