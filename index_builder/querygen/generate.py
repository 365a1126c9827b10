"""`generate-queries`: a corpus -> a file of queries, made once and indexed often; goes on where it was killed."""

import json
import lzma
import os
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from pathlib import Path

from index_builder.queries import Header, QueriesError, corpus_digest, read_queries, row_line
from index_builder.querygen.writers import Job, QueryWriter
from index_builder.vocabulary import Entry, GeneratedQuery

_REPORT_S = 5.0


def generate_queries(
    corpus: Callable[[], Iterable[Entry]],
    writer: QueryWriter,
    langs: Sequence[str],
    per_language: int,
    out: Path,
    resume: bool = False,
    say: Callable[[str], None] = print,
) -> int:
    """Write up to `per_language` queries in each of `langs` for every entry to `out`, and return how many there are.

    corpus  is called twice, once for the digest and once to write, so that no more than a few entries are ever in memory

    Rows go to OUT.partial. After every few entries they are forced to disk, and OUT.partial.done says how many entries and bytes are
    whole: `resume` cuts off what came after and goes on there, so that no row is lost or written twice. OUT appears when all is in it.
    Raises QueriesError for an empty corpus, a disk that cannot take the file, or a partial file that was made otherwise.
    """
    for lang in langs:
        writer.can_write(lang)
    entries = 0

    def counted() -> Iterable[Entry]:
        nonlocal entries
        for entry in corpus():
            entries += 1
            yield entry

    digest = corpus_digest(counted())
    if not entries:
        raise QueriesError("The corpus has no usable row, so there is nothing to ask about. Check the --corpus path.")
    header = Header(digest, writer.name, {"langs": list(langs), "per_language": per_language, **writer.settings()})
    partial, done_file = out.with_name(f"{out.name}.partial"), out.with_name(f"{out.name}.partial.done")
    try:
        if resume and out.is_file() and not partial.exists() and read_queries(out)[0] == header:
            say(f"{out} is whole")
            return sum(1 for _ in read_queries(out)[1])
        done, whole, queries = _begin(partial, done_file, header, resume)
        if done:
            say(f"going on after {done:,} of {entries:,} entries")
        began, first, reported = time.monotonic(), done, 0.0
        with partial.open("ab") as file:
            file.truncate(whole)
            file.seek(whole)
            left = islice(corpus(), done, None)
            while chunk := list(islice(left, writer.entries_at_a_time)):
                jobs = [Job(entry, lang) for entry in chunk for lang in langs]
                for job, found in zip(jobs, writer.write(jobs, per_language), strict=True):
                    for written in found:
                        file.write(row_line(job.entry.entry_id, GeneratedQuery(job.lang, written.text, written.score)).encode())
                        queries += 1
                file.flush()
                os.fsync(file.fileno())
                done += len(chunk)
                _write_done(done_file, done, file.tell(), queries)
                spent = time.monotonic() - began
                if spent - reported > _REPORT_S or done == entries:
                    reported = spent
                    minutes = spent / (done - first) * (entries - done) / 60
                    say(
                        f"{done:,}/{entries:,} entries  {queries:,} queries  {(done - first) / spent:.1f} entries/s  {minutes:.0f} min left"
                    )
        _finish(partial, out)
        done_file.unlink()
    except OSError as error:
        raise QueriesError(
            f"{out} could not be written ({error}). What was finished is kept: mend the disk and run the same command with --resume."
        ) from error
    return queries


def _begin(partial: Path, done_file: Path, header: Header, resume: bool) -> tuple[int, int, int]:
    """(entries, bytes, queries) that are whole in the partial file, which is started when there is none."""
    line = header.as_line().encode()
    if resume and partial.is_file() and done_file.is_file():
        with partial.open("rb") as file:
            found = file.readline()
        if found != line:
            raise QueriesError(
                f"{partial} was begun for another corpus, model or settings. Give those that it was begun with, or start again without --resume."
            )
        state = json.loads(done_file.read_text(encoding="utf-8"))
        return state["entries"], state["bytes"], state["queries"]
    done_file.unlink(missing_ok=True)
    partial.parent.mkdir(parents=True, exist_ok=True)
    partial.write_bytes(line)
    return 0, len(line), 0


def _write_done(path: Path, entries: int, size: int, queries: int) -> None:
    partial = path.with_name(f"{path.name}.new")
    partial.write_text(json.dumps({"entries": entries, "bytes": size, "queries": queries}), encoding="utf-8")
    partial.replace(path)


def _finish(partial: Path, out: Path) -> None:
    if out.suffix == ".xz":
        packed = out.with_name(f"{out.name}.packing")
        with partial.open("rb") as plain, lzma.open(packed, "wb") as file:
            shutil.copyfileobj(plain, file)
        packed.replace(out)
        partial.unlink()
    else:
        partial.replace(out)
