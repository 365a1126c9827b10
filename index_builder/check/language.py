"""Whether a text is in the language that its row says: by its script, by letters that one language alone has, by function words."""

from collections import Counter
from collections.abc import Iterator

import regex

from index_builder.check.characters import Defect
from index_builder.check.report import printable

SCRIPTS = {"ar": "Arabic", "as": "Bengali", "bn": "Bengali", "en": "Latin", "hi": "Devanagari", "ne": "Devanagari", "tr": "Latin"}
_SCRIPT_LETTERS = {name: regex.compile(rf"[\p{{L}}&&\p{{{name}}}]", regex.V1) for name in ("Arabic", "Bengali", "Cyrillic", "Devanagari", "Greek", "Latin")}
_LETTER = regex.compile(r"\p{L}")
_WORD = regex.compile(r"[\p{L}\p{M}]+(?:['’][\p{L}\p{M}]+)*")
# A foreign title in quotation marks or a gloss in brackets says nothing about the language of the row.
_ASIDE = regex.compile(r"\"[^\"]*\"|“[^”]*”|«[^»]*»|‘[^’]*’|\([^()]*\)|(?<!\S)'[^']*'(?!\S)")

# A Latin name with a case ending of another script written onto it: IELTSको
_LATIN_NAME = regex.compile(r"\p{Latin}+['’]?[\p{M}\p{Bengali}\p{Devanagari}]+")

# Words that are frequent in one language and are no words of the others in its script. Marathi, Persian and Urdu are here because
# they share a script with ours and are what a copied row is in most often.
_FUNCTION_WORDS = {
    lang: frozenset(words.split())
    for lang, words in {
        "ar": "من في على إلى عن أن ما هو هي التي الذي لا أو مع كيف متى لماذا أين هل كان كانت هذا هذه ذلك ثم بعد قبل بين عند كل أي كم ماذا شنو ليش شلون وين منو هناك لم قد فيها حتى إذا لأن كما وهو وهي ولا أما أهل",
        "fa": "است از که این را می برای با آن های یک",
        "ur": "ہے ہیں کے کی میں اور کا سے کو کیا نہیں",
        "as": "আৰু কিয় কেনেকৈ কেতিয়া কিমান ক'ত বুলি বাবে লগত পৰা হৈ লৈ এটা আছিল হ'ল হ'ব নহয় নাই ইয়াৰ ইয়াক সেয়ে মাজত দৰে কৰে কৰা তেওঁ মানুহে কৰি কৰিব পাৰি পাৰে কোনটো কোনজন কোনখন হোৱা থকা যি যোৱা লোৱা পোৱা ওপৰত নিজৰ য'ত তাত নাইবা কিছুমান আগতে দি হৈছিল কৰিছিল গৈ কয়",
        "bn": "আর এবং থেকে কেন কী কোথায় কীভাবে করে একটি একটা জন্য সঙ্গে সাথে তার তাদের ছিল নয় কোনো বলে নিয়ে হয়ে মতো তবে করা করেন করার হলে গেলে কখন করতে হতো যখন এর কার কীসের না ও পরে আগে মধ্যে যা পারে হবে হতে সে কেউ তাঁর কোনটা কত বলতে মানে",
        "hi": "है हैं का की में और से नहीं था थे थी लिए यह क्या क्यों कैसे कौन किस किसे जाता जाते जाती होता होती होते पर भी ने वाले वाली करते कुछ तो कर ही इस अपने बहुत",
        "ne": "र छ छन् हो हुन् हुन्छ हुन्छन् पनि लागि भएको भएका गरेको गरिएको भनेर भन्ने भनेको गर्ने गर्न हुने हुन किन कसरी कति कुन थियो थिए यो त्यो तर भने गरिन्छ भनिन्छ मानिन्छ छैन हुँदा गर्छन् गर्छ जान्छ वा कुनै धेरै केही आफ्नो नै यस मात्र दुई एउटा",
        "mr": "आहे आहेत आणि मध्ये नाही काय कसे कुठे असते म्हणून",
        "en": "the of and is are what how why when which who where with for from does do that was were by to it its a an in on at can you i my if or as not their they",
        "tr": "ve bir bu için ile da ne mi mı mu mü olarak nasıl neden hangi kim olan gibi çok daha kadar nerede zaman sonra önce her ya ise var ama kaç denir iki arasında genellikle bugün göre biri kendi büyük yer",
    }.items()
}  # fmt: skip
# What an ending says where a language writes its function words onto the word
_ENDINGS = {"ne": regex.compile(r"..(?:लाई|बाट|हरू.*|सँग|देखि|को|मा|न्छ|न्छन्)")}
# Words of both languages of a script: they do not tell them apart, but a text that has them is in one of the two
_SHARED = {
    script: frozenset(shared.split())
    for script, shared in {
        "Bengali": "হয় আছে বা এই যে কি থাকে কিন্তু এক সেই যায় অন্য কোন দিয়ে তাই আমি",
        "Devanagari": "को एक कि के जो हो साथ जब न",
    }.items()
}
_FAMILIES = {"Arabic": ("ar", "fa", "ur"), "Bengali": ("as", "bn"), "Devanagari": ("hi", "ne", "mr"), "Latin": ("en", "tr")}
_NAMES = {"ar": "Arabic", "as": "Assamese", "bn": "Bangla", "en": "English", "fa": "Persian", "hi": "Hindi", "mr": "Marathi", "ne": "Nepali", "tr": "Turkish", "ur": "Urdu"}  # fmt: skip
# Letters of the one that the other does not have
_FOREIGN_LETTERS = {"as": ("র", "bn", "ৰ"), "bn": ("ৰৱ", "as", "র and ব")}
_ENOUGH = 15  # words among which some function word must be


