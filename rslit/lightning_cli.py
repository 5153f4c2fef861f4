"""The verbs that need a Trainer: LightningCLI in subclass mode, with rslit's defaults and one-line errors."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jsonargparse
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import TensorBoardLogger

import rslit
import rslit.callbacks
import rslit.datamodules
import rslit.modules
import rslit.rewards
from rslit.callbacks import AtomicCheckpointIO, ResumeCheckpoint, RewardedProgressBar, RNGCallback
from rslit.errors import RslitError
from rslit.warnings import quiet

__all__ = ["RslitCLI", "instantiate", "run"]

_VERBS = ("fit", "validate", "test", "predict")


class SaveRunConfig(SaveConfigCallback):
    """Writes ``config.yaml`` into the run's folder; a later verb in the same folder writes ``config.<verb>.yaml``."""

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Called by Lightning on rank zero."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Writes the file; Lightning's own would refuse to replace one, or replace another verb's."""
        if self.already_saved or not trainer.is_global_zero:
            return
        self.already_saved = True
        verb = str(getattr(stage, "value", stage))
        root = Path(trainer.default_root_dir)
        root.mkdir(parents=True, exist_ok=True)
        head = f"# rslit {verb} {rslit.__version__}\n"
        path = root / "config.yaml"
        if path.exists() and not path.read_text().startswith(f"# rslit {verb} "):
            path = root / f"config.{verb}.yaml"
        temporary = path.with_name(f".{path.name}")
        temporary.write_text(head + self.parser.dump(self.config, skip_unset=False))
        temporary.replace(path)


class RslitCLI(LightningCLI):
    """LightningCLI with a run folder, resuming, and no surprises."""

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        """Parser whose errors can be turned into one line."""
        parser = super().init_parser(**kwargs)
        parser.exit_on_error = False
        return parser

    def _parse_ckpt_path(self) -> None:
        """Leaves the configuration alone: Lightning's would let the checkpoint's overwrite the user's (#21455)."""

    def before_instantiate_classes(self) -> None:
        """Refuses what would fail later, less clearly."""
        strategy = self._get(self.config, "trainer.strategy")
        kind = strategy if isinstance(strategy, str) else str(getattr(strategy, "class_path", ""))
        if kind.startswith("fsdp") or kind.endswith(".FSDPStrategy"):
            raise RslitError(
                f"trainer.strategy: '{kind}' is FSDP1, which cannot clip gradients by norm nor sample between "
                "steps; use --config configs/strategy/fsdp2.yaml (ModelParallelStrategy)"
            )

        _check_checkpoint(self._get(self.config, "ckpt_path"))

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Adds what every run has: TensorBoard in the run's folder, exact resuming, a progress bar that fits."""
        config = self.config_init[self.config_init["subcommand"]]["trainer"]
        root = config.get("default_root_dir") or "runs/default"
        config["default_root_dir"] = root
        if config.get("logger") in (None, True):
            config["logger"] = TensorBoardLogger(root, name="", version="", default_hp_metric=False)
        own: list[Any] = [RNGCallback()]
        given = config.get("callbacks") or []
        given = given if isinstance(given, list) else [given]
        wants_checkpoints = config.get("enable_checkpointing") is not False
        if wants_checkpoints and not any(isinstance(c, ModelCheckpoint) for c in given):
            own.append(ResumeCheckpoint(dirpath=str(Path(root) / "checkpoints")))
        if config.get("enable_progress_bar") is not False:
            own.append(RewardedProgressBar())
        if not any(isinstance(p, AtomicCheckpointIO) for p in config.get("plugins") or []):
            plugins = config.get("plugins") or []
            config["plugins"] = [*(plugins if isinstance(plugins, list) else [plugins]), AtomicCheckpointIO()]
        config["callbacks"] = [*given, *own]
        return super().instantiate_trainer(**kwargs)

    def after_instantiate_classes(self) -> None:
        """Gives the module the parsed configuration, which its ingredients carry."""
        if self.subcommand == "fit" and isinstance(self.model, rslit.modules.InterpolationEvaluator):
            raise RslitError("model: InterpolationEvaluator trains nothing; use validate or test")
        self._dump_config()
        if hasattr(self.model, "config"):
            self.model.config = _finite(self.config_dump)


