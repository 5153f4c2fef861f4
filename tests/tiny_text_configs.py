"""Text configs at the size of a second: tiny models and local data for those of the hub, all else as in the file."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import yaml
from config_kit import label, load, rewards_of
from tiny_models import TEXT, save_tiny_classifier, save_tiny_encoder, save_tiny_llama
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from rslit.cli import main
from rslit.recipes import load_recipe
from rslit.recipes.recipe import config_files

__all__ = ["SIZES", "Runs", "TinyHub", "leaves"]

Rows = list[dict[str, Any]]

#: What the overlay may change, besides names and paths, by the last part of the key.
SIZES = {
    "epochs": 1,
    "minibatches": 1,
    "batch_size": 4,
    "rollouts_per_epoch": 1,
    "eval_prompts": 3,
    "eval_batch_size": 3,
}

_TRAINER = {"accelerator": "cpu", "devices": 1, "strategy": "auto", "max_epochs": 1, "check_val_every_n_epoch": 1}


class TinyHub:
    """Makes what configs name: a tiny model of the same family, a data set in the same format.

    Args:
        root: Folder for all of it.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def model(self, name: str) -> str:
        """Folder of a stand-in for a model of the hub or of models/; another one for every name."""
        folder, kind = self.root / name.replace("/", "--"), name.lower()
        if folder.exists():
            return str(folder)
        # Not Python's hash of a text, which is another one in every process.
        seed = zlib.crc32(name.encode())
        if "reward" in kind or "detector" in kind:
            family = next(f for f in ("gpt2", "bart", "deberta", "electra") if f in kind)
            classes = 2 if family == "bart" else 1
            save_tiny_classifier("deberta-v2" if family == "deberta" else family, folder, labels=classes, seed=seed)
        elif "minilm" in kind:
            save_tiny_encoder(folder, seed=seed)
        elif "llama" in kind or "smollm2" in kind:
            save_tiny_llama(folder, seed=seed, max_position_embeddings=512)
            _teach_words(folder)
        else:
            raise AssertionError(f"no stand-in for {name}")
        return str(folder)

    def adapter(self, name: str, base: str) -> str:
        """Folder of an adapter as tloen/alpaca-lora-7b is kept: PEFT's first config format, weights in a .bin."""
        folder = self.root / name.replace("/", "--")
        if folder.exists():
            return str(folder)
        folder.mkdir()
        layers = ["q_proj", "k_proj", "v_proj", "o_proj"]
        entries = {
            **{"base_model_name_or_path": "decapoda-research/llama-7b-hf", "bias": "none", "enable_lora": None},
            **{"fan_in_fan_out": False, "inference_mode": True, "lora_alpha": 16, "lora_dropout": 0.05, "r": 16},
            **{"merge_weights": False, "modules_to_save": None, "peft_type": "LORA", "task_type": "CAUSAL_LM"},
            "target_modules": layers,
        }
        (folder / "adapter_config.json").write_text(json.dumps(entries))
        config = AutoConfig.from_pretrained(base)
        wide, narrow = config.hidden_size, config.hidden_size * config.num_key_value_heads // config.num_attention_heads
        noise, state = torch.Generator().manual_seed(1), {}
        for path in (f"model.layers.{k}.self_attn.{x}" for k in range(config.num_hidden_layers) for x in layers):
            out = narrow if path.endswith(("k_proj", "v_proj")) else wide
            key = f"base_model.model.{path}.lora"
            state[f"{key}_A.weight"] = 0.2 * torch.randn(16, wide, generator=noise)
            state[f"{key}_B.weight"] = 0.2 * torch.randn(out, 16, generator=noise)
        torch.save(state, folder / "adapter_model.bin")
        return str(folder)

    def source(self, entry: Mapping[str, Any]) -> dict[str, str]:
        """Paths of a data source: a folder in the layout of the task's hub data set, or the files that it names."""
        given = entry.get("init_args", {})
        if "path" in given:
            return {k: str(_write(self.root / v, _corpus(v))) for k, v in given.items() if k.endswith("path")}
        task = entry["class_path"].rpartition(".")[2]
        folder = self.root / task
        if not folder.exists():
            for part, rows in _HUB[task]().items():
                _write(folder / part, rows)
        return {"path": str(folder)}

    def tiny(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """An overlay with the names, paths and sizes that a test can afford."""
        small: dict[str, Any] = {}
        given = config["model"]["init_args"]
        task = given.get("module", {}).get("init_args", given)
        inner: dict[str, Any] = {k: self._local(task[k]) for k in ("reward", "evaluation_rewards") if k in task}
        if "policy" in task:
            inner["policy"] = {"base": (base := self.model(task["policy"]["base"]))}
            if "adapter" in task["policy"]:
                inner["policy"]["adapter"] = self.adapter(task["policy"]["adapter"], base)
        if task is given:
            small["model"] = {"class_path": config["model"]["class_path"], "init_args": inner}
        else:
            module = {"class_path": given["module"]["class_path"], "init_args": inner}
            small["model"] = {"class_path": config["model"]["class_path"], "init_args": {"module": module}}
        if "data" in config:
            sizes: dict[str, Any] = {k: v for k, v in SIZES.items() if k not in ("epochs", "minibatches")}
            source = config["data"]["init_args"]["source"]
            sizes["source"] = {"class_path": source["class_path"], "init_args": self.source(source)}
            small["data"] = {"class_path": config["data"]["class_path"], "init_args": sizes}
            if task is given:
                inner |= {"epochs": SIZES["epochs"], "minibatches": SIZES["minibatches"]}
        return small

    def _local(self, tree: Any) -> Any:
        """The same rewards with the stand-ins of their models."""
        if isinstance(tree, list):
            return [self._local(entry) for entry in tree]
        if isinstance(tree, dict):
            return {k: self.model(v) if k == "model" else self._local(v) for k, v in tree.items()}
        return tree


class Runs:
    """What the command line makes of the files of a folder; every training is run once and shared by the tests.

    Args:
        root: Folder for models, data and runs.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.hub = TinyHub(root / "hub")
        self.hub.root.mkdir(parents=True)

    def expert(self, expert: Path, overlay: Path) -> Path:
        """The run of expert.yaml with a reward: one optimisation step and an evaluation."""
        return self._run("fit", [expert, overlay], label(overlay))

    def sweep(self, path: Path) -> Path:
        """The run of sweep.yaml over the experts of the files beside it: 3 λ, the initialisation, MORL."""
        folder = path.parent
        made = {r.stem: self.expert(folder / "expert.yaml", r) / "ingredients" for r in rewards_of(path)}
        first, *_, last = made
        even = {name: 1 / len(made) for name in made}
        # Experts that are not named have no part.
        lattice = 2 if len(made) == 2 else [{first: 1.0}, even, {last: 1.0}]
        more = ["--model.init_args.lattice", json.dumps(lattice)]
        more += [a for name, run in made.items() for a in (f"--model.init_args.ingredients.{name}", str(run / "last"))]
        more += ["--model.init_args.initialisation", str(made[first] / "initialisation")]
        morl = self.expert(folder / "expert.yaml", folder / "morl.yaml") / "ingredients"
        return self._run("validate", [path], label(path), *more, "--model.init_args.morl+", str(morl / "last"))

    def study(self, path: Path) -> Path:
        """The stages of a study of the experts and the sweep of the files beside it."""
        folder, run = path.parent, self.root / "runs" / label(path) / "run"
        if run.exists():
            return run.parent
        run.mkdir(parents=True)
        for reward in rewards_of(path):
            (run / reward.stem).symlink_to(self.expert(folder / "expert.yaml", reward))
        (run / "sweep").symlink_to(self.sweep(folder / "sweep.yaml"))
        recipe = load_recipe(path).with_vars([f"run={run}"])
        for name in recipe.stages:
            verb, *words = recipe.command(name, run.parent)
            if verb == "front":
                assert main([verb, *words, "--replicates", "20"]) == 0
                continue
            configs = [Path(word) for word in config_files(words)]
            more = [word for word in words if word != "--config" and Path(word) not in configs]
            if verb == "validate" and len(configs) == 1:
                more += ["--model.init_args.lattice", "2"]
            self._run(verb, configs, f"{label(path)}/{name}", *more)
        return run.parent

    def arguments(self, configs: list[Path], root: Path, **trainer: Any) -> list[str]:
        """The files with their overlays, as arguments of the command line; `trainer` adds to what the tests set."""
        root.mkdir(parents=True)
        args: list[str] = []
        for number, config in enumerate(configs):
            small = root / f"tiny{number}.yaml"
            small.write_text(yaml.safe_dump(self.hub.tiny(load(config)), sort_keys=False))
            args += ["--config", str(config), "--config", str(small)]
        for key, value in {**_TRAINER, **trainer}.items():
            args += [f"--trainer.{key}", str(value)]
        return [*args, "--trainer.enable_progress_bar", "false", "--trainer.default_root_dir", str(root)]

    def _run(self, verb: str, configs: list[Path], name: str, *more: str) -> Path:
        root = self.root / "runs" / name
        if not root.exists():
            assert main([verb, *self.arguments(configs, root), *more]) == 0
        return root


def leaves(tree: Any, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    """Every value of a config by its keys."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    found = {k: v for key, value in items for k, v in leaves(value, (*path, str(key))).items()}
    return found or {path: tree}


def _teach_words(folder: Path) -> None:
    """Makes every tenth token a word of feeling: in mere noise a sentiment reward would find nothing to tell apart."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    words = ("good", "great", "love", "happy", "fun", "best", "bad", "awful", "hate", "sad", "boring", "worst")
    tokenizer.add_tokens([f"{space}{word} " for word in words for space in ("", " ", "  ", "   ")])
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)


def _write(path: Path, rows: Rows) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pd.DataFrame(rows).to_parquet(path)
        return path
    lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(lines) if path.suffix == ".gz" else lines)
    return path


def _corpus(name: str) -> Rows:
    """The packaged corpora: articles and film reviews."""
    return [
        {"id": f"{name}-{k}", "text": f"{_text(k)} {_text(k + 1)} {_text(k + 2)}", "label": k % 2} for k in range(8)
    ]


def _text(k: int) -> str:
    return TEXT[k % len(TEXT)]


def _news() -> dict[str, Rows]:
    def row(k: int) -> dict[str, Any]:
        guesses = [{"text": _text(k + 2), "score": 0.2}, {"text": _text(k), "score": 0.8}]
        return {"id": f"{k:03}", "text": f"LONDON (Reuters) - {_text(k)} {_text(k + 1)}", "prediction": guesses}

    # Trained on the split that is called test, as in the paper.
    return {
        "data/test-00000-of-00001.parquet": [row(k) for k in range(8)],
        "data/train.parquet": [row(9), row(10), row(11)],
    }


def _reddit() -> dict[str, Rows]:
    def row(k: int) -> dict[str, Any]:
        info = {"id": f"t3_{k}", "post": f"{_text(k)} {_text(k + 1)}", "title": "Help", "subreddit": "advice"}
        return {"info": info, "summaries": [{"text": " No."}, {"text": f" {_text(k)}"}], "choice": 1, "worker": "w"}

    # The hub keeps a script; this is the layout of its branch with the data, refs/convert/parquet.
    return {
        "comparisons/train/0000.parquet": [row(k) for k in range(8)],
        "comparisons/validation/0000.parquet": [row(k) for k in range(8, 11)],
        # Another configuration of the same data set, which is not to be read.
        "axis/validation/0000.parquet": [{"info": {"id": "x"}}],
    }


def _stack() -> dict[str, Rows]:
    def row(k: int) -> dict[str, Any]:
        return {"qid": k, "question": _text(k), "response_j": _text(k + 1), "response_k": f"Try this: {_text(k + 2)}"}

    rows = [row(k) for k in range(11)]
    return {"data/rl/train-00000-of-00001.parquet": rows[:8], "data/evaluation/test-00000-of-00001.parquet": rows[8:]}


def _reviews() -> dict[str, Rows]:
    rows = [{"text": " ".join(_text(k + j) for j in range(4)), "label": k % 2} for k in range(11)]
    return {"plain_text/train-0.parquet": rows[:8], "plain_text/test-0.parquet": rows[8:]}


def _dialogues() -> dict[str, Rows]:
    def row(k: int) -> dict[str, Any]:
        chosen = f"\n\nHuman: {_text(k)}\n\nAssistant: {_text(k + 1)}\n\nHuman: Why?\n\nAssistant: It is so."
        return {"chosen": chosen, "rejected": chosen}

    rows = [row(k) for k in range(11)]
    return {"helpful-base/train.jsonl.gz": rows[:8], "helpful-base/test.jsonl.gz": rows[8:]}


_HUB = {
    "NewsSummary": _news,
    "RedditSummary": _reddit,
    "StackExchange": _stack,
    "MovieReview": _reviews,
    "HelpfulAssistant": _dialogues,
}
