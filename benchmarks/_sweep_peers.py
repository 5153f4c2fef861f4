"""The peers of text_sweep.py, without rslit: the loop of the paper's code, and mergekit with a reload.

Both get token ids, PEFT folders and model folders, and give the tokens of every answer.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from _turns import peak_mb
from transformers import AutoModelForCausalLM

Tokens = list[list[int]]


class Peer:
    """One way to do a sweep of two experts.

    Args:
        folder: Of _text_setup.py.
        base: Folder of the base model.
        prompts: Token ids of each prompt.
        tokens: Longest answer.
    """

    what = "λ after λ"

    def __init__(self, folder: Path, base: Path, prompts: Tokens, tokens: int) -> None:
        self.folder, self.base, self.prompts, self.tokens = folder, base, prompts, tokens
        self.peak = 0.0

    def sweep(self, lams: Sequence[float]) -> list[Tokens]:
        """Answers to every prompt for every λ, the weight of expert b."""
        with torch.no_grad():
            return [self.answers(lam) for lam in lams]

    def answers(self, lam: float) -> Tokens:
        """Answers of the soup at λ to every prompt."""
        raise NotImplementedError

    def generate(self, model: Any, prompts: Tokens) -> Tokens:
        """Greedy answers to a batch, without what comes after an end token."""
        width, end = max(map(len, prompts)), model.generation_config.eos_token_id
        pad = model.generation_config.pad_token_id
        ids = torch.tensor([[pad] * (width - len(prompt)) + prompt for prompt in prompts])
        mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        out = model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=self.tokens, do_sample=False)
        return [row[: row.index(end) + 1] if end in row else row for row in out[:, width:].tolist()]


class PaperLoop(Peer):
    """For every λ: adapters from disk, A and B averaged entry by entry, prompts one by one.

    Kinder than the paper's code in two ways: the base stays in memory (there every adapter comes with a base of its
    own), and the average reaches the model (there, with PEFT since 0.3.0, no key fits and expert a answers always).
    """

    what = "PEFT, one prompt at a time"

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.model: Any = AutoModelForCausalLM.from_pretrained(self.base, dtype=torch.float32)

    def answers(self, lam: float) -> Tokens:
        """See the class."""
        from peft import PeftModel, get_peft_model_state_dict, set_peft_model_state_dict

        average: dict[str, torch.Tensor] = {}
        for name, weight in (("a", 1 - lam), ("b", lam)):
            if weight == 0:
                continue
            expert = PeftModel.from_pretrained(self.model, str(self.folder / name))
            for key, tensor in get_peft_model_state_dict(expert).items():
                average[key] = average.get(key, 0.0) + weight * tensor
            expert.unload()
        soup = PeftModel.from_pretrained(self.model, str(self.folder / "a")).eval()
        set_peft_model_state_dict(soup, average)
        found = [self.generate(soup, [prompt])[0] for prompt in self.prompts]
        soup.unload()
        return found


class MergekitCommand(Peer):
    """For every λ: a YAML file, mergekit-yaml on merged experts, the result loaded by transformers, one batch."""

    what = "mergekit-yaml, reload, one batch per λ"

    def answers(self, lam: float) -> Tokens:
        """See the class."""
        out = self.folder / f"soup-of-{type(self).__name__}"
        shutil.rmtree(out, ignore_errors=True)
        self.merge(lam, out)
        model = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32).eval()
        return self.generate(model, self.prompts)

    def recipe(self, lam: float) -> str:
        """The YAML file's text. Paths are absolute: for others mergekit's card writer asks the hub."""
        weights = (("a", 1 - lam), ("b", lam))
        models = "".join(
            f"  - model: {self.folder.resolve() / f'merged-{name}'}\n    parameters: {{weight: {weight}}}\n"
            for name, weight in weights
        )
        return f"models:\n{models}merge_method: linear\nparameters: {{normalize: false}}\ndtype: float32\n"

    def merge(self, lam: float, out: Path) -> None:
        """Merge by the command, as a shell script would."""
        recipe = out.with_suffix(".yml")
        recipe.write_text(self.recipe(lam))
        command = [str(Path(sys.executable).parent / "mergekit-yaml"), str(recipe), str(out), "--no-copy-tokenizer"]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            while process.poll() is None:
                self.peak = max(self.peak, _peak(process.pid))
                time.sleep(0.02)
        if process.returncode:
            raise RuntimeError(f"failed: {' '.join(command)}")


class MergekitInProcess(MergekitCommand):
    """The same without starting a Python for every λ."""

    what = "mergekit's run_merge, reload, one batch per λ"

    def merge(self, lam: float, out: Path) -> None:
        """Merge by mergekit's own function."""
        import yaml
        from mergekit.config import MergeConfiguration
        from mergekit.merge import run_merge
        from mergekit.options import MergeOptions

        config = MergeConfiguration.model_validate(yaml.safe_load(self.recipe(lam)))
        run_merge(config, str(out), MergeOptions(copy_tokenizer=False, quiet=True))


def _peak(pid: int) -> float:
    try:
        return peak_mb(pid)
    except (OSError, IndexError):  # it has just ended
        return 0.0


PEERS = {"paper": PaperLoop, "mergekit": MergekitCommand, "mergekit-api": MergekitInProcess}
