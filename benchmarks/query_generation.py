"""Queries generated for passages: the lines that seq2seq.py measures, as a part of their own."""

from benchmarks.measure import Options
from benchmarks.seq2seq import seq2seq_rows
from index_builder.evaluate.runs import Table

TITLE = "query generation"
NOTE = "A model of the form that train-seq2seq trains, with random weights; ratios within one run."


def tables(options: Options) -> list[Table]:
    return [Table("query generation", ("measured", "result"), list(seq2seq_rows()))]
