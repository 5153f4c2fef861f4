"""What configs and the command line see of the vision data."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from typing import Any

import pytest
from jsonargparse import ArgumentError, ArgumentParser

import rslit.datamodules
import rslit.vision.files
from rslit.cli import main
from rslit.datamodules import CocoCaptions, OfaRegions, RewardedDataModule
from rslit.datamodules.vision import VisionDataModule

SIZES = {
    "batch_size": "int",
    "rollouts_per_epoch": r"int \| null",
    "eval_items": "int",
    "eval_batch_size": r"int \| null",
}


def made(task: str, source: str, **options: Any) -> VisionDataModule[Any]:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(RewardedDataModule, "data")
    given = {"class_path": f"rslit.datamodules.{source}", "init_args": options}
    init = {"source": given, "batch_size": 18, "eval_items": 7, "rollouts_per_epoch": 3}
    config = parser.parse_object({"data": {"class_path": f"rslit.datamodules.{task}", "init_args": init}})
    got: VisionDataModule[Any] = parser.instantiate(config).data
    assert (got.batch_size, got.eval_items, got.eval_batch_size, got.rollouts_per_epoch) == (18, 7, 18, 3)
    return got


def test_yaml_names_the_source_by_class() -> None:
    captions = made("CaptioningDataModule", "CocoCaptions", folder="x", train_split="train2017")
    assert isinstance(captions.source, CocoCaptions)
    assert captions.source.splits["train"] == "train2017"
    regions = made("GroundingDataModule", "OfaRegions", train="a.tsv", eval="b.tsv", columns=[0, 1, 2, 3])
    assert isinstance(regions.source, OfaRegions)
    assert regions.source.columns == (0, 1, 2, 3)
    made("GroundingDataModule", "RefCoco", folder="x", eval_split="testA")
    made("VqaDataModule", "EasyVqa")
    made("VqaDataModule", "VqaV2", folder="x")
    made("CaptioningDataModule", "KarpathyCaptions", folder="x", train_splits=["train"])
    made("CaptioningDataModule", "HubCaptions", path="x/y", captions=["a", "b"])
    made("CaptioningDataModule", "HubCaptions", path="x/y", captions="a")
    with pytest.raises(ArgumentError, match="EasyVqa"):  # questions are no captions
        made("CaptioningDataModule", "EasyVqa")


def test_every_source_can_be_named_by_the_package_of_data() -> None:
    sources = set(rslit.vision.files.__all__) - {"Part", "Source"}
    assert sources <= set(rslit.datamodules.__all__)
    assert all(getattr(rslit.datamodules, name) is getattr(rslit.vision.files, name) for name in sources)


def refused(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    capsys.readouterr()
    assert main(["fit", *args]) == 2
    (line,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("rslit: error: "))
    return line


@pytest.mark.parametrize("task", ["CaptioningDataModule", "GroundingDataModule", "VqaDataModule"])
def test_the_command_line_knows_the_sizes_of_every_task(task: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["fit", f"--data.help=rslit.datamodules.{task}"])
    shown = " ".join(capsys.readouterr().out.split())
    for name, kind in SIZES.items():
        assert re.search(rf"--data\.{name} {name.upper()} ((?!--data).)*\(type: {kind}, default: ", shown), name
    data = f"--data=rslit.datamodules.{task}"
    assert refused(capsys, data, "--data.bath_size=3").endswith("Option 'bath_size' is not accepted")
    assert refused(capsys, data, "--data.batch_size=many").endswith(
        "Parser key \"batch_size\": Expected a <class 'int'>. Got value: many"
    )


def test_importing_the_data_imports_no_package_of_an_extra() -> None:
    # torchmetrics and matplotlib, which Lightning and the front import, take some of them along: these come first.
    code = """
        import sys, lightning.pytorch, matplotlib.pyplot
        for name in ("PIL", "datasets", "transformers", "peft", "easy_vqa"):
            for loaded in [n for n in sys.modules if n == name or n.startswith(f"{name}.")]:
                del sys.modules[loaded]
            sys.modules[name] = None
        import rslit.datamodules
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True)
