"""Lightning callbacks: ingredients, exact resuming, and what a person sees."""

from rslit.callbacks.drawn_images import DrawnImagesCallback
from rslit.callbacks.episodes import EpisodeCallback
from rslit.callbacks.image_samples import ImageSamplesCallback
from rslit.callbacks.image_writer import ImageWriter
from rslit.callbacks.progress import RewardedProgressBar
from rslit.callbacks.resume import AtomicCheckpointIO, ResumeCheckpoint
from rslit.callbacks.rng import RNGCallback
from rslit.callbacks.soup import SoupCallback
from rslit.callbacks.text_samples import TextSamplesCallback

__all__ = [
    "AtomicCheckpointIO",
    "DrawnImagesCallback",
    "EpisodeCallback",
    "ImageSamplesCallback",
    "ImageWriter",
    "RNGCallback",
    "ResumeCheckpoint",
    "RewardedProgressBar",
    "SoupCallback",
    "TextSamplesCallback",
]
