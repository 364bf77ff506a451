"""Claims about the error tree: four kinds, facts as fields, one table to statuses."""

import copy
import inspect
import pickle

import pytest

from neuralake import errors
from neuralake.errors import (
    CommitConflict,
    Conflict,
    InvalidRows,
    NeedsAttention,
    NeuralakeError,
    QueueFull,
    Unavailable,
    UnknownName,
    UsageError,
    outcome,
    suggestion,
)

KINDS = (UsageError, Conflict, Unavailable, NeedsAttention)
CLASSES = [
    value
    for name in errors.__all__
    if inspect.isclass(value := getattr(errors, name)) and issubclass(value, NeuralakeError)
]


@pytest.mark.parametrize("error", [each for each in CLASSES if each is not NeuralakeError])
def test_every_error_is_of_one_kind_and_says_when_it_is_raised(
    error: type[NeuralakeError],
) -> None:
    assert len([kind for kind in KINDS if issubclass(error, kind)]) == 1
    assert error.__doc__


def test_facts_are_fields_and_the_message_is_the_text() -> None:
    error = InvalidRows("Row 3 is odd.", row=3, column="a")

    assert (str(error), error.message) == ("Row 3 is odd.", "Row 3 is odd.")
    assert (error.row, error.column) == (3, "a")
    with pytest.raises(AttributeError, match="reason"):
        _ = error.reason


def test_an_error_survives_the_way_to_another_process() -> None:
    error = QueueFull("Full.", retry_after_s=1.5)

    for there in (pickle.loads(pickle.dumps(error)), copy.copy(error)):  # noqa: S301 our own bytes
        assert type(there) is QueueFull
        assert (there.message, there.facts, there.retry_after_s) == ("Full.", error.facts, 1.5)


@pytest.mark.parametrize(
    ("error", "status", "exit_code"),
    [
        (UnknownName("x"), 404, 2),
        (UsageError("x"), 400, 2),
        (CommitConflict("x"), 409, 75),
        (QueueFull("x"), 429, 75),
        (Unavailable("x"), 503, 75),
        (NeedsAttention("x"), 500, 70),
        (NeuralakeError("x"), 500, 70),
        (ValueError("x"), 500, 70),
        (KeyboardInterrupt(), 500, 70),
    ],
)
def test_an_error_becomes_the_status_of_its_nearest_class(
    error: BaseException, status: int, exit_code: int
) -> None:
    assert (outcome(error).status, outcome(error).exit_code) == (status, exit_code)


@pytest.mark.parametrize("error", CLASSES)
def test_statuses_say_whose_turn_it_is(error: type[NeuralakeError]) -> None:
    """4xx and exit code 2 for callers to fix; 5xx and 429 with exit code 75 for later."""
    found = outcome(error("x"))

    if issubclass(error, UsageError) and error is not errors.SettingsError:
        assert (found.status // 100, found.exit_code) == (4, 2)
    if issubclass(error, Conflict | Unavailable):
        assert found.exit_code == 75


def test_a_suggestion_names_what_is_near_and_nothing_else() -> None:
    assert suggestion("chanel", ["channel", "count"]) == " Did you mean 'channel'?"
    assert suggestion("zzz", ["channel", "count"]) == ""
    assert suggestion("x", []) == ""
