"""What a policy draws, where a person can see it: a strip in TensorBoard, and a grid of prompts over λ."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor

from rslit.callbacks.samples import SamplesCallback, sample_scores
from rslit.diffusion.image_folder import png_bytes
from rslit.modules.text_to_image import TextToImageModule
from rslit.samples import Samples

__all__ = ["DrawnImagesCallback"]


class DrawnImagesCallback(SamplesCallback):
    """Shows drawn images with their prompts and every score.

    At each validation while training, ``samples/validation`` in TensorBoard (tab *Images*) has the same held-out
    prompts with the same noise, so that its slider shows how the images change. After a sweep, ``<dirpath>/index.html``
    and ``<dirpath>/sheet.png`` show the same prompts at every λ, at the initialisation and by MORL (the paper's
    Figure 13); ``<dirpath>/images/`` has each image as PNG, which says prompt, seed and λ in its text chunks; and
    ``<dirpath>/samples.jsonl`` names them with their scores. Under several processes, those of the first.
    """

    shows = TextToImageModule

    def __init__(self, count: int = 8, dirpath: str | None = None) -> None:
        """See the base class."""
        super().__init__(count, dirpath)
        self._drawn: dict[str, Tensor] = {}

    def log_samples(self, logger: TensorBoardLogger, name: str, samples: Samples, step: int) -> None:
        """A strip, in the tab *Images*."""
        from rslit.callbacks.image_panels import panel

        rows = [{"item": samples.items[k], **self.describe(samples, k)} for k in range(min(self.count, len(samples)))]
        scored = [{**row, "scores": sample_scores(samples, k)} for k, row in enumerate(rows)]
        drawn = panel([[row] for row in scored], self._images())
        self._drawn.clear()
        logger.experiment.add_image(name, np.asarray(drawn), step, dataformats="HWC")

    def describe(self, samples: Samples, k: int) -> dict[str, Any]:
        """``prompt``, ``seed``, and the ``file`` of the image, relative to the page."""
        file = f"images/{len(self._drawn):04d}.png"
        self._drawn[file] = samples["image"][k]
        return {"file": file, "prompt": samples["prompt"][k], "seed": int(samples["seed"][k])}

    def _images(self) -> dict[Any, Any]:
        from PIL import Image

        return {name: Image.fromarray(image.permute(1, 2, 0).numpy()) for name, image in self._drawn.items()}

    def files(self, experts: Sequence[str], rows: Sequence[Mapping[str, Any]], samples: Samples) -> dict[str, bytes]:
        """The page, the sheet and the images."""
        from rslit.callbacks.image_page import image_page
        from rslit.callbacks.image_panels import sheet

        images = self._images()
        sheet_file = io.BytesIO()
        sheet(rows, images).save(sheet_file, "PNG", optimize=True)
        found = {"sheet.png": sheet_file.getvalue(), "index.html": image_page(experts, rows, images).encode()}
        for row in rows:
            text = {"item": str(row["item"]), "prompt": row["prompt"], "seed": str(row["seed"]), "lam": row["label"]}
            found[row["file"]] = png_bytes(self._drawn[row["file"]], text)
        self._drawn.clear()
        return found
