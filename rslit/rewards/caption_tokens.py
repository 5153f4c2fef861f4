"""Captions as words: what pycocoevalcap's PTBTokenizer (Stanford CoreNLP 3.4.1) makes of them, without Java.

The same words are split, kept and dropped in captions as people and policies write them: contractions, possessives,
abbreviations, numbers, quotes, brackets. Its rules for web addresses, emoticons, foreign currency and letters that are
not Latin are left out. Words of a caption that are joined by spaces stay the same words.
"""

from __future__ import annotations

import functools
import re

__all__ = ["Words", "words"]

Words = tuple[str, ...]

# Dropped by pycocoevalcap, after quotes and dashes were brought to these forms.
_DROPPED = frozenset(["'", "''", "`", "``", '"', ".", "..", "...", "?", "!", ",", ":", "-", "--", ";"])

# The tokenizer escapes brackets. pycocoevalcap would drop them too, but looks for capital letters, so they stay.
_BRACKETS = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}

_TYPOGRAPHY = str.maketrans({"’": "'", "‘": "'", "“": '"', "”": '"', "–": "--", "—": "--", "…": "..."})

_PARTS = {
    "cannot": ("can", "not"),
    "gonna": ("gon", "na"),
    "gotta": ("got", "ta"),
    "wanna": ("wan", "na"),
    "lemme": ("lem", "me"),
    "gimme": ("gim", "me"),
    "'tis": ("'t", "is"),
    "'twas": ("'t", "was"),
}

# Their dot belongs to them wherever they stand; that of the second kind only before a number.
_ABBREVIATION = (
    "mr|mrs|ms|drs?|profs?|sens?|reps?|attys?|lt|col|gen|messrs|govs?|adm|rev|maj|sgt|cpl|pvt|capt|ste?|ave|pres|lieut|"
    "hon|brig|cmdr|jr|sr|bros|blvd|rd|esq|jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec|mon|tues?|wed|thu|thurs|fri|"
    "inc|cos?|corp|ltd|plc|dept|univ|intl|assn|etc|vs|al|mt|ft|est|ext|bldg|sq|ct|tel|[a-z]"
)
_COUNTED = "nos?|figs?|pp|art"

_LETTER = "[a-zß-öø-ÿā-ž]"
_ALNUM = "[0-9a-zß-öø-ÿā-ž]"
_TOKEN = re.compile(
    rf"""
      -[lr][rsc]b-                                                # a bracket that was escaped already
    | </?{_LETTER}+>                                              # <unk>
    | {_LETTER}(?:\.{_LETTER})+\.?(?!{_ALNUM})                    # u.s., a.m.
    | (?:{_ABBREVIATION})\.(?!{_ALNUM})
    | (?:{_COUNTED})\.(?=\s*[0-9])
    | (?:'(?:s|d|m|ll|re|ve)|n't)(?!{_ALNUM})                     # dog's, don't: the second part
    | {_LETTER}+?(?=n't(?!{_ALNUM}))                              # and the first of don't
    | y'(?=\s?all(?!{_ALNUM}))
    | [dol]'(?!s(?!{_ALNUM})){_LETTER}+                           # o'clock
    | {_LETTER}*[aeiouy]'[aeiou]{_LETTER}*                        # ma'am
    | 'n'
    | '(?:n|em|till?|cause|t(?:is|was)?|[2-9]0s)(?!{_ALNUM})
    | [-+]?[0-9]*(?:[.,:][0-9]+)+(?![-/]?{_ALNUM})                # 1,000, 10:30
    | [-+][0-9]+
    | [0-9]+(?:[.,:][0-9]+)+                                      # the number in 10:30pm
    | {_ALNUM}(?:{_ALNUM}|[-/.@?!_](?={_ALNUM}))*                 # t-shirt, 35mm, and/or
    | [\#@]{_LETTER}+
    | [?!]+ | \.{{2,3}} | -+ | _+ | '' | ``
    | \S
    """,
    re.VERBOSE,
)
_PLAIN = re.compile("[a-z0-9 ]*")
_DOTTED = re.compile(_ABBREVIATION)


@functools.lru_cache(maxsize=16384)
def words(caption: str) -> Words:
    """The words of a caption.

    Args:
        caption: One sentence in upper or lower case, raw or its words joined by spaces; may be empty.
    """
    text = caption.strip().lower()
    sentence = text.removesuffix(".")
    if _PLAIN.fullmatch(sentence):
        found = sentence.split()
        if sentence != text and found and _DOTTED.fullmatch(found[-1]) and not sentence.endswith(" "):
            found[-1] += "."
    else:
        tokens: list[str] = _TOKEN.findall(text.translate(_TYPOGRAPHY))
        found = [_BRACKETS.get(token, token) for token in tokens if token not in _DROPPED]
    if not _PARTS.keys().isdisjoint(found):
        found = [part for word in found for part in _PARTS.get(word, (word,))]
    return tuple(found)
