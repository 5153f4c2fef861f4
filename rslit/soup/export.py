"""Exporting a soup: a folder that others can load, with a model card that says what is in it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from torch import Tensor

import rslit
from rslit.errors import RslitError
from rslit.soup.base_load import library_of
from rslit.soup.card import RECIPE, Export, card
from rslit.soup.checks import base_of
from rslit.soup.fisher import fisher_mean, load_fisher
from rslit.soup.info import INFO, IngredientInfo
from rslit.soup.ingredient import WEIGHTS, dtype_name, fingerprint
from rslit.soup.lam import Lam
from rslit.soup.merged import write_merged
from rslit.soup.peft_folder import adapter_files, plain_config, stacked_adapter
from rslit.soup.rounding import PourReport, Rounding, warn_if_rounded
from rslit.soup.soup import Soup
from rslit.soup.storage import new_folder, raw_bytes, safetensors_header, tensor_bytes

__all__ = ["export_soup"]

CARD = "README.md"


def export_soup(
    paths: Sequence[str | Path] | Mapping[str, str | Path],
    lam: Lam,
    out: str | Path,
    *,
    scores: Mapping[str, Mapping[str, float]] | None = None,
    extrapolate: bool = False,
    space: str | None = None,
    merged: bool = False,
    fisher: bool = False,
) -> Path:
    """Write a soup as a folder with a model card, in one piece or not at all.

    What the folder holds beside `README.md`:

    - An ingredient: `weights.safetensors` and `ingredient.json` (its `config` has the recipe under `soup`). The weights
      are streamed, so the model may be larger than memory. A soup of LoRA ingredients in space factors is a PEFT
      adapter as well, of the experts' rank.
    - In space delta a PEFT adapter whose rank is the sum of the experts' ranks, with the recipe in `soup.json`.
    - Merged: a model folder for `transformers` or a pipeline's for `diffusers`, with the recipe in `soup.json`.

    Args:
        paths: Ingredients, or ingredients by expert name.
        lam: λ by expert name.
        out: The folder; an ingredient or a soup already there is replaced, anything else is not.
        scores: Evaluation rewards for the card by model: `soup` and the experts' names. Experts not given show what
            their ingredient says.
        extrapolate: Allow λ outside [0, 1].
        space: Where to interpolate; None is "weights", or "factors" if the ingredients are LoRA.
        merged: Merge the soup into its base model.
        fisher: Weigh every entry by the experts' Fisher diagonals, which the ingredients hold; see `rslit.soup.fisher`.

    Returns:
        The folder's path.

    Warns:
        UserWarning: The weights are stored in a half precision in which they are not the soup asked for.

    Raises:
        RslitError: The ingredients do not belong together, λ does not fit, scores are of an unknown model, the base is
            not there, the folder cannot be written, or with `fisher` a diagonal is missing or the soup is merged or in
            space delta.
    """
    out = Path(out)
    soup = Soup.load(paths, extrapolate=extrapolate, space=space)
    exact = soup.coefficients(lam)
    inputs = [ingredient.path for ingredient in soup.ingredients.values()]
    if out.exists() and any(path.samefile(out) for path in inputs):
        raise RslitError(f"{out}: is an ingredient of the soup; choose another folder")
    strangers = sorted(set(scores or {}) - {"soup", *soup.names})
    if strangers:
        raise RslitError(f"scores of '{strangers[0]}', which is not in the soup; it has: soup, {', '.join(soup.names)}")
    table = {name: ingredient.info.scores for name, ingredient in soup.ingredients.items()} | dict(scores or {})
    base = base_of(next(iter(soup.ingredients.values())).info)
    if merged and base is None:
        raise RslitError(f"{inputs[0]}: names no base model (config.base) to merge into; export without --merged")
    origin = base["name"] if base else None
    name = out.name or "soup"
    averaged = _fisher_weights(soup, exact, merged) if fisher else None
    with new_folder(out, INFO, RECIPE) as folder:
        if merged and base is not None:
            report = write_merged(soup, exact, base, folder)
            export = Export(name, library_of(base), origin, soup, report, table)
        elif soup.adapters:
            report = _write_adapter(soup, exact, origin or "", folder, averaged)
            export = Export(name, "peft", origin, soup, report, table, fisher)
        else:
            report = _write_weights(soup, exact, folder, averaged)
            export = Export(name, "rslit", origin, soup, report, table, fisher)
        if export.ingredient:
            raw_bytes(folder / INFO, (_info(export).to_json(str(out / INFO)).encode(),))
        else:
            raw_bytes(folder / RECIPE, (_recipe_file(export).encode(),))
        raw_bytes(folder / CARD, (card(export).encode(),))
    if merged:
        warn_if_rounded(report)
    return out


def _fisher_weights(soup: Soup, exact: dict[str, Fraction], merged: bool) -> dict[str, Tensor]:
    if merged or soup.space == "delta":
        raise RslitError(
            "--fisher averages the experts' own weights; leave out --merged and --space delta (the folder it writes is "
            "an ingredient, which rslit soup --merged takes)"
        )
    fishers = {name: load_fisher(ingredient) for name, ingredient in soup.ingredients.items()}
    return fisher_mean(soup.states, soup.trainable_keys, exact, fishers)


def _write_weights(
    soup: Soup, exact: dict[str, Fraction], folder: Path, averaged: Mapping[str, Tensor] | None
) -> PourReport:
    rounding = Rounding(exact)
    if averaged is None:
        soup.stream(exact, folder / WEIGHTS, rounding=rounding)
        return rounding.report()
    state = _stored(soup, averaged)
    for key, wanted in averaged.items():
        rounding.add(state[key], [expert[key] for expert in soup.states.values()], wanted)
    header, keys = safetensors_header({key: (tensor.dtype, tuple(tensor.shape)) for key, tensor in state.items()})
    raw_bytes(folder / WEIGHTS, (header, *(tensor_bytes(state[key]) for key in keys)))
    return rounding.report()


def _stored(soup: Soup, averaged: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Averaged weights in the experts' dtypes, with what all experts have in common."""
    first = next(iter(soup.states.values()))
    return {key: averaged.get(key, tensor).to(tensor.dtype) for key, tensor in first.items()}


