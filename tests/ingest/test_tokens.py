"""Tokens: who has one may do what it says, from the moment it is made until it is revoked."""

from __future__ import annotations

import json
import shutil
import ssl
import stat
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import httpx
import msgspec
import pytest
from certificates import make_certificate
from ingest_lake import lake, stored
from lab_project import eventually

from neuralake.catalog import Catalog
from neuralake.clock import ManualClock
from neuralake.errors import (
    Forbidden,
    NeedsAttention,
    QueueFull,
    SettingsError,
    Unauthorized,
    UnknownName,
    UsageError,
)
from neuralake.ingest.rate import Rates
from neuralake.ingest.server import start_server
from neuralake.ingest.tokens import TokenFile
from neuralake.serve.caller import Caller
from neuralake.settings import ServerSettings, Settings

NOTE = {"author": "ann", "text": "hi"}
DAY_S = 86_400


@pytest.fixture
def tokens(catalog: Catalog) -> TokenFile:
    return TokenFile(catalog.settings.tokens_path)


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_without_tokens_programs_of_this_machine_need_none(client: httpx.Client) -> None:
    assert client.post("/v1/lab/notes", json=NOTE).status_code == 202


def test_from_the_first_token_on_everything_but_health_asks_for_one(
    client: httpx.Client, tokens: TokenFile
) -> None:
    """In a server that runs, a hundredth of a second later; also when the last was revoked."""
    assert client.post("/v1/lab/notes", json=NOTE).status_code == 202
    made, token = tokens.create("rig", write=["lab.*"])

    def is_refused(headers: dict[str, str] | None = None) -> bool:
        return client.post("/v1/lab/notes", json=NOTE, headers=headers).status_code == 401

    assert eventually(is_refused)
    for method, path in [
        ("POST", "/v1/lab/notes"),
        ("GET", "/v1/lab/notes"),
        ("POST", "/api/sql"),
        ("GET", "/metrics"),
        ("GET", "/"),
    ]:
        refused = client.request(method, path, json=NOTE)
        assert refused.status_code == 401, path
        assert refused.json()["type"] == "urn:neuralake:problem:unauthorized"
        assert "Bearer" in refused.headers["www-authenticate"]
    assert client.get("/health/live").status_code == 200
    assert client.get("/health/ready").status_code == 200
    assert client.post("/v1/lab/notes", json=NOTE, headers=bearer(token)).status_code == 202

    tokens.revoke(made.id)
    assert eventually(lambda: is_refused(bearer(token)))
    assert is_refused()


def test_a_token_allows_what_its_scopes_name_and_no_more(
    client: httpx.Client, tokens: TokenFile, catalog: Catalog
) -> None:
    _, writes = tokens.create("rig", write=["lab.notes"])
    _, reads = tokens.create("grafana", read=["lab.spikes"])

    assert client.post("/v1/lab/notes", json=NOTE, headers=bearer(writes)).status_code == 202
    for token, path in [(writes, "/v1/lab/spikes"), (reads, "/v1/lab/notes")]:
        refused = client.post(path, json=NOTE, headers=bearer(token))
        assert refused.status_code == 403
        assert refused.json()["verb"] == "write"
    # Neither says whether there is such a table.
    assert client.post("/v1/lab/none", json=NOTE, headers=bearer(writes)).status_code == 403
    assert client.get("/v1/lab/notes", headers=bearer(writes)).status_code == 200
    assert client.get("/v1/lab/notes", headers=bearer(reads)).status_code == 403
    assert len(stored(catalog.queue(), "lab.notes")) == 1


def test_to_sql_there_are_only_the_tables_that_may_be_read(
    client: httpx.Client, tokens: TokenFile
) -> None:
    _, reads = tokens.create("grafana", read=["lab.spikes"])
    _, nothing = tokens.create("rig", write=["*"])

    def ask(sql: str, token: str = reads) -> httpx.Response:
        return client.post("/api/sql", json={"sql": sql}, headers=bearer(token), timeout=60)

    assert ask("SELECT count(*) AS n FROM lab.spikes").json()["rows"] == [[0]]
    assert ask("SELECT * FROM lab.notes").status_code == 404
    names = ask("SELECT table_name FROM information_schema.tables WHERE table_schema = 'lab'")
    assert names.json()["rows"] == [["spikes"]]
    assert ask("SELECT count(*) FROM lab.spikes", nothing).status_code == 404


@pytest.mark.parametrize(
    "sent",
    [
        "Bearer",
        "Bearer nl_",
        "Bearer nl_00000000_",
        "Bearer nl_00000000_secret",
        "Basic !!!",
        "Basic " + b64encode(b"no colon").decode(),
        "Digest x",
        "Bearer " + "x" * 5000,
        "Bearer é",
    ],
)
def test_what_is_no_token_lets_nobody_in(
    client: httpx.Client, tokens: TokenFile, sent: str
) -> None:
    made, _ = tokens.create("rig", write=["*"])
    guess = sent.replace("00000000", made.id)

    headers = {b"Authorization": guess.encode("latin-1")}
    answer = client.post("/v1/lab/notes", json=NOTE, headers=headers)

    assert answer.status_code == 401


