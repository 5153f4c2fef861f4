"""Images and what is said about them: data files, models, answers, boxes."""

from rslit.vision.box_codecs import BoxCodec, FlorenceBoxCodec, OfaBoxCodec, PaliGemmaBoxCodec
from rslit.vision.kosmos_codec import KosmosBoxCodec

__all__ = ["BoxCodec", "FlorenceBoxCodec", "KosmosBoxCodec", "OfaBoxCodec", "PaliGemmaBoxCodec"]