def _write_adapter(
    soup: Soup, exact: dict[str, Fraction], base: str, folder: Path, averaged: Mapping[str, Tensor] | None
) -> PourReport:
    if soup.space == "delta":
        state, config = stacked_adapter(soup, exact, base)
        dtype = dtype_name(state, state)
        report = PourReport(exact, {name: float(value) for name, value in exact.items()}, 0.0, dtype)
    else:
        report = _write_weights(soup, exact, folder, averaged)
        state = soup.state_dict(exact) if averaged is None else _stored(soup, averaged)
        config = _factors_config(soup, base)
    for name, content in adapter_files(state, config).items():
        raw_bytes(folder / name, (content,))
    return report


def _factors_config(soup: Soup, base: str) -> dict[str, Any]:
    """The first expert's: in space factors they agree on all that counts."""
    return plain_config(next(iter(soup.adapters.values())), base)


def _recipe(export: Export) -> dict[str, Any]:
    soup, report = export.soup, export.report
    return {
        "space": soup.space,
        "lam": {expert: str(value) for expert, value in report.lam.items()},
        "effective_lam": report.effective,
        "rounding_error": report.error,
        **({"fisher": True} if export.fisher else {}),
        "dtype": report.dtype,
        "experts": [
            {
                "name": expert,
                "path": str(ingredient.path),
                "reward": ingredient.info.reward,
                "step": ingredient.info.step,
                "initialisation": ingredient.info.initialisation,
                "weights": fingerprint(soup.states[expert]),
            }
            for expert, ingredient in soup.ingredients.items()
        ],
    }


def _info(export: Export) -> IngredientInfo:
    soup = export.soup
    infos = [ingredient.info for ingredient in soup.ingredients.values()]
    config: dict[str, Any] = {"soup": _recipe(export)}
    if "base" in infos[0].config:
        config["base"] = infos[0].config["base"]
    if soup.adapters:
        config["adapter"] = _factors_config(soup, export.base or "")
    return IngredientInfo(
        expert=export.name,
        task=infos[0].task,
        reward=" + ".join(dict.fromkeys(info.reward for info in infos)),
        step=max(info.step for info in infos),
        initialisation=infos[0].initialisation,
        trainable_keys=list(infos[0].trainable_keys),
        dtype=infos[0].dtype,
        scores=dict(export.scores.get("soup", {})),
        config=config,
    )


def _recipe_file(export: Export) -> str:
    """`soup.json`: what `ingredient.json` would say, of a folder that is no ingredient."""
    infos = [ingredient.info for ingredient in export.soup.ingredients.values()]
    scores = {key: None if math.isnan(value) else value for key, value in export.scores.get("soup", {}).items()}
    data = {
        "task": infos[0].task,
        "library": export.library,
        "base": infos[0].config["base"],
        "scores": scores,
        "version": rslit.__version__,
        "soup": _recipe(export),
    }
    return json.dumps(data, indent=2, ensure_ascii=False) + "\n"
