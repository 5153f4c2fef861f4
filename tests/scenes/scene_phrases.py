"""Reads the world's English: its words, and its noun phrases."""

from __future__ import annotations

from dataclasses import dataclass

from rslit.scenes import Thing

NOUNS = {
    **{"circle": "circle", "disc": "circle", "square": "square", "box": "square", "triangle": "triangle"},
    **{"star": "star", "heart": "heart", "cross": "cross", "shape": None, "object": None},
    **{"boxes": "square", "crosses": "cross"},
}
NOUNS |= {f"{noun}s": shape for noun, shape in NOUNS.items() if noun[-1] != "s"}
TWO_WORD_NOUNS = {("round", "shape"): "circle", ("plus", "sign"): "cross"}
TWO_WORD_NOUNS |= {(first, f"{second}s"): shape for (first, second), shape in TWO_WORD_NOUNS.items()}
SIZES = {"small": "small", "little": "small", "tiny": "small", "medium": "medium"}
SIZES |= dict.fromkeys(("large", "big", "huge"), "large")
COLOURS = {word: word for word in ("red", "orange", "yellow", "green", "blue", "purple")} | {"violet": "purple"}
NUMBERS = {"one": 1, "two": 2, "three": 3, "four": 4, "five": 5}
MOST = {
    **{"leftmost": "left", "rightmost": "right", "topmost": "top", "highest": "top", "bottommost": "bottom"},
    **{"lowest": "bottom", "largest": "large", "biggest": "large", "smallest": "small"},
}
MOST_AFTER = {
    **{"furthest to the left": "left", "on the far left": "left", "furthest to the right": "right"},
    **{"on the far right": "right", "closest to the top": "top", "at the very top": "top"},
    **{"closest to the bottom": "bottom", "at the very bottom": "bottom"},
}
RELATIONS = {
    **{"to the left of": "left", "left of": "left", "to the right of": "right", "right of": "right"},
    **{"above": "above", "below": "below", "under": "below", "inside": "in", "in": "in", "around": "around"},
    **{"next to": "near", "beside": "near", "near": "near"},
}
_SIDES = {"left": ("left",), "right": ("right",), "top": ("top",), "bottom": ("bottom",)}
_CORNERS = {
    f"{first} {second}": (side, second)
    for first, side in (("top", "top"), ("upper", "top"), ("bottom", "bottom"), ("lower", "bottom"))
    for second in ("left", "right")
}
PLACES: dict[str, tuple[str, ...]] = {"in the middle": ("middle",), "in the center": ("middle",)}
for _name, _parts in _SIDES.items():
    PLACES |= {f"on the {_name}": _parts, f"on the {_name} side": _parts, f"at the {_name}": _parts}
for _name, _parts in _CORNERS.items():
    PLACES |= {f"{start} the {_name}{end}": _parts for start in ("in", "at") for end in ("", " corner")}


@dataclass
class Phrase:
    """A noun phrase as it was read."""

    number: int | None = None
    definite: bool = False
    other: bool = False
    most: str | None = None
    size: str | None = None
    colour: str | None = None
    shape: str | None = None
    place: tuple[str, ...] = ()
    relation: tuple[str, Phrase] | None = None

    def fits(self, thing: Thing) -> bool:
        pairs = ((self.size, thing.size), (self.colour, thing.colour), (self.shape, thing.shape))
        return all(said in (None, is_) for said, is_ in pairs)


class Words:
    """Words that are read from left to right."""

    def __init__(self, text: str) -> None:
        self.left = text.split()

    def take(self, table: dict[str, object]) -> object | None:
        """The value of the longest entry that the rest begins with, which is read."""
        for entry in sorted(table, key=lambda entry: -len(entry.split())):
            words = entry.split()
            if self.left[: len(words)] == words:
                del self.left[: len(words)]
                return table[entry]
        return None

    def phrase(self, *, simple: bool = False) -> Phrase:
        """A noun phrase; a simple one has no place and no relation."""
        phrase = Phrase()
        article = self.take({"a": 1, "an": 1, "the": "the", **NUMBERS})
        phrase.definite = article == "the"
        phrase.number = article if isinstance(article, int) else None
        phrase.other = bool(self.take({"other": True}))
        self.take({"colored": True})
        phrase.most = self.take(dict(MOST))  # type: ignore[assignment]
        phrase.size = self.take(dict(SIZES))  # type: ignore[assignment]
        if phrase.size == "medium":
            self.take({"sized": True})
        phrase.colour = self.take(dict(COLOURS))  # type: ignore[assignment]
        if tuple(self.left[:2]) in TWO_WORD_NOUNS:
            phrase.shape = TWO_WORD_NOUNS[self.left[0], self.left[1]]
            del self.left[:2]
        else:
            phrase.shape = NOUNS[self.left.pop(0)]
        if not simple:
            phrase.most = phrase.most or self.take(dict(MOST_AFTER))  # type: ignore[assignment]
            phrase.place = self.take(dict(PLACES)) or ()  # type: ignore[assignment]
            relation = self.take(dict(RELATIONS))
            if relation is not None:
                phrase.relation = (str(relation), self.phrase())
        return phrase
