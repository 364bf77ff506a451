"""S3 and DynamoDB in memory, one request after the other; prints `port N` when it listens.

moto's own server handles requests in threads, and then its put-if-absent has two winners now and
then (2 of 200 races). One at a time, it is atomic.
"""

from __future__ import annotations

import logging

from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from werkzeug.serving import make_server


def main() -> None:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = make_server(
        "127.0.0.1",
        0,
        DomainDispatcherApplication(create_backend_app),
        threaded=False,
        request_handler=MotoRequestHandler,
    )
    print(f"port {server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
