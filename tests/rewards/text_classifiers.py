"""Samples for the tests of classifier rewards, and a short way to write such a reward."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rslit.rewards import ClassifierReward
from rslit.samples import Samples

QUESTIONS = [
    "How do I boil an egg?",
    "What is the best way to learn a new language, and why do so many people give up after a week or two?",
    "My friend does not answer my messages.",
    "Why?",
]
RESPONSES = [
    "Put it into hot water and wait for about seven minutes. Then eat it.",
    "Read a little every day.",
    "",
    "The government said on Monday that it would cut taxes for small firms.",
]
SAMPLES = Samples(["a", "b", "c", "d"], {"question": QUESTIONS, "response": RESPONSES})
# Each family's template in the paper, and the text it makes with the special tokens of that family.
TEMPLATES = {
    "gpt2": ("{response} {bos} {question}", "{1} <|endoftext|> {0}"),
    "bart": ("{response}{sep}{sep}{question}", "{1}</s></s>{0}"),
    "deberta-v2": ("{question}{sep}{response}", "{0}[SEP]{1}"),
    "electra": ("{question}{sep}{response}", "{0}[SEP]{1}"),
}


def build(folder: Path, template: str = "{question}{response}", **options: Any) -> ClassifierReward:
    return ClassifierReward(**{"model": str(folder), "template": template, "name": "r", "formula": "0"} | options)
