import inspect

import pytest

from modelrunner import errors
from modelrunner.errors import ExitStatus, ModelRunnerError

CLASSES = [
    found
    for _, found in inspect.getmembers(errors, inspect.isclass)
    if issubclass(found, ModelRunnerError)
]


def test_exit_codes_are_what_scripts_were_promised() -> None:
    assert {status.name: int(status) for status in ExitStatus} == {
        "OK": 0,
        "FAILURE": 1,
        "USAGE": 2,
        "NOT_FOUND": 3,
        "ACCESS": 4,
        "TRANSFER": 5,
        "INTEGRITY": 6,
        "CAPACITY": 7,
        "RUNTIME": 8,
        "LOCK": 9,
        "UNSUPPORTED": 10,
        "INTERRUPTED": 130,
    }


def test_every_error_has_a_code_of_its_own() -> None:
    codes = [found.code for found in CLASSES]
    assert sorted(codes) == sorted(set(codes))


@pytest.mark.parametrize("found", CLASSES, ids=lambda found: found.__name__)
def test_every_error_stands_in_the_tree_of_the_documentation(
    found: type[ModelRunnerError],
) -> None:
    assert found.__name__ in (errors.__doc__ or "")
    # a narrower error never has another exit code than the family it belongs to
    parent = found.__mro__[1]
    if issubclass(parent, ModelRunnerError) and parent is not ModelRunnerError:
        assert found.exit_code == parent.exit_code


def test_an_error_is_one_object_with_its_facts_last() -> None:
    error = errors.DiskFullError("the disk is full", hint="free some", free_bytes=3)
    assert str(error) == "the disk is full"
    assert error.to_dict() == {
        "code": "disk_full",
        "message": "the disk is full",
        "hint": "free some",
        "retryable": False,
        "free_bytes": 3,
    }


def test_what_the_program_acts_on_is_an_attribute_and_a_fact_for_scripts() -> None:
    error = errors.TransferError("slow down", retry_after_s=3.0, registry="r.example")
    assert error.retry_after_s == 3.0
    assert error.facts == {"retry_after_s": 3.0, "registry": "r.example"}
    assert errors.TransferError("gone").facts == {}
    assert errors.ManifestNotFoundError("none", missing="tag").missing == "tag"
    assert errors.DigestMismatchError("wrong", places=["a", "b"]).places == ("a", "b")


def test_an_error_with_another_hint_is_the_same_error() -> None:
    error = errors.RuntimeFailedError(
        "it ended", broke_off=True, server_message="bad", hint="first"
    )
    better = error.with_hint("second", log="/log")
    assert type(better) is errors.RuntimeFailedError
    assert (better.message, better.hint, better.broke_off) == ("it ended", "second", True)
    assert better.facts == {"broke_off": True, "told": "bad", "log": "/log"}
    assert (error.hint, "log" in error.facts) == ("first", False)
