from __future__ import annotations

from pathlib import Path

import pytest
from table_files import own_cache


@pytest.fixture
def text_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for text runs; what `datasets` makes of their files stays in it, here and in processes started here."""
    own_cache(tmp_path / "datasets", monkeypatch)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "datasets"))
    return tmp_path


@pytest.fixture
def pair(tmp_path: Path) -> dict[str, str]:
    """Ingredients of a risky and a cautious expert on the point environment."""
    from test_interpolation import REWARDS, ingredient, state

    return {name: ingredient(tmp_path, name, state(k), name) for k, name in enumerate(REWARDS, 1)}
