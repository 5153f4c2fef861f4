from __future__ import annotations

import pytest
from table_files import own_cache


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    own_cache(tmp_path_factory.mktemp("datasets"), monkeypatch)