def language_defects(text: str, lang: str, script: str = "") -> Iterator[Defect]:
    """`script` is given where it is not the language's own: Latin, for a romanised question, whose language is then not judged."""
    plain = _ASIDE.sub(" ", text)
    plain = plain if _LETTER.search(plain) else text
    letters = _LETTER.findall(plain)
    if not letters and regex.search(r"\p{N}", text):
        return  # a year is an answer in any language
    if not letters:
        yield "error", "no words", printable(text, 60), f"text in {_NAMES[lang]}"
        return
    wanted = script or SCRIPTS[lang]
    share = len(_SCRIPT_LETTERS[wanted].findall(plain)) / len(letters)
    if share < 0.75:
        found = f"{share:.0%} of the letters are {wanted}: {printable(text, 60)!r}"
        yield "error" if share < 0.5 else "warning", "script", found, f"{_NAMES[lang]} in {wanted} letters"
    for word in _WORD.findall(plain):
        scripts = sorted(name for name, of in _SCRIPT_LETTERS.items() if of.search(word))
        if len(scripts) > 1 and not _LATIN_NAME.fullmatch(word):
            yield "error", "mixed scripts", f"{word!r}: {' and '.join(scripts)} letters in one word", "words of one script"
            break
    if script or share < 0.5:
        return
    if lang in _FOREIGN_LETTERS:
        foreign, other, own = _FOREIGN_LETTERS[lang]
        if wrong := [word for word in _WORD.findall(plain) if set(word) & set(foreign)]:
            found = f"{', '.join(wrong[:3])}: {' '.join(sorted(set(foreign) & set(''.join(wrong))))} is a letter of {_NAMES[other]}"
            yield "error", "language", found, f"{_NAMES[lang]}, which writes {own}"
            return
    yield from _by_function_words(plain, lang, wanted)


def _by_function_words(text: str, lang: str, script: str) -> Iterator[Defect]:
    said = [word.replace("’", "'").replace("İ", "i").lower() for word in _WORD.findall(text)]
    evidence = {of: [word for word in said if word in _FUNCTION_WORDS[of] or of in _ENDINGS and _ENDINGS[of].fullmatch(word)] for of in _FAMILIES[script]}
    if lang == "en":  # a Turkish name is at home in English; a word with a small first letter is a Turkish word
        evidence["tr"] += [word for word in _WORD.findall(text) if word[0].islower() and set(word) & set("ğış")]
    other = max((of for of in evidence if of != lang), key=lambda of: len(evidence[of]))
    if len(evidence[other]) >= 2 and len(evidence[other]) > len(evidence[lang]):
        common = ", ".join(word for word, _ in Counter(evidence[other]).most_common(4))
        yield "error", "language", f"words of {_NAMES[other]}: {common}", f"{_NAMES[lang]}"
    elif len(said) >= _ENOUGH and not evidence[lang] and not _SHARED.get(script, frozenset()).intersection(said):
        yield "warning", "language", f"no common word of {_NAMES[lang]} in {printable(text, 60)!r}", f"{_NAMES[lang]}"
