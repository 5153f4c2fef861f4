"""What the diffusion benchmark works on. Run by it, in a process of its own.

    python benchmarks/_diffusion_setup.py FOLDER --model quarter --batches 4 --rounds 3 --lams 11

Writes into FOLDER a pipeline with random weights (`pipeline`), training images with their prompts (`batches.json`),
prompts of the sweep (`sweep.json`), two experts (`a`, `b`), the pipelines poured from them for each λ (`poured-0`, ...;
text encoder, VAE and the rest are links to the pipeline's), and what a step costs in arithmetic (`costs.json`). With
the name of no model it counts Stable Diffusion 1.5.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import _diffusion_shapes
import numpy as np
import torch
from _diffusion_shapes import FULL, SHAPES, Shape, costs, make_clip, make_parts, prompts, shape_of
from PIL import Image

from rslit.diffusion.options import DiffusionOptions
from rslit.modules import TextToImageModule
from rslit.rewards import ContrastReward
from rslit.scenes import pipeline
from rslit.soup import IngredientInfo, Soup, dtype_name, fingerprint, write_ingredient

NOISE = 0.3  # of the experts' weights, in units of the standard deviation of each tensor
MADE_BY = (__file__, _diffusion_shapes.__file__, pipeline.__file__)  # another text of them, other models
LARGER = 1.25  # images on disk, against those that are trained on


def save_pipeline(shape: Shape, folder: Path) -> None:
    """Writes a pipeline with random weights."""
    import diffusers

    if not shape.vae:
        pipeline.fresh_pipeline(prompts(), shape.pixels).save_pretrained(folder)
        return
    torch.manual_seed(0)
    text, tokenizer = make_clip(shape)
    vae, unet = make_parts(shape)
    scheduler = diffusers.DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )
    pipe: Any = diffusers.StableDiffusionPipeline  # untyped
    pipe(
        vae=vae,
        text_encoder=text,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)


def save_images(shape: Shape, batches: int, folder: Path) -> None:
    """Writes PNG files: smooth colours with some noise on them, as photographs have. They are cut and made smaller."""
    rng, side = np.random.default_rng(0), round(LARGER * shape.pixels)
    (folder / "images").mkdir()
    words, found = prompts(), []
    for start in range(0, batches * shape.batch, shape.batch):
        ids = range(start, start + shape.batch)
        paths = [folder / "images" / f"{k}.png" for k in ids]
        for path in paths:
            smooth = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).resize((side, side))
            noisy = np.asarray(smooth) + rng.normal(0, 4, (side, side, 3))
            Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(path)
        batch = {"items": [str(k) for k in ids], "prompt": [words[k] for k in ids], "image": list(map(str, paths))}
        found.append(batch | {"weight": [1.0] * len(ids)})
    (folder / "batches.json").write_text(json.dumps(found))


def save_sweep(shape: Shape, lams: int, folder: Path) -> None:
    """Writes two experts of the paper's choice of weights, the pipeline of each λ, and the prompts."""
    module = TextToImageModule(DiffusionOptions(str(folder / "pipeline")), ContrastReward())
    start = module.policy_state()
    for number, name in enumerate("ab", 1):
        draw = torch.Generator().manual_seed(number)
        state = dict(start)
        for key in module.trainable_keys:
            deviation = float(start[key].std(correction=0))
            state[key] = start[key] + NOISE * deviation * torch.randn(start[key].shape, generator=draw)
        info = IngredientInfo(
            expert=name,
            task=module.task_class,
            reward=name,
            step=1,
            initialisation=fingerprint(start),
            trainable_keys=module.trainable_keys,
            dtype=dtype_name(state, module.trainable_keys),
            config=module.ingredient_record(),
        )
        write_ingredient(folder / name, state, info, module.ingredient_files(state))
    soup, unet = Soup.load([folder / "a", folder / "b"]), module.parts.pipe.unet
    for k in range(lams):
        poured, lam = folder / f"poured-{k}", k / (lams - 1)
        poured.mkdir()
        for part in (folder / "pipeline").iterdir():
            if part.name != "unet":
                (poured / part.name).symlink_to(part.resolve())
        unet.load_state_dict(soup.state_dict({"a": 1 - lam, "b": lam}), strict=False)
        unet.save_pretrained(poured / "unet")
    ids = range(shape.prompts)
    batch = {"items": [str(k) for k in ids], "prompt": prompts()[-len(ids) :], "seed": [1000 + k for k in ids]}
    (folder / "sweep.json").write_text(json.dumps(batch))


def main() -> None:
    """Write what is not there yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", choices=list(SHAPES))
    parser.add_argument("--width", type=int)
    parser.add_argument("--pixels", type=int)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--batches", type=int, default=4)
    parser.add_argument("--lams", type=int, default=11)
    given = parser.parse_args()
    shape = shape_of(given.model, given.width, given.pixels, given.tiny) if given.model else FULL
    folder = given.folder.resolve()
    made_by = hashlib.sha256(b"".join(Path(place).read_bytes() for place in MADE_BY)).hexdigest()
    wanted = json.dumps({"shape": asdict(shape), "batches": given.batches, "lams": given.lams, "made by": made_by})
    done = folder / "complete.json"
    if done.exists() and done.read_text() == wanted:
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "costs.json").write_text(json.dumps(costs(shape)))
    if given.model:
        save_pipeline(shape, folder / "pipeline")
        save_images(shape, given.batches, folder)
        save_sweep(shape, given.lams, folder)
    done.write_text(wanted)


if __name__ == "__main__":
    main()
