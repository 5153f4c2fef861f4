"""Generated images with their rewards: what text-to-image scores and is fine-tuned on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_info

from rslit.datamodules.text_to_image import DrawingDataModule, prompt_batch
from rslit.datamodules.walk import Batch, EvaluationBatches, TrainingBatches
from rslit.diffusion.image_folder import GeneratedImage, check_image, read_index, reward_columns
from rslit.diffusion.prompts import PromptColumns
from rslit.errors import RslitError
from rslit.objectives.reward_weighted import combine, keep_and_rescale
from rslit.rewards import Reward, WeightedSum

__all__ = ["GeneratedImagesDataModule"]

WeightedImage = tuple[GeneratedImage, float]


def _image_batch(images: Sequence[GeneratedImage]) -> Batch:
    return prompt_batch(images) | {"image": [image.path for image in images]}


def _weighted_batch(rows: Sequence[WeightedImage]) -> Batch:
    batch = _image_batch([image for image, _ in rows])
    del batch["seed"]
    return batch | {"weight": [weight for _, weight in rows]}


class GeneratedImagesDataModule(DrawingDataModule):
    """A folder of generated images, see `rslit.diffusion.image_folder`: to score them, and to train on scored ones.

    A batch is a dict of equally long lists. In ``fit``: ``items`` (ids), ``prompt``, ``image`` (a file) and ``weight``
    (the image's rescaled reward) of the images with the best rewards, by the reward of the module under the trainer.
    In ``predict``: ``items``, ``prompt``, ``seed``, ``image`` of all images. In evaluation: ``items``, ``prompt``,
    ``seed`` as of a `PromptDataModule`.
    """

    def __init__(
        self,
        folder: str,
        keep: float = 0.5,
        batch_size: int = 64,
        rollouts_per_epoch: int | None = None,
        eval_prompts: str | None = None,
        columns: PromptColumns | None = None,
        image_seed: int = 0,
        eval_items: int = 200,
        eval_batch_size: int | None = None,
    ) -> None:
        """Takes a folder and sizes; nothing is read yet.

        Args:
            folder: Folder of images.
            keep: Share of the images to train on: those with the best rewards (the paper keeps half).
            batch_size: Images of a batch, on each device.
            rollouts_per_epoch: Batches in one Lightning epoch of training; default one pass over the images that are
                kept. Shorter epochs go on where the one before stopped.
            eval_prompts: File of held-out prompts, see `PromptDataModule`; scoring needs none.
            columns: Where in a table they are, see `PromptDataModule`.
            image_seed: Seed that their seeds follow from, see `PromptDataModule`.
            eval_items: Prompts of an evaluation, over all devices.
            eval_batch_size: Held-out prompts drawn side by side for each λ; default `batch_size`.

        Raises:
            RslitError: A size is below 1, or `keep` is no share.
        """
        super().__init__(eval_prompts, columns, image_seed, batch_size, eval_items, eval_batch_size)
        if rollouts_per_epoch is not None and rollouts_per_epoch < 1:
            raise RslitError(f"data.rollouts_per_epoch must be at least 1, got {rollouts_per_epoch}")
        if not 0 < keep <= 1:
            raise RslitError(f"data.keep must be a share of the images in (0, 1], got {keep:g}")
        self.folder = Path(folder).expanduser()
        self.keep = keep
        self.rollouts_per_epoch = rollouts_per_epoch

    def images(self) -> list[GeneratedImage]:
        """All images of the folder, each of them there and drawn from its prompt and seed.

        Raises:
            RslitError: The folder or one of the images is missing, broken or another.
        """
        images = read_index(self.folder)
        for image in images:  # of pixels that are broken one learns when they are needed
            check_image(image.path, {"prompt": image.prompt, "seed": str(image.seed)}, decode=False)
        return images

    def weighted(self, reward: Reward) -> list[WeightedImage]:
        """The images to train on and their weights r: the smallest is 0, the mean 1 (appendix E.1).

        Args:
            reward: The training reward; of a WeightedSum each term counts as its own expert would rescale it.

        Raises:
            RslitError: The images are not scored with it, or it is the same for all.
        """
        images = self.images()
        mu = {reward.name: 1.0}
        if isinstance(reward, WeightedSum):
            mu = {term.name: weight for term, weight in zip(reward.rewards, reward.weights, strict=True) if weight}
        columns = reward_columns(self.folder, [image.item for image in images], mu)
        try:
            # One reward needs no common scale.
            values = next(iter(columns.values())) if len(mu) == 1 else combine(columns, mu, self.keep)
            chosen, weights = keep_and_rescale(values, self.keep)
        except RslitError as error:
            raise RslitError(f"data.folder: {self.folder}: reward '{reward.name}': {error}") from error
        rank_zero_info(
            f"data: {len(chosen):,} of {len(images):,} images of {self.folder} to train on, with '{reward.name}' from "
            f"{values[chosen].min():.4g} to {values[chosen].max():.4g}, weights up to {weights.max():.3g}"
        )
        return [(images[k], weight) for k, weight in zip(chosen.tolist(), weights.tolist(), strict=True)]

    def batches(self) -> TrainingBatches[WeightedImage]:
        """Images to train on.

        Raises:
            RslitError: As `weighted`; or there are too few for one batch on each device.
        """
        assert self.trainer is not None, "Lightning sets the trainer before it asks for a loader"
        rows = self.weighted(self.trainer.lightning_module.reward)  # type: ignore[arg-type]
        if len(rows) < self.batch_size * self.world_size:
            raise RslitError(
                f"data.batch_size: {self.batch_size} images on each of {self.world_size} devices are more than the "
                f"{len(rows)} that are kept of {self.folder}"
            )
        return TrainingBatches(self, rows, "images", lambda chosen, number: _weighted_batch(chosen))

    def predict_dataloader(self) -> EvaluationBatches[GeneratedImage]:
        """This rank's images to score."""
        return EvaluationBatches(self.dealt(self.images()), self.batch_size, _image_batch)