def test_a_browser_gives_it_as_a_password(client: httpx.Client, tokens: TokenFile) -> None:
    _, token = tokens.create("me", read=["*"])

    answer = client.get("/v1/lab/notes", auth=("anybody", token))

    assert answer.status_code == 200


def test_a_token_expires(tmp_path: Path) -> None:
    clock = ManualClock()
    file = TokenFile(tmp_path / "tokens.json", clock=clock)
    made, token = file.create("visitor", read=["*"], expires_days=1)

    assert file.caller(token) == Caller(made.id, ("*",))
    clock.advance(DAY_S)
    with pytest.raises(Unauthorized, match="expired"):
        file.caller(token)


def test_of_a_token_only_its_hash_is_kept_for_its_owner(tmp_path: Path) -> None:
    file = TokenFile(tmp_path / "state" / "tokens.json")
    _, token = file.create("rig", write=["*"])

    text = file.path.read_text()

    assert token not in text
    assert token.rpartition("_")[2] not in text
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert [path.name for path in file.path.parent.iterdir()] == ["tokens.json"]


def test_a_damaged_file_of_tokens_lets_nobody_in(client: httpx.Client, tokens: TokenFile) -> None:
    _, token = tokens.create("rig", write=["*"])
    good = tokens.path.read_text()
    tokens.path.write_text(good[:-9])

    assert client.post("/v1/lab/notes", json=NOTE, headers=bearer(token)).status_code == 500
    assert client.post("/v1/lab/notes", json=NOTE).status_code == 401
    with pytest.raises(NeedsAttention, match="cannot be read"):
        tokens.create("other", read=["*"])

    tokens.path.write_text(good)
    assert client.post("/v1/lab/notes", json=NOTE, headers=bearer(token)).status_code == 202


def test_a_token_that_allows_nothing_is_refused_and_an_unknown_id_too(tmp_path: Path) -> None:
    file = TokenFile(tmp_path / "tokens.json")

    with pytest.raises(UsageError, match="allows nothing"):
        file.create("rig")
    with pytest.raises(UsageError, match="of no use"):
        file.create("rig", read=["*"], expires_days=0)
    with pytest.raises(UnknownName, match="none"):
        file.revoke("x")


@pytest.mark.parametrize("name", ["", "  ", "two\nlines", "\x1b[2J", "n" * 101])
def test_a_name_that_cannot_be_listed_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="cannot be named"):
        TokenFile(tmp_path / "tokens.json").create(name, read=["*"])
    assert not (tmp_path / "tokens.json").exists()


def test_a_scope_that_names_no_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"'lab' names no table.*'lab\.\*'"):
        TokenFile(tmp_path / "tokens.json").create("rig", write=["lab"])


@pytest.mark.parametrize("days", [-1.0, 1e9, float("nan"), float("inf")])
def test_an_end_that_no_calendar_has_is_refused(tmp_path: Path, days: float) -> None:
    """`token list` could not write it."""
    with pytest.raises(UsageError, match="of no use"):
        TokenFile(tmp_path / "tokens.json").create("rig", read=["*"], expires_days=days)


def test_scopes_are_globs_over_database_and_table() -> None:
    caller = Caller("t", read=("neural.*", "lab.notes"))

    assert caller.may("read", "neural.spikes")
    assert caller.may("read", "lab.notes")
    assert not caller.may("read", "lab.notes2")
    assert not caller.may("write", "lab.notes")
    with pytest.raises(Forbidden, match=r"--read 'lab\.x'"):
        caller.check("read", "lab.x")


def test_writes_and_refusals_are_in_the_audit_log_without_rows_and_secrets(
    catalog: Catalog, tokens: TokenFile
) -> None:
    made, token = tokens.create("rig", write=["lab.notes"])
    with start_server(catalog) as server, httpx.Client(base_url=server.url, timeout=60) as client:
        headers = {**bearer(token), "Idempotency-Key": "k-1"}
        client.post("/v1/lab/notes", json=[NOTE, NOTE], headers=headers)
        client.post("/v1/lab/notes", json={"nobody": "secret words"}, headers=bearer(token))
        client.post("/v1/lab/spikes", json=NOTE, headers=bearer(token))
        for sequence in ("1", "3"):
            numbers = {"Neuralake-Producer": "rig-7", "Neuralake-Sequence": sequence}
            client.post("/v1/lab/notes", json=NOTE, headers={**bearer(token), **numbers})

    path = catalog.settings.audit_path
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(line["status"], line["table"]) for line in lines] == [
        (202, "lab.notes"),
        (422, "lab.notes"),
        (403, "lab.spikes"),
        (202, "lab.notes"),
        (409, "lab.notes"),
    ]
    assert [(line.get("producer"), line.get("sequence")) for line in lines[2:]] == [
        (None, None),
        ("rig-7", "1"),
        ("rig-7", "3"),
    ]
    assert {line["token"] for line in lines} == {made.id}
    assert (lines[0]["rows"], lines[0]["position"], lines[0]["key"]) == (2, 1, "k-1")
    assert "secret words" not in path.read_text()
    assert token not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_who_sends_too_much_waits_and_is_told_how_long() -> None:
    rates = Rates(requests_per_s=10, rows_per_s=1000)
    for _ in range(20):
        rates.take("rig", 0.0)

    with pytest.raises(QueueFull) as caught:
        rates.take("rig", 0.0)
    assert caught.value.retry_after_s == pytest.approx(0.1)
    rates.take("other", 0.0)
    rates.take("rig", 0.11)

    rates.spend("other", 5000)
    with pytest.raises(QueueFull) as caught:
        rates.take("other", 0.2)
    assert caught.value.retry_after_s == pytest.approx(2.8)
    rates.take("other", 3.1)


