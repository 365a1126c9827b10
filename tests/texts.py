"""Text as users write it, for property tests: every script of the seven languages, Latin, digits, emoji, invisible and bidi controls."""

from hypothesis import strategies as st

_BLOCKS = (
    ("\u0000", "\u024f"),  # Latin, with the letters of Turkish, and control characters
    ("\u0300", "\u03ff"),  # combining marks, Greek
    ("\u0600", "\u06ff"),  # Arabic
    ("\u0900", "\u09ff"),  # Devanagari, Bengali-Assamese
    ("\u2000", "\u206f"),  # joiners, bidi controls, punctuation
    ("\ufb50", "\ufefe"),  # Arabic presentation forms
    ("\uff01", "\uff5e"),  # full-width Latin
    ("\U0001f300", "\U0001f64f"),  # emoji
)
characters = st.one_of(
    st.sampled_from("اإىةكیہপকৰৱ্ংঁ়ািक़जंँ़ािIİıŞşğ٣৩३ \n.!?।॥؟\"'’»()*:^-\u200c\u200d\u202e\ufeff😀"),
    *(st.characters(min_codepoint=ord(first), max_codepoint=ord(last), exclude_categories=["Cs", "Cn"]) for first, last in _BLOCKS),
)
any_text = st.text(characters, max_size=60)
some_text = any_text.filter(lambda text: text.strip() != "")
