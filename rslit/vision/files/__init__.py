"""Readers of the field's data files: COCO, Karpathy's splits, VQA v2, RefCOCO, OFA's TSVs, hubs, easy-vqa."""

from rslit.vision.files.base import CaptionSource, Part, QuestionSource, RegionSource, Source
from rslit.vision.files.coco import CocoCaptions, KarpathyCaptions
from rslit.vision.files.easy import EasyVqa
from rslit.vision.files.hub import HubCaptions, HubQuestions, HubRegions
from rslit.vision.files.ofa import OfaCaptions, OfaQuestions, OfaRegions
from rslit.vision.files.refcoco import RefCoco
from rslit.vision.files.vqa import VqaV2

__all__ = [
    "CaptionSource",
    "CocoCaptions",
    "EasyVqa",
    "HubCaptions",
    "HubQuestions",
    "HubRegions",
    "KarpathyCaptions",
    "OfaCaptions",
    "OfaQuestions",
    "OfaRegions",
    "Part",
    "QuestionSource",
    "RefCoco",
    "RegionSource",
    "Source",
    "VqaV2",
]
