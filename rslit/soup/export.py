"""Exporting a soup: a folder that others can load, with a model card that says what is in it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from rslit.errors import RslitError
from rslit.soup.info import INFO, IngredientInfo
from rslit.soup.ingredient import WEIGHTS, fingerprint
from rslit.soup.lam import Lam, format_lam
from rslit.soup.rounding import PourReport, Rounding
from rslit.soup.soup import Soup
from rslit.soup.storage import new_folder, raw_bytes

__all__ = ["export_soup"]

CARD = "README.md"


def export_soup(
    paths: Sequence[str | Path] | Mapping[str, str | Path],
    lam: Lam,
    out: str | Path,
    *,
    scores: Mapping[str, Mapping[str, float]] | None = None,
    extrapolate: bool = False,
) -> Path:
    """Write a soup as an ingredient folder with a model card, in one piece or not at all.

    The weights are streamed, so the model may be larger than memory. The folder holds `weights.safetensors`,
    `ingredient.json` (its `config` has the recipe under `soup`) and `README.md`, and can be loaded as an ingredient.

    Args:
        paths: Ingredients, or ingredients by expert name.
        lam: λ by expert name.
        out: The folder; an ingredient already there is replaced, anything else is not.
        scores: Evaluation rewards for the card by model: `soup` and the experts' names. Experts not given show what
            their ingredient says.
        extrapolate: Allow λ outside [0, 1].

    Returns:
        The folder's path.

    Warns:
        UserWarning: The weights are stored in a half precision in which they are not the soup asked for.

    Raises:
        RslitError: The ingredients do not belong together, λ does not fit, scores are of an unknown model, or the
            folder cannot be written.
    """
    out = Path(out)
    soup = Soup.load(paths, extrapolate=extrapolate)
    exact = soup.coefficients(lam)
    inputs = [ingredient.path for ingredient in soup.ingredients.values()]
    if out.exists() and any(path.samefile(out) for path in inputs):
        raise RslitError(f"{out}: is an ingredient of the soup; choose another folder")
    strangers = sorted(set(scores or {}) - {"soup", *soup.names})
    if strangers:
        raise RslitError(f"scores of '{strangers[0]}', which is not in the soup; it has: soup, {', '.join(soup.names)}")
    table = {name: ingredient.info.scores for name, ingredient in soup.ingredients.items()} | dict(scores or {})
    rounding = Rounding(exact)
    with new_folder(out, marker=INFO) as folder:
        soup.stream(exact, folder / WEIGHTS, rounding=rounding)
        report = rounding.report()
        info = _info(out.name or "soup", soup, report, table)
        raw_bytes(folder / INFO, (info.to_json(str(out / INFO)).encode(),))
        raw_bytes(folder / CARD, (_card(info, soup, report, table).encode(),))
    return out


def _info(name: str, soup: Soup, report: PourReport, table: Mapping[str, Mapping[str, float]]) -> IngredientInfo:
    infos = {expert: ingredient.info for expert, ingredient in soup.ingredients.items()}
    first = next(iter(infos.values()))
    recipe: dict[str, Any] = {
        "space": soup.space,
        "lam": {expert: str(value) for expert, value in report.lam.items()},
        "effective_lam": report.effective,
        "rounding_error": report.error,
        "dtype": report.dtype,
        "experts": [
            {
                "name": expert,
                "path": str(soup.ingredients[expert].path),
                "reward": info.reward,
                "step": info.step,
                "weights": fingerprint(soup.states[expert]),
            }
            for expert, info in infos.items()
        ],
    }
    return IngredientInfo(
        expert=name,
        task=first.task,
        reward=" + ".join(dict.fromkeys(info.reward for info in infos.values())),
        step=max(info.step for info in infos.values()),
        initialisation=first.initialisation,
        trainable_keys=list(first.trainable_keys),
        dtype=first.dtype,
        scores=dict(table.get("soup", {})),
        config={"soup": recipe},
    )


def _card(info: IngredientInfo, soup: Soup, report: PourReport, table: Mapping[str, Mapping[str, float]]) -> str:
    experts = "\n".join(
        f"| {_cell(name)} | {_cell(ingredient.info.reward)} | {ingredient.info.step} "
        f"| {report.lam[name]} | {_number(report.effective[name])} |"
        for name, ingredient in soup.ingredients.items()
    )
    lam = format_lam(report.lam)
    return f"""---
library_name: rslit
tags: [rewarded-soups, model-merging]
---

# {info.expert}

A rewarded soup ([Ramé et al., 2023](https://arxiv.org/abs/2306.04488)): the weights of {len(soup.names)} experts,
fine-tuned from one initialisation on one reward each, interpolated with the coefficients λ.

| expert | reward | step | λ | effective λ |
|---|---|---|---|---|
{experts}

- Task: `{info.task}`
- Space: {soup.space}
- Weights stored in {report.dtype}; rounding error {report.error:.2g} of the distance between the experts
- Initialisation: `{info.initialisation}`
- Made with rslit {info.version}

## Scores

{_scores(table)}

## How to load

```python
from rslit.soup import Ingredient

state = Ingredient.load("{info.expert}").state_dict()
```

or, without rslit, `safetensors.torch.load_file("{info.expert}/{WEIGHTS}")`. The experts' paths and fingerprints are in
`{INFO}`. From the experts the folder is made again by

```
rslit soup --ingredients {" ".join(soup.names)} --lam {lam} --out {info.expert}
```
"""


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
