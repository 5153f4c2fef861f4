"""Causal language models as policies: loading, sampling, scoring, the reference."""

from rslit.language.generation import Answers, generate
from rslit.language.load import LanguagePolicy, build_policy
from rslit.language.options import EvaluationOptions, KLOptions, LoraOptions, PolicyOptions, SamplingOptions
from rslit.language.padding import Prompts, left_pad
from rslit.language.reference import Reference
from rslit.language.scoring import Scored, score_answers, value_head
from rslit.language.sharding import gather, scatter, shard
from rslit.language.speaker import Speaker

__all__ = [
    "Answers",
    "EvaluationOptions",
    "KLOptions",
    "LanguagePolicy",
    "LoraOptions",
    "PolicyOptions",
    "Prompts",
    "Reference",
    "SamplingOptions",
    "Scored",
    "Speaker",
    "build_policy",
    "gather",
    "generate",
    "left_pad",
    "scatter",
    "score_answers",
    "shard",
    "value_head",
]
