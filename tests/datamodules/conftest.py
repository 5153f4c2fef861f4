from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `datasets` makes of a test's files goes with them."""
    import datasets

    cache = tmp_path_factory.mktemp("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", Path(cache))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_OFFLINE", False)
    datasets.disable_progress_bars()
