from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from demo_runs import finished

from rslit.demo.live import LiveSoup
from rslit.demo.run_folder import open_run


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Path]]:
    """Runs of a task's tiny recipe, made when first asked for; not to be written to but by exports."""
    root = tmp_path_factory.mktemp("demo")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_DATASETS_CACHE", str(root / "datasets"))

        def of(task: str) -> Path:
            if not (root / task).exists():
                finished(task, root / task)
                os.environ.pop("PL_GLOBAL_SEED", None)
            return root / task

        yield of


@pytest.fixture
def live(runs: Callable[[str], Path]) -> LiveSoup:
    """The ball's soup."""
    return LiveSoup(open_run(runs("locomotion")))
