"""Data of each task, in the field's own formats."""

from rslit.datamodules.base import RewardedDataModule
from rslit.datamodules.locomotion import LocomotionDataModule
from rslit.datamodules.text import TextDataModule
from rslit.datamodules.text_prompts import Prompt, PromptSource, PromptTable
from rslit.datamodules.text_tasks import HelpfulAssistant, MovieReview, NewsSummary, RedditSummary, StackExchange

__all__ = [
    "HelpfulAssistant",
    "LocomotionDataModule",
    "MovieReview",
    "NewsSummary",
    "Prompt",
    "PromptSource",
    "PromptTable",
    "RedditSummary",
    "RewardedDataModule",
    "StackExchange",
    "TextDataModule",
]
