"""What several tests of rewards share."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One tiny two-label classifier of each family, by family."""
    from tiny_models import CLASSIFIERS, save_tiny_classifier

    root = tmp_path_factory.mktemp("classifiers")
    return {kind: save_tiny_classifier(kind, root / kind, labels=2) for kind in CLASSIFIERS}


@pytest.fixture
def unread(models: dict[str, Path], tmp_path: Path) -> Path:
    """A model whose weights cannot be read: what is refused here is refused before they are."""
    folder = tmp_path / "unread"
    folder.mkdir()
    for file in models["gpt2"].iterdir():
        (folder / file.name).write_bytes(b"nothing" if file.suffix == ".safetensors" else file.read_bytes())
    return folder
