"""Every claim measured: suites of questions -> rows -> tables, kept as runs, compared, and printed as docs/results.md."""
