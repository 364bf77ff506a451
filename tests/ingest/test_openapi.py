"""The API does what its OpenAPI document says, asked by requests that schemathesis makes of it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import jsonschema_rs
import pyarrow as pa
import pytest
import schemathesis
from examples import examples
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import CHECKS, load_all_checks
from schemathesis.core.result import Ok
from schemathesis.generation import GenerationMode

from neuralake.catalog import Catalog
from neuralake.errors import NeuralakeError
from neuralake.ingest.app import create_app
from neuralake.ingest.openapi import document
from neuralake.ingest.server import start_server
from neuralake.ingest.tokens import TokenFile
from neuralake.records.decode import Decoder
from neuralake.records.json_schema import row_schema
from neuralake.records.media_types import JSON
from neuralake.settings import IngestSettings, LakeSettings, Settings
from neuralake.tables import DeltaTable, Stream

EVERY = pa.schema(
    [
        pa.field("site", pa.string(), nullable=False),
        ("small", pa.int8()),
        ("large", pa.int64()),
        ("narrow", pa.float32()),
        ("ratio", pa.float64()),
        ("price", pa.decimal128(9, 2)),
        ("raw", pa.binary()),
        ("good", pa.bool_()),
        ("day", pa.date32()),
        ("at", pa.timestamp("us", tz="UTC")),
        ("wall", pa.timestamp("us")),
        ("trace", pa.list_(pa.float64())),
        ("place", pa.struct([pa.field("x", pa.int32(), nullable=False), ("name", pa.string())])),
    ]
)


ANSWERS = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
]
REFUSALS = ["negative_data_rejection", "unsupported_method"]
# What JSON Schema cannot say of a value; see `json_schema`.
NOT_IN_THE_SCHEMA = ["is not a date", "outside of the years", "decimal places"]

DECODER = Decoder(EVERY, name="lab.every", partition_by=[], limits=IngestSettings())
VALIDATOR = jsonschema_rs.validator_for(row_schema(EVERY))


@pytest.fixture
def every(tmp_path: Path) -> Iterator[Catalog]:
    config = Settings(
        folder=str(tmp_path),
        lake=LakeSettings(root=str(tmp_path / "lake")),
        ingest=IngestSettings(wait_s_max=0.01),  # Nobody commits here.
    )
    found = Catalog({"lab": [DeltaTable("every", "lab/every", EVERY, stream=Stream())]}, config)
    yield found
    found.close()


def test_it_names_every_route_of_the_application(catalog: Catalog) -> None:
    named = set(document(catalog)["paths"])
    app = create_app(catalog)

    for route in app.routes:
        path = route.path.replace("{database}/{table}", "lab/notes")  # type: ignore[attr-defined]  # all have one
        assert path in named, path
    assert "/v1/lab/fixed" not in named


def test_a_caller_sees_what_its_token_allows(catalog: Catalog) -> None:
    tokens = TokenFile(catalog.settings.tokens_path)
    _, token = tokens.create("some", read=["lab.notes"])
    with start_server(catalog) as server, httpx.Client(base_url=server.url, timeout=60) as client:
        nobody = client.get("/openapi.json")
        found = client.get("/openapi.json", headers={"authorization": f"Bearer {token}"}).json()

    assert nobody.status_code == 401
    assert [*found["paths"]["/v1/lab/notes"]] == ["get"]
    assert "/v1/lab/spikes" not in found["paths"]


@pytest.mark.parametrize(
    "cases", [40, pytest.param(1500, marks=[pytest.mark.slow, pytest.mark.timeout(1200)])]
)
def test_what_is_sent_by_it_is_answered_by_it(every: Catalog, cases: int) -> None:
    """Also what is sent against it: never 500, always in the documented shape."""
    load_all_checks()
    answers, refusals = CHECKS.get_by_names(ANSWERS), CHECKS.get_by_names(REFUSALS)
    asked = Counter[str]()

    def ask(case: Any, mode: GenerationMode) -> None:
        answer = case.call(timeout=60)
        asked[case.operation.label] += 1
        # Texts of SQL, CSV and Arrow are described, but not by what makes them right.
        is_rows = mode is GenerationMode.POSITIVE and case.media_type == JSON and "v1" in case.path
        is_numbered = any(name.startswith("Neuralake-") for name in case.headers or {})
        if is_rows and not is_numbered and answer.status_code not in (200, 202):
            why = answer.json().get("reason", answer.text)
            told = [*NOT_IN_THE_SCHEMA, "came with other rows before"]  # By another request's key.
            assert any(said in why for said in told), (answer.text, case.body)
        case.validate_response(answer, checks=answers + (refusals if "v1" in case.path else []))

    with start_server(every) as server:
        schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
        for result in schema.get_all_operations():
            assert isinstance(result, Ok)
            for mode in GenerationMode:
                requests = result.ok().as_strategy(generation_mode=mode)
                for_each = settings(
                    max_examples=cases,
                    deadline=None,
                    database=None,
                    phases=[Phase.generate],
                    suppress_health_check=list(HealthCheck),
                )
                with suppress(Unsatisfiable):  # What takes nothing cannot be asked wrongly.
                    seed(1)(for_each(given(case=requests, mode=st.just(mode))(ask)))()

    assert asked["POST /v1/lab/every"] > cases
    # Each operation, but that for the document itself.
    assert len(asked) == sum(len(found) for found in document(every)["paths"].values()) - 1


DATES = st.sampled_from(
    ["2026-01-31", "2026-13-01", "0000-01-01", "2026-1-31", "20260131", "9999-12-31"]
)
CLOCKS = st.sampled_from(
    ["", "T10", "T10:20", " 10:20:30", "T10:20:60", "t10:20:30", "T24:00", "T1:00:00"]
) | st.sampled_from(["T10:20:30.5", "T10:20:30.1234567", "T10:20:30.12345600"])
ZONES = st.sampled_from(["", "Z", "z", "+01", "+0100", "-01:30", "+24:00", "+1"])
TEXTS = st.one_of(
    st.builds("{}{}{}".format, DATES, CLOCKS, ZONES),
    st.sampled_from(["NaN", "nan", "Infinity", "-Infinity", "AAE=", "AAE", "AA==", "=", "true"]),
    st.from_regex(r"[+-]?[0-9]{0,8}(\.[0-9]{0,3})?", fullmatch=True),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=4),
)
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([0, 1, -128, 127, 128, 2**31, 2**63 - 1, 2**63, -(2**63), 10**7, 10**400]),
    st.sampled_from([0.5, 1.0, 1e3, 1e7, 3.5e38, 1e308, 12.25]),
    TEXTS,
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["x", "name", "z"]), inner, max_size=3)
    ),
    max_leaves=4,
)


@given(
    column=st.sampled_from(EVERY.names),
    value=VALUES,
    other=st.just({}) | st.just({"nonsense": 1}),
)
@settings(max_examples=examples(150), deadline=None)
def test_the_schema_of_a_row_accepts_what_the_decoder_does(
    column: str, value: Any, other: dict[str, Any]
) -> None:
    row = {"site": "north"} | {column: value} | other
    body = json.dumps(row)
    try:
        DECODER.rows(body.encode(), JSON)
        reason = None
    except NeuralakeError as error:
        reason = str(error.facts.get("reason", error.message))
    if reason is not None and any(said in reason for said in NOT_IN_THE_SCHEMA):
        return

    assert VALIDATOR.is_valid(json.loads(body)) == (reason is None), reason
