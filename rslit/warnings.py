"""Third-party warnings that a run need not show, each by its exact text and with the reason."""

from __future__ import annotations

import logging
import os
import sys
import warnings

__all__ = ["KNOWN", "quiet"]

KNOWN: tuple[str, ...] = (
    # LightningCLI 2.6.6 calls what jsonargparse 4.49/4.50 deprecate; fixed on Lightning's main (#21900, #21906).
    r"\s*By default only one JsonargparseDeprecationWarning per type is shown",
    r"[\s\S]*``ArgumentParser.add_instantiator`` was deprecated in v4",
    r"[\s\S]*``instantiate_classes`` was deprecated in v4",
    r"[\s\S]*skip_none parameter was deprecated in v4",
    # Lightning 2.6.6 asks torch 2.13's pytree for a leaf in the old way.
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",
    # We hand LightningCLI the arguments after our own look at the verb.
    r"LightningCLI's args parameter is intended to run from within Python",
    # Brax 0.14.2 imports jaxopt, whose authors have moved on, and says of itself that MJX is better kept.
    r"JAXopt is no longer maintained",
    r"Brax System, piplines and environments are not actively being maintained",
    # FSDP2 warns that nobody should write into what a policy returns; nothing here does.
    r"FSDP2-wrapped module .* returned a view tensor",
    # The rollouts are computed in this process on purpose: a worker would act with a stale copy of the policy.
    r"The '(train|val|test|predict)_dataloader' does not have many workers",
    # One epoch of a small run has fewer steps than the logging interval; we log once per rollout.
    r"The number of training batches \(\d+\) is smaller than the logging interval",
    # `ckpt_path: last` on the first run of a folder: there is nothing to resume, which is what we mean.
    r"\.fit\(ckpt_path=\"last\"\) is set, but there is no last checkpoint available",
    # A resumed run finds its own checkpoint in its folder.
    r"Checkpoint directory .* exists and is not empty",
    # transformers 5.23 renames what PEFT 0.21 and we call by its old name, since 5.20 has no other.
    r"`(gradient_checkpointing_enable|is_gradient_checkpointing)` is deprecated",
    # Adapters of 2023, such as Alpaca's, have two entries that PEFT no longer needs.
    r"Unexpected keyword arguments \['enable_lora', 'merge_weights'\] for class LoraConfig",
    # Lightning asks for a CUDA GPU or points to ways to use one: what the run uses is in its config.
    r"GPU available but not used",
)


class _Tips(logging.Filter):
    """Drops Lightning's advertisements for other products, which every run prints (2.6.6 has no switch, #21632)."""

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        return not ("litlogger" in text or "litmodels" in text.lower() or "💡 Tip" in text)


def quiet() -> None:
    """Installs the filters; called once by the command line before Lightning runs."""
    if not sys.stderr.isatty():  # bars of what is loaded or read would fill a log
        for library in ("HF_HUB", "HF_DATASETS"):
            os.environ.setdefault(f"{library}_DISABLE_PROGRESS_BARS", "1")
    for pattern in KNOWN:
        warnings.filterwarnings("ignore", message=pattern)
    for name in ("lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.rank_zero", "lightning.pytorch"):
        logging.getLogger(name).addFilter(_Tips())
