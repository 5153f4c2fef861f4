"""The model card of an exported soup: what is in it, how it scores, and how others load it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import rslit
from rslit.soup.checks import base_of
from rslit.soup.info import INFO, IngredientInfo
from rslit.soup.ingredient import WEIGHTS
from rslit.soup.lam import format_lam
from rslit.soup.rounding import PourReport
from rslit.soup.soup import Soup

__all__ = ["RECIPE", "Export", "card"]

#: The recipe of a soup that is no ingredient.
RECIPE = "soup.json"

_PIPELINES = {
    "CaptioningModule": "image-to-text",
    "VqaModule": "visual-question-answering",
    "GroundingModule": "image-text-to-text",
    "TextToImageModule": "text-to-image",
}

_SPACES = {
    "weights": "weights",
    "factors": "factors (the LoRA matrices A and B interpolated entry by entry)",
    "delta": "delta (the products of the LoRA matrices interpolated)",
}


@dataclass(frozen=True)
class Export:
    """What was written.

    Attributes:
        name: The folder's name.
        library: Who loads it: "rslit" an ingredient, "peft" an adapter, "transformers" or "diffusers" a merged
            model.
        base: Hub name or folder of the base model, if there is one.
        soup: The soup.
        report: λ, and what storing did to it.
        scores: Evaluation rewards by model: `soup` and the experts.
        fisher: Whether the experts' Fisher diagonals weighed every entry.
    """

    name: str
    library: Literal["rslit", "peft", "transformers", "diffusers"]
    base: str | None
    soup: Soup
    report: PourReport
    scores: Mapping[str, Mapping[str, float]]
    fisher: bool = False

    @property
    def ingredient(self) -> bool:
        """Whether the folder is an ingredient too."""
        return not self.merged and self.soup.space != "delta"

    @property
    def merged(self) -> bool:
        """Whether the folder is a whole model."""
        return self.library in ("transformers", "diffusers")


def card(export: Export) -> str:
    """The text of README.md."""
    soup, report, name = export.soup, export.report, export.name
    experts = "\n".join(
        f"| {_cell(expert)} | {_cell(ingredient.info.reward)} | {ingredient.info.step} "
        f"| {report.lam[expert]} | {_number(report.effective[expert])} |"
        for expert, ingredient in soup.ingredients.items()
    )
    infos = [ingredient.info for ingredient in soup.ingredients.values()]
    starts = list(dict.fromkeys(f"`{info.initialisation}`" for info in infos))
    common = "initialisation" if len(starts) == 1 else "base model"
    made = (
        f"the weights of {len(soup.names)} experts,\n"
        f"fine-tuned from one {common} on one reward each, interpolated with the coefficients λ."
        if len(soup.names) > 1
        else "here of one expert alone,\nso that nothing is interpolated."
    )
    flags = f" --space {soup.space}" if soup.space == "delta" else ""
    flags += " --merged" if export.merged else ""
    flags += " --fisher" if export.fisher else ""
    weighed = (
        "- Every entry weighed by λ times the experts' Fisher diagonals "
        "([Matena & Raffel, 2022](https://arxiv.org/abs/2111.09832))\n"
        if export.fisher
        else ""
    )
    base = f"- Base model: `{export.base}`\n" if export.base else ""
    return f"""---
{_head(export)}
---

# {name}

A rewarded soup ([Ramé et al., 2023](https://arxiv.org/abs/2306.04488)): {made}

| expert | reward | step | λ | effective λ |
|---|---|---|---|---|
{experts}

- Task: `{infos[0].task}`
{base}- Space: {_SPACES[soup.space]}
{weighed}- Weights stored in {report.dtype}; rounding error {report.error:.2g} of the distance between the experts
- Initialisation: {", ".join(starts)}
- Made with rslit {rslit.__version__}

## Scores

{_scores(export.scores)}

## How to load

{_loading(export)}
The experts' paths and fingerprints are in `{INFO if export.ingredient else RECIPE}`. From the experts the folder is
made again by

```
rslit soup --ingredients {" ".join(soup.names)} --lam {format_lam(report.lam)} --out {name}{flags}
```
"""


def _head(export: Export) -> str:
    tags = "lora, " if export.library == "peft" else ""
    lines = [f"library_name: {export.library}", f"tags: [{tags}rewarded-soups, model-merging]"]
    if export.base and export.library != "rslit":
        tag = _PIPELINES.get(_info(export).task.rpartition(".")[2], "text-generation")
        lines += [f"base_model: {json.dumps(export.base, ensure_ascii=False)}", f"pipeline_tag: {tag}"]
    return "\n".join(lines)


def _info(export: Export) -> IngredientInfo:
    return next(iter(export.soup.ingredients.values())).info


def _loading(export: Export) -> str:
    name = export.name
    base = base_of(_info(export)) or {}
    kind = base.get("class", "AutoModelForCausalLM")
    own = f"""```python
from rslit.soup import Ingredient

state = Ingredient.load("{name}").state_dict()
```
"""
    match export.library:
        case "rslit":
            return f'{own}\nor, without rslit, `safetensors.torch.load_file("{name}/{WEIGHTS}")`.\n'
        case "peft":
            if "pipeline" in base:
                part, origin = base["component"], json.dumps(export.base, ensure_ascii=False)
                return f"""```python
from diffusers import DiffusionPipeline
from peft import PeftModel

pipe = DiffusionPipeline.from_pretrained({origin})
pipe.{part} = PeftModel.from_pretrained(pipe.{part}, "{name}").merge_and_unload()
```
"""
            again = f"\nIt is an ingredient of rslit, too:\n\n{own}" if export.ingredient else ""
            return f"""```python
from peft import PeftModel
from transformers import {kind}

base = {kind}.from_pretrained({json.dumps(export.base, ensure_ascii=False)})
model = PeftModel.from_pretrained(base, "{name}")
```
{again}"""
        case "diffusers":
            return f"""```python
from diffusers import DiffusionPipeline

pipe = DiffusionPipeline.from_pretrained("{name}")
image = pipe("a prompt").images[0]
```
"""
        case "transformers":
            parts = {"model": kind, "tokenizer": "AutoTokenizer"}
            if "class" in base:
                parts["image_processor"] = "AutoImageProcessor"
            lines = "\n".join(f'{part} = {loader}.from_pretrained("{name}")' for part, loader in parts.items())
            return f"```python\nfrom transformers import {', '.join(sorted(parts.values()))}\n\n{lines}\n```\n"


def _scores(table: Mapping[str, Mapping[str, float]]) -> str:
    rewards = sorted({reward for row in table.values() for reward in row})
    if not rewards:
        return "Not evaluated."
    rows = [[name, *(_number(row.get(reward)) for reward in rewards)] for name, row in table.items() if row]
    lines = [["model", *rewards], ["---"] * (len(rewards) + 1), *rows]
    return "\n".join(f"| {' | '.join(_cell(cell) for cell in line)} |" for line in lines)


def _number(value: float | Fraction | None) -> str:
    return "" if value is None or value != value else f"{float(value):.4g}"


def _cell(text: str) -> str:
    """Text that cannot break a Markdown table."""
    return json.dumps(text, ensure_ascii=False)[1:-1].replace("|", "\\|")
