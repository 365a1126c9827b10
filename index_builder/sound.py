"""Words -> consonant skeletons that sound alike across scripts: পান্তা, पांता, پانتا and panta are all "pnt".

Names of dishes, festivals and people are what a question in one script shares with an answer in another, and what an encoder
trained on general text knows least. The skeleton keeps the consonants that survive every spelling: aspiration, voicing of
s/sh, v/w/b, f/p, z/j, doubled letters and all vowels are dropped, as romanisers do. Rules only, so that anyone can check them.
"""

from functools import lru_cache

from index_builder.text import words

SHORTEST = 3  # skeletons with fewer sounds are shared by too many words to tell anything

_BRAHMIC = {  # offset of the consonant in its Unicode block, the same in Devanagari (0900) and Bengali (0980)
    0x15: "k", 0x16: "k", 0x17: "g", 0x18: "g", 0x19: "n", 0x1A: "c", 0x1B: "c", 0x1C: "j", 0x1D: "j", 0x1E: "n", 0x1F: "t", 0x20: "t", 0x21: "d", 0x22: "d",
    0x23: "n", 0x24: "t", 0x25: "t", 0x26: "d", 0x27: "d", 0x28: "n", 0x29: "n", 0x2A: "p", 0x2B: "p", 0x2C: "b", 0x2D: "b", 0x2E: "m", 0x30: "r", 0x31: "r",
    0x32: "l", 0x33: "l", 0x35: "b", 0x36: "s", 0x37: "s", 0x38: "s", 0x02: "n", 0x01: "n", 0x5C: "r", 0x5D: "r", 0x70: "r", 0x71: "b", 0x4E: "t",
}  # fmt: skip
_SOUND = {chr(block + offset): sound for block in (0x0900, 0x0980) for offset, sound in _BRAHMIC.items()}
_SOUND |= {"\u0970": "", "\u0971": "", "\u094e": "", "\u095c": "r", "\u095d": "r"}  # the same offsets mean other things in Devanagari
_SOUND |= dict(zip("بتثجخدذرزسشصضطظغفقكلمنپچگڤ", "btsjkdjrjsssdtjgpkklmnpcgb", strict=True))
_SOUND |= dict(zip("bcdfgjklmnpqrstvwxzçğşñ", "bkdpgjklmnpkrstbbkjcgsn", strict=True))
# before single letters: the pairs by which romanisers write one sound
_PAIRS = {"ch": "c", "sh": "s", "th": "t", "dh": "d", "ph": "p", "bh": "b", "kh": "k", "gh": "g", "jh": "j", "ck": "k", "cc": "c"}
_VOWELS = set("aeiouüöıyhâîû") | set("اويهعحىأإآءئؤةي")


@lru_cache(maxsize=65_536)
def skeleton(word: str) -> str:
    """The `sounds` of a folded word; empty when fewer than SHORTEST are left."""
    found = sounds_of(word)
    return found if len(found) >= SHORTEST else ""


def sounds_of(word: str) -> str:
    """The consonant sounds of a folded word; a leading vowel counts as "a"."""
    for prefix in ("وال", "بال", "ال"):  # the Arabic article, never part of a name abroad
        if word.startswith(prefix) and len(word) - len(prefix) >= 3:
            word = word[len(prefix) :]
            break
    sounds = ["a"] if word and not _sound_at(word, 0)[0] and word[0] not in "hyه" else []
    i = 0
    while i < len(word):
        sound, width = _sound_at(word, i)
        if sound and (not sounds or sounds[-1] != sound):
            sounds.append(sound)
        i += width
    found = "".join(sounds)
    for written, heard in (("ng", "n"), ("mb", "nb"), ("mp", "np")):  # nasals take the place of the sound after them
        found = found.replace(written, heard)
    return found


def _sound_at(word: str, i: int) -> tuple[str, int]:
    if pair := _PAIRS.get(word[i : i + 2]):
        return pair, 2
    return _SOUND.get(word[i], ""), 1


def skeletons(text: str) -> list[str]:
    return [found for found in map(skeleton, words(text)) if found]
