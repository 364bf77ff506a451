"""Send rows to a server from any Python program: each once, in order, also over breaks.

Needs no server library; pyarrow is loaded when Arrow or Polars data is sent.
"""

from neuralake.client.asynchronous import AsyncClient
from neuralake.client.client import Client
from neuralake.client.options import Rejected

__all__ = ["AsyncClient", "Client", "Rejected"]
