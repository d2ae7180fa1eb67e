"""What a command works with does not change; what differs for one run is another context."""

from pathlib import Path

import pytest

from modelrunner.cli.context import Context, GlobalOptions, Invocation, build
from modelrunner.errors import CanceledByUserError, NotInStoreError
from modelrunner.oci.reference import Reference

REFERENCE = Reference.parse("ai/smollm2")


@pytest.fixture
def invocation() -> Invocation:
    return Invocation()


@pytest.fixture
def context(invocation: Invocation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Context:
    monkeypatch.setenv("MODELRUNNER_HOME", str(tmp_path / "home"))
    return build(invocation)


@pytest.mark.parametrize("field", ["options", "console", "workspace"])
def test_no_field_of_a_context_can_be_set(context: Context, field: str) -> None:
    with pytest.raises(AttributeError):
        setattr(context, field, None)
    with pytest.raises(AttributeError):
        context.options.offline = True  # type: ignore[misc]


def test_what_one_run_changes_leaves_the_workspace_as_it_was(context: Context) -> None:
    before = context.workspace
    changed = context.over(
        before.trusting(Path("/ca.pem")).within(3).asking_also(["ai/other"], lan=False)
    )
    assert (changed.registries.ca_file, changed.registries.also) == ("/ca.pem", ("ai/other",))
    assert (context.registries.ca_file, context.registries.also) == (None, ())
    assert changed.registries.backoff.deadline is not None
    assert context.registries.backoff.deadline is None
    assert changed.settings is context.settings


def test_the_network_is_ruled_out_for_another_context(context: Context) -> None:
    offline = context.over(context.workspace.ruled_offline())
    assert (offline.offline, context.offline) == (True, False)
    with pytest.raises(NotInStoreError, match="--offline is set"):
        offline.require_registry(REFERENCE)
    context.require_registry(REFERENCE)


def test_an_interruption_is_told_to_who_has_called(
    context: Context, invocation: Invocation
) -> None:
    error = CanceledByUserError("interrupted; 4 MiB kept")
    context.on_interruption(error)
    assert invocation.interruption is error


def test_options_before_and_behind_the_name_of_a_command_count_together() -> None:
    said = GlobalOptions(json=True).also(GlobalOptions(offline=True))
    assert (said.json, said.offline, said.quiet) == (True, True, False)
