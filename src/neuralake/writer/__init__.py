"""Move acknowledged rows from the queue into Delta tables, each exactly once."""

from neuralake.writer.contradiction import refuse_contradiction
from neuralake.writer.flush import FlushLimits, is_due
from neuralake.writer.letter_box import LetterBox, StoredLetter
from neuralake.writer.loop import run_writer, stream_tables
from neuralake.writer.replay import Replacement, Replayer, ReplayReport
from neuralake.writer.topic_writer import TopicWriter, start_position

__all__ = [
    "FlushLimits",
    "LetterBox",
    "Replacement",
    "ReplayReport",
    "Replayer",
    "StoredLetter",
    "TopicWriter",
    "is_due",
    "refuse_contradiction",
    "run_writer",
    "start_position",
    "stream_tables",
]
