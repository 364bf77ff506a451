"""An ingest server in a process of its own, to be killed. `python ingest_server_child.py FOLDER`.

It prints its URL when it answers.
"""

from __future__ import annotations

import sys
from pathlib import Path

from ingest_lake import lake

from neuralake.ingest.server import run_server

if __name__ == "__main__":
    run_server(
        lake(Path(sys.argv[1])),
        port=int(sys.argv[2]),
        on_started=lambda url: print(url, flush=True),
    )