def _check_checkpoint(path: str | None) -> None:
    """Refuses a checkpoint that is not there or torn, before anything is built."""
    if not path or path in ("last", "best", "hpc") or Path(path).is_dir():
        return
    try:
        torch.load(path, weights_only=True, map_location="meta", mmap=True)
    except FileNotFoundError:
        raise RslitError(f"ckpt_path: there is no checkpoint {path}") from None
    except Exception as error:
        raise RslitError(f"ckpt_path: {path} is no readable checkpoint ({_one_line(error)})") from error


def _one_line(error: BaseException) -> str:
    """The part of a parser's message that says what is wrong, on one line."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
    text = re.sub(r"\s+", " ", text).strip()
    # What a union's other members, such as None, would have wanted is of no use to anybody.
    text = re.sub(r"Does not validate against any of the Union subtypes Subtypes: .*? Errors: - ", "", text)
    text = re.sub(r" - Expected a <class 'NoneType'>.*", "", text)
    return text if len(text) < 600 else f"{text[:400]} ... {text[-190:]}"


def _finite(tree: Any) -> Any:
    """The same tree with infinities as text: YAML knows them (a reward's range), the ingredient's JSON does not."""
    if isinstance(tree, dict):
        return {key: _finite(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_finite(value) for value in tree]
    return str(tree) if isinstance(tree, float) and not math.isfinite(tree) else tree


def _cause(error: BaseException | None) -> RslitError | None:
    """Our own error among those that led to this one."""
    while error is not None and not isinstance(error, RslitError):
        error = error.__cause__ or error.__context__
    return error


def run(args: Sequence[str]) -> None:
    """Runs fit, validate, test or predict.

    Args:
        args: The verb and its arguments.

    Raises:
        RslitError: Bad input, in one line.
    """
    strict = {"exit_on_error": False}
    with _one_line_errors():
        RslitCLI(
            LightningModule,
            LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            auto_configure_optimizers=False,
            seed_everything_default=0,
            save_config_callback=SaveRunConfig,
            parser_kwargs={**strict, **{verb: strict for verb in _VERBS}},
            args=list(args),
        )


def instantiate(config: Mapping[str, Any]) -> tuple[LightningModule, LightningDataModule]:
    """Module and datamodule of a run's configuration, as the verbs make them, without a Trainer.

    Args:
        config: Has ``model`` and ``data``; what else it has is left alone.

    Raises:
        RslitError: Bad input, in one line.
    """
    with _one_line_errors():
        parser = LightningArgumentParser(exit_on_error=False)
        parser.add_lightning_class_args(LightningModule, "model", subclass_mode=True)
        parser.add_lightning_class_args(LightningDataModule, "data", subclass_mode=True)
        made = parser.instantiate_classes(parser.parse_object({key: config[key] for key in ("model", "data")}))
        return made["model"], made["data"]


@contextmanager
def _one_line_errors() -> Iterator[None]:
    """Turns what a parser, Lightning or a class says of bad input into one line; warnings of others are quiet."""
    quiet()
    try:
        yield
    except (jsonargparse.ArgumentError, MisconfigurationException) as error:
        raise RslitError(_one_line(error)) from error
    except torch.OutOfMemoryError as error:
        asked = re.search(r"Tried to allocate [\d.]+ \w+", str(error))
        raise RslitError(
            f"out of GPU memory{f' ({asked[0]})' if asked else ''}: lower data.batch_size (or data.num_envs), "
            "sampling.rows or sampling.max_new_tokens, in a sweep evaluation.rows; raise minibatches; "
            "set policy.gradient_checkpointing: true or policy.dtype: bfloat16"
        ) from error
    except ValueError as error:
        # jsonargparse wraps what a class's __init__ raises in the ValueError of a union that took none of its members.
        cause = _cause(error)
        if cause is None:
            raise
        raise cause from error
