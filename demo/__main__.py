"""python -m demo ask | detect | about | trial | evaluate | doctor | models: everything that the page does, without it."""

import argparse
import io
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from demo import hub
from demo.events import Detected, Detection, Done, Failed, Retrieved, Searched
from demo.languages import REGION, all_endonyms, endonym, strings
from demo.offers import offers
from demo.settings import ROOT, Settings, load_settings
from index_builder.vocabulary import LANGUAGES, MajlisError


def main(arguments: Sequence[str] | None = None) -> int:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8")  # Windows would write a redirected stream in its code page
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        if arguments[:1] == ["evaluate"]:
            return _evaluate(arguments[1:])
        options = _parser().parse_args(arguments)
        settings = load_settings(model=getattr(options, "model", ""), offline=options.offline)
        return options.run(options, settings)
    except MajlisError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `… | head` closed the pipe
        sys.stderr.close()
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m demo", description="Majlis without the page.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run, help: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=help, description=help)
        sub.set_defaults(run=run)
        sub.add_argument("--offline", action="store_true", help="forbid every download")
        return sub

    ask = command("ask", _ask, "Answer one question through the whole engine.")
    ask.add_argument("question")
    ask.add_argument("--json", action="store_true")
    ask.add_argument("--lang", choices=LANGUAGES, default="", help="the language of the question, instead of the detected one")
    ask.add_argument("--locale", choices=sorted(REGION), default="", help='where you are, "bn-BD": preferred, not required')
    ask.add_argument("--mode", choices=("verbatim", "generate"), default="")
    ask.add_argument("--after", action="append", default=[], metavar="QUESTION", help="a question asked before this one (may be repeated)")
    ask.add_argument("--model", default="", help="generator: a name from models.toml, a .gguf file, or none")
    ask.add_argument("--gpu", default="auto")

    detect = command("detect", _detect, "Tell the language of each line of standard input.")
    detect.add_argument("--json", action="store_true")

    about = command("about", _about, "How often the answers of what is loaded are right, in seven languages, as far as it was measured.")
    trial = command("trial", _trial, "Try your own rows of question and answer (or entry_id), and see how many are found and answered.")
    trial.add_argument("file", type=Path, help="JSONL, JSON, CSV or TSV with question, and answer or entry_id; lang where it is known")
    trial.add_argument("--mode", choices=("verbatim", "generate"), default="")
    for sub in (about, trial):
        sub.add_argument("--json", action="store_true")
        sub.add_argument("--model", default="", help="generator: a name from models.toml, a .gguf file, or none")
        sub.add_argument("--gpu", default="auto")

    # its own arguments are read by index_builder/evaluate/commands.py, which `main` calls; here it is only listed
    command("evaluate", None, "Measure what the app does: `evaluate --help` lists the suites.")

    doctor = command("doctor", _doctor, "What is installed, found and verified. Exits 1 if the app could not answer.")
    doctor.add_argument("--json", action="store_true")

    models = command("models", _models, "The registry: sizes, licences, what is on disk.")
    models.add_argument("action", nargs="?", choices=("list", "fetch", "verify"), default="list")
    models.add_argument("name", nargs="?", default="", metavar="NAME")
    models.add_argument("--json", action="store_true")
    return parser


def _ask(options: argparse.Namespace, settings: Settings) -> int:
    from demo.engine import Question, open_engine

    engine = open_engine(settings, options.gpu)
    try:
        seen: dict[type, object] = {}
        for event in engine.ask(Question(options.question, options.lang, options.locale, mode=options.mode, history=tuple(options.after))):
            seen[type(event)] = event
    finally:
        engine.close()
    detected, searched, retrieved, done, failed = (seen.get(kind) for kind in (Detected, Searched, Retrieved, Done, Failed))
    if isinstance(failed, Failed):
        lang = detected.answer_lang if isinstance(detected, Detected) else "en"
        message = strings(lang)[failed.key].format(**failed.values)
        if options.json:
            print(json.dumps({"question": options.question, "error": failed.key, "message": message}, ensure_ascii=False))
        else:
            print(message, file=sys.stderr)
        return 1
    assert isinstance(detected, Detected) and isinstance(retrieved, Retrieved) and isinstance(done, Done)
    alone = searched.text if isinstance(searched, Searched) else ""
    print(
        json.dumps(as_json(options.question, detected, retrieved, done, alone), ensure_ascii=False)
        if options.json
        else _as_text(detected, retrieved, done, alone)
    )
    return 0


