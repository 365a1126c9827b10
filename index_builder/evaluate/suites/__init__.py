"""One module a suite: `SUMMARY`, `add_options(parser)` and `open_task(options) -> Task`. Imported when asked for, because some load models."""

SUITES = (
    "retrieval", "answers", "refusal", "latency", "generator", "language", "lareqa", "bitext", "nativqa", "mkqa", "xor", "trec", "encoder", "xqg",
)  # fmt: skip
