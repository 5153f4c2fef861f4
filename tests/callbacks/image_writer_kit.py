"""Drawing into a folder without a command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from toy_images import ToyDrawer, prompts_file

from rslit.callbacks import ImageWriter
from rslit.datamodules import PromptDataModule


def draw(
    root: Path, module: LightningModule | None = None, data: Any = None, *callbacks: Callback, **options: Any
) -> Any:
    """Predicts into root/images-of-toy and returns the module and what `predict` returned."""
    given: dict[str, Any] = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "barebones": False}
    given |= {"enable_checkpointing": False, "enable_model_summary": False, "default_root_dir": root}
    module = module or ToyDrawer()
    data = data or PromptDataModule(str(prompts_file(root / "p.txt")), batch_size=2)
    trainer = Trainer(callbacks=[ImageWriter(str(root / "out")), *callbacks], **given | options)
    return module, trainer.predict(module, data)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
