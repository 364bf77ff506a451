"""What processes did, as counters, gauges and histograms; and how one process tells the others."""

from neuralake.telemetry.series import BOUNDS_S, Series, Telemetry, quantile
from neuralake.telemetry.shared import Told, shared, told

__all__ = ["BOUNDS_S", "Series", "Telemetry", "Told", "quantile", "shared", "told"]
