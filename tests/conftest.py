from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

# Tests run several at a time beside one another on two cores, and their networks are tiny.
torch.set_num_threads(1)
os.environ.setdefault("JAX_PLATFORMS", "cpu")

# A shell that starts the tests in the background has them ignore Ctrl-C, nohup the end of the terminal, and so would
# the runs that tests stop by these signals.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

# The toys of the tests can be named in YAML, in this process and in those that tests start.
HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH")]))


def pytest_configure(config: pytest.Config) -> None:
    """Third-party warnings that runs filter are filtered here too; every other warning fails a test."""
    from rslit.warnings import KNOWN

    for pattern in KNOWN:
        config.addinivalue_line("filterwarnings", f"ignore:{pattern}")
    # Tests of recipes fork in a process where other tests have started jax; `rslit recipe` itself imports no jax.
    config.addinivalue_line(
        "filterwarnings", r"ignore:os\.fork\(\) was called\. os\.fork\(\) is incompatible:RuntimeWarning"
    )


@pytest.fixture(autouse=True)
def _fresh_seed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """`seed_everything` leaves its seed in the environment: no test sees another's."""
    monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)
    yield
    os.environ.pop("PL_GLOBAL_SEED", None)


@pytest.fixture
def write_config(tmp_path: Path) -> Callable[..., Path]:
    """Writes a configuration to a YAML file and returns its path."""

    def write(config: Mapping[str, Any], name: str = "config.yaml") -> Path:
        path = tmp_path / name
        path.write_text(yaml.safe_dump(dict(config), sort_keys=False))
        return path

    return write


@pytest.fixture(scope="session")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A whole experiment on the point environment, through the command line."""
    from toy_experiment import CAUTIOUS, RISKY, fit, point_config

    root = tmp_path_factory.mktemp("experiment") / "runs" / "halfcheetah"
    root.mkdir(parents=True)

    def write(config: dict[str, Any], name: str) -> Path:
        (root / name).write_text(yaml.safe_dump(config, sort_keys=False))
        return root / name

    start = fit(write, root, "pretrain")
    init = {"model__init_args__initialisation": str(start)}
    weighted = {
        "class_path": "rslit.rewards.WeightedSum",
        "init_args": {"name": "morl", "rewards": [RISKY, CAUTIOUS], "weights": [0.5, 0.5]},
    }
    paths = {
        "root": root,
        "pretrain": start,
        "risky": fit(write, root, "risky", reward=RISKY, **init),
        "cautious": fit(write, root, "cautious", reward=CAUTIOUS, **init),
        "morl": fit(write, root, "morl", reward=weighted, **init),
    }
    module = point_config()["model"]
    sweep = {
        "seed_everything": 3,
        "trainer": {"accelerator": "cpu", "devices": 1, "enable_progress_bar": False},
        "data": point_config()["data"],
        "model": {
            "class_path": "rslit.modules.InterpolationEvaluator",
            "init_args": {
                "module": module,
                "lattice": 4,
                "ingredients": {"risky": str(paths["risky"]), "cautious": str(paths["cautious"])},
                "initialisation": str(start),
                "morl": [str(paths["morl"])],
            },
        },
    }
    paths["sweep.yaml"] = write(sweep, "sweep.yaml")
    return paths