def as_json(question: str, detected: Detected, retrieved: Retrieved, done: Done, searched: str = "") -> dict:
    """The contract of `ask --json` (docs/architecture.md). `searched`: what a follow-up was read as."""
    evidence = []
    for item in retrieved.evidence:
        hit, entry = item.hit, item.hit.entry
        evidence.append({
            "n": item.n, "entry_id": entry.entry_id, "kind": entry.kind, "lang": entry.lang, "locale": entry.locale, "topic": entry.topic, "title": entry.title,
            "text": entry.text, "question": entry.question, "source": entry.source, "reliability": entry.reliability, "marked": [item.start, item.end],
            "scores": {
                "dense": round(hit.dense, 4), "lexical": round(hit.lexical, 4), "fused": round(hit.fused, 4), "coverage": round(hit.coverage, 4),
                "answers": None if hit.answers is None else round(hit.answers, 4),
            },
            "matched_by": {"kind": hit.matched_by, "query": hit.matched_query, "lang": hit.matched_query_lang},
        })  # fmt: skip
    return {
        "question": question, "searched": searched or question, "language": detection_as_json(detected.detection) | {"answer_lang": detected.answer_lang, "corrected": detected.corrected},
        "answer": done.answer, "answer_language": done.answer_lang, "mode": done.mode, "abstained": done.abstained, "stopped": done.stopped,
        "relevance": round(retrieved.relevance, 4), "citations": [asdict(citation) for citation in done.citations], "evidence": evidence,
        "notices": [key for key, _ in done.notices], "unsupported": list(done.unsupported), "timings_ms": done.timings_ms, "model": done.model,
    }  # fmt: skip


def detection_as_json(found: Detection) -> dict:
    return {"lang": found.lang, "script": found.script, "romanised": found.romanised, "confidence": round(found.confidence, 4),
            "ranking": [[lang, round(p, 4)] for lang, p in found.ranking], "why": found.why, "native": found.native}  # fmt: skip


def _as_text(detected: Detected, retrieved: Retrieved, done: Done, searched: str) -> str:
    words = strings(detected.answer_lang)
    lines = [f"{endonym(detected.detection.lang)} ({detected.detection.confidence:.0%})  {detected.detection.why}"]
    lines += [words["searched_for"].format(text=searched)] if searched else []
    lines += ["", done.answer, ""]
    lines += [words[key].format(language=endonym(value), count=value, text=value) for key, value in done.notices]
    for item in retrieved.evidence:
        entry = item.hit.entry
        lines.append(f"[{item.n}] {entry.locale or entry.lang} {entry.topic}  {entry.question or entry.title}\n    {entry.text}")
    lines.append(words["timeline"].format(**{name: f"{done.timings_ms[name]:.1f}" for name in ("detect", "retrieve", "generate")}))
    return "\n".join(lines)


def _detect(options: argparse.Namespace, settings: Settings) -> int:
    from demo.detect import Detector

    detector = Detector.open(settings)
    for raw in sys.stdin.buffer:
        text = raw.decode("utf-8", errors="replace").rstrip("\r\n")
        found = detector.detect(text)
        if options.json:
            print(json.dumps({"text": text} | detection_as_json(found), ensure_ascii=False))
        else:
            print(f"{found.lang}\t{found.confidence:.2f}\t{found.script}\t{'romanised' if found.romanised else ''}\t{found.why}\t{text}")
    return 0


def _about(options: argparse.Namespace, settings: Settings) -> int:
    from demo.engine import open_engine
    from demo.figures import Loaded, as_table, read_figures

    engine = open_engine(settings, options.gpu)
    try:
        found = read_figures(Loaded.of(engine))
    finally:
        engine.close()
    print(json.dumps(asdict(found), ensure_ascii=False) if options.json else as_table(found).as_markdown())
    return 0


def _trial(options: argparse.Namespace, settings: Settings) -> int:
    from demo import trial
    from demo.engine import open_engine

    rows = trial.read_rows(trial.read_file(options.file))
    engine = open_engine(settings, options.gpu)
    try:
        trial.check_entries(rows, engine)
        rows, guessed = trial.with_languages(rows, engine)
        found = []
        for outcome in trial.outcomes(engine, rows, options.mode):
            found.append(outcome)
            print(f"{len(found)} of {len(rows)} asked", file=sys.stderr, end="\r", flush=True)
    finally:
        engine.close()
    report = trial.report(found, guessed)
    if options.json:
        print(json.dumps(asdict(report), ensure_ascii=False))
        return 0
    print(trial.as_table(report).as_markdown())
    for one in report.worst:
        where = f"evidence at place {one.rank}" if one.rank else "evidence not among the first five"
        print(
            f"\nrow {one.own.row}: {one.own.question}\n  {where}; expected: {one.own.answer or one.own.entry_id}\n  answered: {one.answer}"
        )
    return 0


