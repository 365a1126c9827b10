"""Text to vectors, with the bundled encoder."""

from benchmarks.measure import COLUMNS, Options, dev_questions, line, percentile_lines, seconds
from index_builder.encode import BUNDLED, open_encoder
from index_builder.evaluate.runs import Table

TITLE = "encoding"
NOTE = "The questions of the dev half: one at a time, and ten thousand in one call."
_BATCH = 10_000


def tables(options: Options) -> list[Table]:
    questions = dev_questions()
    encoder = open_encoder(BUNDLED)
    loaded = [seconds(lambda: open_encoder(BUNDLED).encode(questions[:1], "query")) for _ in range(options.runs)]
    batch = (questions * (_BATCH // len(questions) + 1))[:_BATCH]
    rate = [len(batch) / seconds(lambda: encoder.encode(batch, "query")) for _ in range(options.runs)]
    rows = [line("loaded and first vector", "s", loaded), line(f"{len(batch):,} questions in one call", "questions/s", rate)]
    rows += percentile_lines("one question", lambda question: encoder.encode([question], "query"), questions, options.runs)
    return [Table("bundled encoder", COLUMNS, rows)]
