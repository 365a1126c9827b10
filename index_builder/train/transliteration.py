"""Make the word lists of the transliterator: native words by how common they are, each with its spellings in Latin letters."""

import json
import lzma
import random
import re
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path

from index_builder.language import words_by_script
from index_builder.train.data import read_rows
from index_builder.train.language_data import ROMANISED, SCRIPT_OF, Row, held_out, lexicon
from index_builder.train.romanise import romanise

WORDS = {"ar": 30_000, "as": 35_000, "bn": 90_000, "hi": 90_000, "ne": 30_000}
BY_RULE = {"ar": 5, "as": 3, "bn": 0, "hi": 0, "ne": 4}  # spellings drawn for each word that has too few


def train_transliteration(data: Path, rows: list[Row], out: Path, say: Callable[[str], None]) -> None:
    """Write `{lang}.words.txt.xz` to `out`. `rows` are the training rows of the language model: their native texts say which words are common."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    vocalised: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        if row.label in ROMANISED:
            counts[row.label].update(words_by_script(row.text).by_script.get(SCRIPT_OF[row.label], ()))
            if row.label == "ar":
                for word in row.text.split():
                    if re.search("[\u064b-\u0650]", word):
                        bare = words_by_script(word).by_script.get("Arab", [""])[0]
                        vocalised[bare][word] += 1
    spelled = lexicon(data, ("as", "bn", "hi"))
    sentences = _aligned(data)
    for lang in ROMANISED:
        rng = random.Random(f"transliteration {lang}")
        known = spelled.get(lang, {})
        for native in known:
            counts[lang][native] += 1
        for native, spellings in sentences.get(lang, {}).items():
            counts[lang][native] += 2 * sum(spellings.values())
        lines = []
        for native, _ in counts[lang].most_common(WORDS[lang]):
            latin = [roman for roman, _ in sentences.get(lang, {}).get(native, Counter()).most_common(4)]
            latin += known.get(native, [])
            forms = list(vocalised.get(native, [native]))[:2] if lang == "ar" else [native]
            latin += [romanise(rng.choice(forms), lang, rng) for _ in range(BY_RULE[lang])]
            latin = list(dict.fromkeys(roman.lower() for roman in latin if roman and re.fullmatch("[a-zA-Z0-9']+", roman)))[:6]
            if latin and len(native) > 1:
                lines.append(f"{native}\t{' '.join(latin)}")
        (out / f"{lang}.words.txt.xz").write_bytes(lzma.compress("\n".join(lines).encode("utf-8"), preset=9))
        say(f"{lang}: {len(lines)} words with Latin spellings")


def _aligned(data: Path) -> dict[str, dict[str, Counter[str]]]:
    """lang -> native word -> its spellings, from sentence pairs with as many words on both sides."""
    found: dict[str, dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
    for row in map(json.loads, read_rows(data / "romanised" / "sentences.jsonl.xz")):
        if row["lang"] == "ar" or held_out(row["native"], 10):
            continue
        native = [words_by_script(word).by_script.get(SCRIPT_OF[row["lang"]], [""])[0] for word in row["native"].split()]
        roman = [word.lower().strip(".,;:!?()\"'-") for word in row["roman"].split()]
        if len(native) == len(roman):
            for word, latin in zip(native, roman, strict=True):
                if word:
                    found[row["lang"]][word][latin] += 1
    return found