def _evaluate(arguments: Sequence[str]) -> int:
    """The suites of `python -m index_builder evaluate`, as the app does it: romanised questions are transliterated first."""
    from index_builder.evaluate.commands import main as evaluate

    return evaluate(arguments, app=True)


def _models(options: argparse.Namespace, settings: Settings) -> int:
    if options.action != "list" and not options.name and options.action == "fetch":
        raise MajlisError(
            f"Which model? python -m demo models fetch NAME, where NAME is one of {', '.join(m.name for m in settings.models.values() if m.repo)}."
        )
    if options.action == "fetch":
        hub.fetch(settings.model(options.name), settings)
        return 0
    chosen = [settings.model(options.name)] if options.name else list(settings.models.values())
    if options.action == "verify":
        problems = {model.name: hub.verify(model, settings) for model in chosen if hub.on_disk(model, settings)}
        for name, found in problems.items():
            print(json.dumps({"name": name, "problems": found}) if options.json else f"{name}: {'; '.join(found) or 'whole'}")
        return 1 if any(problems.values()) else 0
    fits = {offer.name: offer.fits for offer in offers(settings, None)}
    used = {settings.encoder, settings.generator, settings.language}
    for model in chosen:
        there = hub.on_disk(model, settings)
        row = {"name": model.name, "role": model.role, "title": model.title, "licence": model.licence, "languages": list(model.languages),
               "bytes": model.bytes, "fits": fits.get(model.name, ""), "on_disk": there, "in_use": model.name in used, "repo": model.repo}  # fmt: skip
        if options.json:
            print(json.dumps(row, ensure_ascii=False))
        else:
            where = (
                "in use"
                if row["in_use"]
                else ("on disk" if there else ("built in" if not model.repo else f"{model.bytes / 1e9:.2f} GB to fetch"))
            )
            said = f"  {strings('en')['models'][row['fits']]}" if row["fits"] else ""
            print(f"{model.name:24} {model.role:10} {where:18} {model.licence:30} {','.join(model.languages)}{said}")
    if not options.json and not options.name:
        print("\nFetch one:          python -m demo models fetch llama-3.2-1b\nAnswer with it:     python app.py --model llama-3.2-1b")
    return 0


def _doctor(options: argparse.Namespace, settings: Settings) -> int:
    """Each line: what was looked at, and what was found. The last question is the only one that counts: does it answer?"""
    checks = []
    for status, found in _checks(settings):
        checks.append({"status": status, "found": found})
        if not options.json:
            print(f"{status:5} {found}")
    well = all(check["status"] in ("ok", "note") for check in checks)
    if options.json:
        print(json.dumps({"can_answer": well, "checks": checks}, ensure_ascii=False))
    else:
        print("Majlis can answer." if well else "Majlis cannot answer as it is; the lines above say what to do.")
    return 0 if well else 1


def _checks(settings: Settings) -> Iterator[tuple[str, str]]:
    """("ok", "note", "MISS" or "FAIL", what was found)."""
    from importlib.metadata import PackageNotFoundError, version

    from demo.engine import Question, open_engine

    needed = ("gradio", "llama-cpp-python", "hnswlib", "langid", "huggingface-hub")
    for package in (*needed, "sentence-transformers", "torch", "ctranslate2"):
        try:
            yield "ok", f"{package} {version(package)}"
        except PackageNotFoundError:
            # what the first answer does not need is only remarked on
            yield "MISS" if package in needed else "note", f"{package} is not installed: pip install -r requirements.txt"
    for path in (
        ROOT / "assets/fonts/NotoSansBengali-Regular.woff2",
        ROOT / "assets/strings/en.json",
        ROOT / "assets/corpus",
        settings.index / "manifest.json",
    ):
        yield ("ok" if path.exists() else "MISS"), str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)
    yield "ok", f"speaks {all_endonyms()}"
    yield "ok", f"generator: {settings.generator}" + ("; answers are quoted from the evidence" if settings.generator == "none" else "")
    try:
        engine = open_engine(settings)
        try:
            question = Question("What is a kalboishakhi storm?", mode="verbatim")
            done = [event for event in engine.ask(question) if isinstance(event, Done)]
        finally:
            engine.close()
        if not done:
            raise MajlisError("the engine gave no answer to a question")
        found = f"index verified, {len(engine.index):,} entries, encoder {engine.index.encoder.name}"
        yield "ok", f"{found}; a question was answered in {done[0].timings_ms['total']:.0f} ms"
    except MajlisError as error:
        yield "FAIL", str(error)


if __name__ == "__main__":
    sys.exit(main())
