"""Tokenised captions in the form in which METEOR 1.5 compares them.

With `-norm`, as pycocoevalcap starts it, METEOR splits and joins words once more: t-shirt becomes t shirt, 's becomes
' s, u.s. becomes us. It does so for every line anew, a quarter of its time; here each sentence is brought into that
form once. Words of letters and digits only, nearly all of them, stay as they are.
"""

from __future__ import annotations

import functools
import re
from itertools import zip_longest

from rslit.rewards.caption_tokens import Words

__all__ = ["meteor_form"]

# The letters METEOR knows: Latin and Cyrillic.
_ALPHA = "A-Za-zŠŽšžŸÀ-ÖØ-öø-žЀ-ӿԀ-ԧꙀ-ꙮ꙾-ꚗᴀ-ᵿ"
_PLAIN = re.compile("[a-z0-9]+")

# In this order, on a sentence with a space at both ends.
_STEPS = [
    (re.compile(rf"([^0-9{_ALPHA}\s.'`,\-‘’])"), r" \1 "),
    (re.compile(r"\.{2,}"), r" \g<0> "),
    (re.compile(r"(?<![0-9]),|,(?![0-9])"), " , "),
    (re.compile("[`‘’]"), "'"),
    (re.compile("''"), ' " '),
    (re.compile("--"), " - "),
    (re.compile(rf"([0-9{_ALPHA}.])-([0-9{_ALPHA}])"), r"\1 \2"),
    (re.compile(rf"([^{_ALPHA}])'([^{_ALPHA}])"), r"\1 ' \2"),
    (re.compile(rf"([^0-9{_ALPHA}])'([{_ALPHA}])"), r"\1 ' \2"),
    (re.compile(rf"([{_ALPHA}])'([^{_ALPHA}])"), r"\1 ' \2"),
    (re.compile(rf"([{_ALPHA}])'([{_ALPHA}])"), r"\1 '\2"),
    (re.compile("([0-9])'(s)"), r"\1 '\2"),
]

# Words in lower case whose dot METEOR keeps at the end of a sentence; the last only before a number.
_KEPT, _COUNTED = frozenset(["v", "vs", "i.e", "rev", "e.g"]), "pp"
_HAS_LETTER = re.compile(f"[{_ALPHA}]")


@functools.lru_cache(maxsize=16384)
def meteor_form(sentence: Words) -> str:
    """The sentence as METEOR's `-norm` writes it.

    Args:
        sentence: Words of `rslit.rewards.caption_tokens.words`.
    """
    line = " ".join(sentence)
    if all(map(_PLAIN.fullmatch, sentence)):
        return line
    line = f" {line} "
    for pattern, replacement in _STEPS:
        line = pattern.sub(replacement, line)
    found = line.split()
    return " ".join(_without_dot(word, after) for word, after in zip_longest(found, found[1:], fillvalue=""))


def _without_dot(word: str, after: str) -> str:
    """A word with its last dot put apart, unless it belongs to the word; `after` is the next word, or empty."""
    stem = word.removesuffix(".")
    if stem == word or not stem or set(stem) == {"."}:
        return word
    if "." in stem and _HAS_LETTER.search(stem):
        return stem.replace(".", "")
    if stem in _KEPT or re.match("[a-z]", after) or (stem == _COUNTED and re.match("[0-9]", after)):
        return word
    return f"{stem} ."
