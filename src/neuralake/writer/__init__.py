"""Move acknowledged rows from the queue into Delta tables, each exactly once."""

from neuralake.writer.contradiction import refuse_contradiction
from neuralake.writer.flush import FlushLimits, is_due
from neuralake.writer.loop import run_writer, stream_tables
from neuralake.writer.topic_writer import TopicWriter, start_position

__all__ = [
    "FlushLimits",
    "TopicWriter",
    "is_due",
    "refuse_contradiction",
    "run_writer",
    "start_position",
    "stream_tables",
]
