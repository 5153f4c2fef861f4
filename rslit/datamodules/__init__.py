"""Data of each task, in the field's own formats."""

from rslit.datamodules.base import RewardedDataModule
from rslit.datamodules.captioning import CaptioningDataModule
from rslit.datamodules.generated_images import GeneratedImagesDataModule
from rslit.datamodules.grounding import GroundingDataModule
from rslit.datamodules.locomotion import LocomotionDataModule
from rslit.datamodules.text import TextDataModule
from rslit.datamodules.text_prompts import Prompt, PromptSource, PromptTable
from rslit.datamodules.text_tasks import HelpfulAssistant, MovieReview, NewsSummary, RedditSummary, StackExchange
from rslit.datamodules.text_to_image import CaptionedImagesDataModule, PromptDataModule
from rslit.datamodules.vqa import VqaDataModule
from rslit.diffusion.prompts import PromptColumns
from rslit.vision.files import (
    CaptionSource,
    CocoCaptions,
    EasyVqa,
    HubCaptions,
    HubQuestions,
    HubRegions,
    KarpathyCaptions,
    OfaCaptions,
    OfaQuestions,
    OfaRegions,
    QuestionSource,
    RefCoco,
    RegionSource,
    VqaV2,
)

__all__ = [
    "CaptionSource",
    "CaptionedImagesDataModule",
    "CaptioningDataModule",
    "CocoCaptions",
    "EasyVqa",
    "GeneratedImagesDataModule",
    "GroundingDataModule",
    "HelpfulAssistant",
    "HubCaptions",
    "HubQuestions",
    "HubRegions",
    "KarpathyCaptions",
    "LocomotionDataModule",
    "MovieReview",
    "NewsSummary",
    "OfaCaptions",
    "OfaQuestions",
    "OfaRegions",
    "Prompt",
    "PromptColumns",
    "PromptDataModule",
    "PromptSource",
    "PromptTable",
    "QuestionSource",
    "RedditSummary",
    "RefCoco",
    "RegionSource",
    "RewardedDataModule",
    "StackExchange",
    "TextDataModule",
    "VqaDataModule",
    "VqaV2",
]
