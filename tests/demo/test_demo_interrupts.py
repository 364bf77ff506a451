"""Ctrl-C ends the demo in steps; SIGTERM ends it altogether. Both leave nothing behind."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

from lab_project import eventually, start_cli

from neuralake.settings import load_settings
from neuralake.supervise import read_state, running_pid


def wait_for_seconds(demo: subprocess.Popen[str], seconds: float) -> None:
    """Read its lines up to one of that time or later: a busy machine leaves some out."""
    assert demo.stdout is not None
    for printed in demo.stdout:
        told, _, rest = printed.strip().partition(" s  ")
        if rest and told.replace(".", "", 1).isdigit() and float(told) >= seconds:
            return
    raise AssertionError(f"the demo ended before {seconds} s")


def wait_for(demo: subprocess.Popen[str], text: str) -> None:
    """Read what it prints up to a line that begins with `text`."""
    assert demo.stdout is not None
    for printed in demo.stdout:
        if printed.strip().startswith(text):
            return
    raise AssertionError(f"the demo ended without {text!r}")


def test_the_first_interrupt_ends_the_streams_and_the_second_the_demo(tmp_path: Path) -> None:
    """In between, the platform is there to be looked at."""
    with start_cli(tmp_path, "demo", "--folder", "lake") as demo:
        wait_for_seconds(demo, 2.0)
        demo.send_signal(signal.SIGINT)
        wait_for(demo, "Look around")
        state = load_settings(tmp_path / "lake" / "neuralake.toml", environment={}).state_folder
        assert read_state(state) is not None
        demo.send_signal(signal.SIGINT)
        demo.communicate(timeout=60)

    assert demo.returncode == 0
    assert running_pid(state) is None


def test_a_signal_to_end_checks_what_was_sent_and_ends(tmp_path: Path) -> None:
    with start_cli(tmp_path, "demo", "--folder", "lake") as demo:
        wait_for_seconds(demo, 2.0)
        demo.send_signal(signal.SIGTERM)
        printed, _ = demo.communicate(timeout=60)

    assert demo.returncode == 0, printed
    assert "Verified: all" in printed
    lake = load_settings(tmp_path / "lake" / "neuralake.toml", environment={})
    assert eventually(lambda: running_pid(lake.state_folder) is None)


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "lake").mkdir()
    (tmp_path / "lake" / "mine.txt").write_text("mine")
    with start_cli(tmp_path, "demo", "--seconds", "1", "--folder", "lake") as demo:
        printed, _ = demo.communicate(timeout=60)

    assert demo.returncode == 2
    assert "not empty" in printed
    assert [path.name for path in (tmp_path / "lake").iterdir()] == ["mine.txt"]
