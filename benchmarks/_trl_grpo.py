"""The peer of text_training.py: TRL's GRPO trainer. Runs in a virtual environment without rslit."""

from __future__ import annotations

import json
import tempfile
import time
from typing import Any

import torch
import trl
from _turns import report
from datasets import Dataset
from peft import LoraConfig
from text_training import BASE, LORA, RATE, WARM_UP, options
from transformers import TrainerCallback
from trl import GRPOConfig, GRPOTrainer
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

lengths: list[int] = []
analyzer = SentimentIntensityAnalyzer()


def positive(completions: list[str], completion_ids: list[list[int]], **columns: Any) -> list[float]:
    """VADER's compound score of each answer, behind the words that its prompt ended with, as ours is."""
    lengths[:] = map(len, completion_ids)
    texts = [prefix + text for prefix, text in zip(columns["prefix"], completions, strict=True)]
    return [analyzer.polarity_scores(text.strip())["compound"] for text in texts]


class Turns(TrainerCallback):  # type: ignore[misc]
    """Times from the end of one generation's last update to the end of the next one's."""

    def __init__(self, updates: int, answers: int) -> None:
        self.updates, self.answers, self.began = updates, answers, 0.0

    def on_step_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """After an optimiser step."""
        if state.global_step % self.updates:
            return
        seconds, done = time.perf_counter() - self.began, state.global_step // self.updates
        if done == WARM_UP:
            report(what=f"trl {trl.__version__}, torch {torch.__version__}")
        elif done > WARM_UP:
            report(seconds=seconds, answers=self.answers, tokens=sum(lengths) / len(lengths))
        self.began = time.perf_counter()


def main() -> None:
    """Train for as many generations as there are rounds."""
    given = options(__doc__).parse_args()
    batch = json.loads((given.folder / f"{given.task}-{given.prompts}.json").read_text())
    answers = given.prompts * given.group
    rows = Dataset.from_dict({"prompt": batch["text"], "prefix": batch["prefix"]})
    # The default trades time for memory, which ours does not do by itself.
    checkpointing = given.contender == "trl-default"
    with tempfile.TemporaryDirectory() as folder:
        config = GRPOConfig(
            output_dir=folder,
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=checkpointing,
            model_init_kwargs={"dtype": "float32"},
            max_steps=(given.rounds + WARM_UP) * given.epochs,
            per_device_train_batch_size=answers,
            num_generations=given.group,
            num_iterations=given.epochs,
            max_completion_length=given.tokens,
            generation_kwargs={"min_new_tokens": given.tokens},
            temperature=1.0,
            top_k=0,
            top_p=1.0,
            beta=given.beta,
            learning_rate=RATE,
            lr_scheduler_type="constant",
            optim="adamw_torch",
            max_grad_norm=1.0,
            dataloader_pin_memory=False,
            shuffle_dataset=False,
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        trainer = GRPOTrainer(
            model=str(BASE),
            reward_funcs=positive,
            args=config,
            train_dataset=rows,
            peft_config=LoraConfig(task_type="CAUSAL_LM", **LORA),
            callbacks=[Turns(given.epochs, answers)],
        )
        trainer.train()


if __name__ == "__main__":
    main()
