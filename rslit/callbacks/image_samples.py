"""What a policy says about images, where a person can see it: panels in TensorBoard, a page and a sheet of every λ."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from lightning.pytorch.loggers import TensorBoardLogger

from rslit.callbacks.image_rows import answer_row, images_of, sample_rows
from rslit.callbacks.samples import SamplesCallback
from rslit.modules.vision import VisionModule
from rslit.samples import Samples

__all__ = ["ImageSamplesCallback"]


class ImageSamplesCallback(SamplesCallback):
    """Shows images with captions, with questions and answers, or with boxes and their overlap, and every score.

    While training, two panels go to TensorBoard (tab *Images*): ``samples/rollout``, the answers of the epoch's last
    rollout with the training rewards, several to an image, and ``samples/validation``, answers about held-out images
    with the evaluation rewards. After a sweep, ``<dirpath>/index.html`` shows the same images at every λ, at the
    initialisation and by MORL; ``<dirpath>/sheet.png`` a few of them at up to five λ; and ``<dirpath>/samples.jsonl``
    holds all for programs, without the images. Under several processes, those of the first.
    """

    shows = VisionModule

    def log_samples(self, logger: TensorBoardLogger, name: str, samples: Samples, step: int) -> None:
        """A panel, in the tab *Images*."""
        from rslit.callbacks.image_panels import panel

        items = sample_rows(samples, self.count)
        drawn = panel(items, images_of(samples, [rows[0] for rows in items]))
        logger.experiment.add_image(name, np.asarray(drawn), step, dataformats="HWC")

    def describe(self, samples: Samples, k: int) -> dict[str, Any]:
        """See :func:`rslit.callbacks.image_rows.answer_row`."""
        return answer_row(samples, k)

    def files(self, experts: Sequence[str], rows: Sequence[Mapping[str, Any]], samples: Samples) -> dict[str, bytes]:
        """The page and the sheet."""
        from rslit.callbacks.image_page import image_page
        from rslit.callbacks.image_panels import sheet

        images = images_of(samples, rows)
        drawn = io.BytesIO()
        sheet(rows, images).save(drawn, "PNG", optimize=True)
        return {"sheet.png": drawn.getvalue(), "index.html": image_page(experts, rows, images).encode()}