def test_a_server_answers_429_with_retry_after(tmp_path: Path) -> None:
    given = lake(tmp_path)
    limited = msgspec.structs.replace(given.settings, server=ServerSettings(requests_per_s_max=1.0))
    catalog = given.bound_to(limited)
    with (
        start_server(catalog, clock=ManualClock()) as server,
        httpx.Client(base_url=server.url, timeout=60) as client,
    ):
        answers = [client.post("/v1/lab/notes", json=NOTE) for _ in range(4)]
    kept = len(stored(catalog.queue(), "lab.notes"))
    catalog.queue().close()

    statuses = [answer.status_code for answer in answers]
    assert statuses == [202, 202, 429, 429]
    assert int(answers[3].headers["retry-after"]) >= 1
    assert kept == 2


@pytest.fixture
def certificate(tmp_path: Path) -> Iterator[Path]:
    """A folder with a certificate for 127.0.0.1, and its key, by OpenSSL."""
    folder = tmp_path / "tls"
    folder.mkdir()
    make_certificate(folder)
    yield folder
    shutil.rmtree(folder)


def public(tmp_path: Path, **server: object) -> Settings:
    return msgspec.structs.replace(
        lake(tmp_path).settings,
        server=msgspec.convert({"host": "0.0.0.0", **server}, ServerSettings),  # noqa: S104 refused
    )


def test_tls_is_spoken_with_the_certificate_of_the_settings(
    tmp_path: Path, certificate: Path
) -> None:
    files = {"tls_cert": str(certificate / "cert.pem"), "tls_key": str(certificate / "key.pem")}
    settings = msgspec.structs.replace(
        lake(tmp_path).settings, server=msgspec.convert(files, ServerSettings)
    )
    catalog = lake(tmp_path).bound_to(settings)
    trusted = ssl.create_default_context(cafile=files["tls_cert"])

    with start_server(catalog) as server, httpx.Client(verify=trusted, timeout=60) as client:
        assert server.url.startswith("https://127.0.0.1:")
        assert client.post(f"{server.url}/v1/lab/notes", json=NOTE).status_code == 202
    catalog.queue().close()


def test_other_machines_are_let_in_only_with_tokens_and_tls(
    tmp_path: Path, certificate: Path
) -> None:
    with pytest.raises(SettingsError, match="listens in would learn"):
        public(tmp_path)
    with pytest.raises(SettingsError, match="belong together"):
        public(tmp_path, tls_cert="cert.pem")
    settings = public(tmp_path, behind_proxy=True)
    catalog = lake(tmp_path).bound_to(settings)
    with pytest.raises(UsageError, match="neuralake token create"):
        start_server(catalog, host="0.0.0.0")  # noqa: S104 refused

    _, token = TokenFile(settings.tokens_path).create("rig", write=["*"])
    with start_server(catalog, host="0.0.0.0") as server, httpx.Client(timeout=60) as client:  # noqa: S104 with tokens
        port = server.url.rpartition(":")[2]
        url = f"http://127.0.0.1:{port}/v1/lab/notes"
        assert client.post(url, json=NOTE).status_code == 401
        named = {"Host": "lake.example", **bearer(token)}
        assert client.post(url, json=NOTE, headers=named).status_code == 202
        page = {"Origin": "https://evil.example", **named}
        assert client.post(url, json=NOTE, headers=page).status_code == 403
        # Fails closed: on a public address no tokens mean nobody.
        settings.tokens_path.unlink()
        assert client.post(url, json=NOTE, headers=named).status_code == 401
    catalog.queue().close()


def test_what_is_no_certificate_is_told_before_the_server_starts(tmp_path: Path) -> None:
    (tmp_path / "x.pem").write_text("no certificate")
    files = {"tls_cert": "x.pem", "tls_key": "x.pem"}
    settings = msgspec.structs.replace(
        lake(tmp_path).settings, server=msgspec.convert(files, ServerSettings)
    )

    with pytest.raises(UsageError, match=r"server\.tls_cert"):
        start_server(lake(tmp_path).bound_to(settings))
