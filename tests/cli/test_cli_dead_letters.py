"""`neuralake dead-letters`: list, show, export, mend, replay; no letter controls a terminal."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pytest
from lab_project import ids_in, make_project

from neuralake.catalog import load_catalog
from neuralake.settings import Settings
from neuralake.supervise import Platform

Run = Callable[..., Any]
ATTACK = "\x1b[2J\u202e"


def send(project: Settings, body: bytes, media: str = "application/x-ndjson") -> None:
    """Store `body`; its rows and letters are in their tables when this returns."""
    with Platform(load_catalog(project)) as platform:
        answer = httpx.post(
            f"{platform.url}/v1/lab/events",
            content=body,
            headers={"content-type": media},
            timeout=60,
        )
    assert answer.status_code == 202, answer.text


@pytest.fixture
def filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_modules: None) -> Settings:
    """One row, and three letters: a wrong type, an unknown column, and no JSON."""
    del own_modules
    monkeypatch.chdir(tmp_path)
    project = make_project(tmp_path)
    tables = tmp_path / "tables.py"
    text = tables.read_text()
    tables.write_text(text.replace("nl.Stream()", 'nl.Stream(on_invalid="dead_letter")'))
    lines = [
        b'{"id": 1}',
        b'{"id": "2", "text": "two"}',
        json.dumps({"id": 3, ATTACK: 1}).encode(),
        b'{"id": 4' + ATTACK.encode(),
    ]
    send(project, b"\n".join(lines))
    return project


def listed(run: Run, *options: str) -> list[dict[str, Any]]:
    result = run("dead-letters", "list", "lab.events", "--json", *options)
    assert result.exit_code == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_list_says_who_sent_what_and_why_it_does_not_fit(run: Run, filled: Settings) -> None:
    del filled
    found = listed(run)

    assert [each["row"] for each in found] == [1, 2, 3]
    assert found[0]["column"] == "id"
    assert "integer" in found[0]["reason"]
    assert {each["source"] for each in found} == {"127.0.0.1"}
    assert [each["row"] for each in listed(run, "--limit", "1")] == [3]
    assert listed(run, "--since", "2100-01-01") == []
    assert len(listed(run, "--since", "1h")) == 3


def test_a_file_that_cannot_be_read_or_is_there_already_is_told(
    run: Run, filled: Settings, tmp_path: Path
) -> None:
    del filled
    there = tmp_path / "letters.ndjson"
    there.write_text("mine")

    exported = run("dead-letters", "export", "lab.events", "--file", str(there))
    assert (exported.exit_code, there.read_text()) == (2, "mine")
    assert "is there already. Name a new file." in exported.stderr
    replayed = run("dead-letters", "replay", "lab.events", "--file", str(tmp_path / "none"))
    assert replayed.exit_code == 2
    assert "No such file or directory" in replayed.stderr


def test_nothing_in_a_letter_controls_the_terminal(run: Run, filled: Settings) -> None:
    del filled
    shown = [run("dead-letters", "list", "lab.events").stdout]
    shown += [run("dead-letters", "show", "lab.events", one["id"]).stdout for one in listed(run)]

    assert all("\x1b" not in text and "\u202e" not in text for text in shown)
    assert '{"id": "2", "text": "two"}' in shown[1]


def test_letters_are_exported_mended_and_replayed_once(
    run: Run, filled: Settings, tmp_path: Path
) -> None:
    file = tmp_path / "letters.ndjson"
    exported = run("dead-letters", "export", "lab.events", "--file", str(file))
    assert exported.exit_code == 0, exported.stderr
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [line["row"] for line in lines] == [
        {"id": "2", "text": "two"},
        {"id": 3, ATTACK: 1},
        None,
    ]
    assert lines[2]["text"] == '{"id": 4' + ATTACK
    lines[0]["row"]["id"] = 2
    lines[2]["row"] = {"id": 4}
    file.write_text("\n".join(map(json.dumps, lines)))

    first = run("dead-letters", "replay", "lab.events", "--file", str(file))
    again = run("dead-letters", "replay", "lab.events", "--file", str(file))

    assert first.exit_code == 2  # One line was not mended.
    assert "2 rows are in lab.events" in first.stdout
    assert "1 letter does not fit" in first.stderr
    assert again.exit_code == 2
    assert "2 were replayed before" in again.stdout
    assert ids_in(filled) == [1, 2, 4]
    assert [each["row"] for each in listed(run)] == [2]
    assert [each["state"] for each in listed(run, "--all")] == ["replayed", "open", "replayed"]


def test_an_arrow_row_is_shown_as_json_and_mended_in_it(
    run: Run, filled: Settings, tmp_path: Path
) -> None:
    rows = pa.table({"id": [9], "text": pa.array([b"bytes"], pa.binary())})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_table(rows)
    send(filled, bytes(sink.getvalue()), "application/vnd.apache.arrow.stream")
    (letter,) = [each for each in listed(run) if each["row"] is None]

    shown = run("dead-letters", "show", "lab.events", letter["id"]).stdout
    as_it_is = run("dead-letters", "replay", "lab.events", "--id", letter["id"])
    file = tmp_path / "mended.ndjson"
    file.write_text(json.dumps({"id": letter["id"], "row": {"id": 9, "text": "bytes"}}))
    replayed = run("dead-letters", "replay", "lab.events", "--file", str(file))

    assert '{"id": 9, "text": "Ynl0ZXM="}' in shown
    assert as_it_is.exit_code == 2
    assert replayed.exit_code == 0, replayed.stderr
    assert ids_in(filled) == [1, 9]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("list", "lab.latest"), 2, "no stream"),
        (("show", "lab.events", "0123"), 2, "No dead letter"),
        (("replay", "lab.events", "--id", "0123"), 2, "No dead letter"),
        (("list", "lab.events", "--since", "yesterday"), 2, "no time"),
        (("replay", "lab.events", "--file", "f", "--id", "x"), 2, "--file"),
    ],
)
def test_wrong_calls_say_what_helps(
    run: Run, filled: Settings, arguments: tuple[str, ...], code: int, said: str
) -> None:
    del filled
    result = run("dead-letters", *arguments)

    assert result.exit_code == code
    assert said in result.stderr


def test_a_file_that_is_no_export_is_refused_with_its_line(
    run: Run, filled: Settings, tmp_path: Path
) -> None:
    del filled
    file = tmp_path / "f.ndjson"
    file.write_text('\n{"row": {}}\n')

    result = run("dead-letters", "replay", "lab.events", "--file", str(file))

    assert result.exit_code == 2
    assert "line 2" in result.stderr


def test_schema_history_says_when_columns_came(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_modules: None
) -> None:
    del own_modules
    monkeypatch.chdir(tmp_path)
    project = make_project(tmp_path)
    tables = tmp_path / "tables.py"
    text = tables.read_text()
    tables.write_text(text.replace("nl.Stream()", 'nl.Stream(unknown_columns="evolve")'))
    unwritten = run("schema", "history", "lab.events")
    send(project, b'{"id": 1}')
    send(project, b'{"id": 2, "x": 1, "y": "a"}')

    result = run("schema", "history", "lab.events", "--format", "json")

    assert (unwritten.exit_code, run("schema", "history", "lab.latest").exit_code) == (2, 2)
    found = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(one["schema"], one["column"], one["type"], one["declared"]) for one in found] == [
        (1, "id", "int64", True),
        (1, "text", "string", True),
        (2, "x", "int64", False),
        (2, "y", "string", False),
    ]
    assert found[2]["version"] == found[3]["version"] == 2
    assert found[0]["time"] is None
