from __future__ import annotations

from pathlib import Path

import pytest
from stream_lake import StreamLake


@pytest.fixture
def lake(tmp_path: Path) -> StreamLake:
    return StreamLake(tmp_path)
