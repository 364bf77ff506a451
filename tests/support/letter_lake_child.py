"""Server and writer of a lake with dead letters, to be killed: `letter_lake_child.py FOLDER PORT`.

It prints its URL when it answers.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from letter_lake import letter_lake

from neuralake.ingest.server import run_server
from neuralake.writer import run_writer

if __name__ == "__main__":
    catalog = letter_lake(Path(sys.argv[1]))
    threading.Thread(
        target=run_writer, args=(catalog,), kwargs={"stop": threading.Event()}, daemon=True
    ).start()
    run_server(catalog, port=int(sys.argv[2]), on_started=lambda url: print(url, flush=True))
