"""`modelrunner trust`."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated

from modelrunner.cli.context import CommandEnd, Context, command
from modelrunner.cli.options import (
    SignerAuthorities,
    SignerIdentity,
    SignerIssuer,
    SignerKeys,
    SignerRoot,
    SignerTimestamps,
)
from modelrunner.cli.parser.declared import Argument, Option
from modelrunner.cli.views.trust import rule_rows, rule_to_dict, tested_lines
from modelrunner.errors import ExitStatus, UsageError
from modelrunner.operations.trust.attach import find_subject
from modelrunner.operations.trust.policy_file import PolicyFile
from modelrunner.operations.trust.report import tested
from modelrunner.provenance.policy import Rule


class Action(StrEnum):
    """What to do with the policy."""

    LIST = "list"
    ADD = "add"
    REMOVE = "remove"
    TEST = "test"
    DEFAULT = "default"


class RuleMode(StrEnum):
    """What becomes of a model without a valid signature."""

    ENFORCE = "enforce"
    WARN = "warn"
    OFF = "off"


@command(
    examples="  modelrunner trust\n"
    "  modelrunner trust add 'registry.example.com/team/*' --key cosign.pub\n"
    "  modelrunner trust add 'ghcr.io/acme/*' --issuer https://token.actions.githubusercontent.com"
    " --identity https://github.com/acme/models/.github/workflows/release.yml@refs/heads/main\n"
    "  modelrunner trust add 'docker.io/*' --key docker.pub --mode warn\n"
    "  modelrunner trust test registry.example.com/team/model:1\n"
    "  modelrunner trust remove 'docker.io/*'\n"
    "  modelrunner trust default warn"
)
def trust(
    context: Context,
    action: Annotated[
        Action,
        Argument(metavar="[ACTION]", help="list (default), add, remove, test or default."),
    ] = Action.LIST,
    names: Annotated[
        list[str] | None,
        Argument(
            metavar="[PATTERN|REF|MODE]",
            help="Pattern of repositories to add or remove, model to test, or the mode for models"
            " without a rule.",
        ),
    ] = None,
    keys: SignerKeys = None,
    ca: SignerAuthorities = None,
    tsa: SignerTimestamps = None,
    identity: SignerIdentity = None,
    issuer: SignerIssuer = None,
    trusted_root: SignerRoot = None,
    mode: Annotated[
        RuleMode | None,
        Option(help="What to do with a model without a valid signature (default: enforce)."),
    ] = None,
) -> None:
    """Show and change whose signatures models must have (verify.toml).

    `trust test` says what a pull of a model would do, and why.
    """
    policy = PolicyFile(context.settings.policy)
    given = names or []
    signers = (keys, ca, tsa, identity, issuer, trusted_root, mode)
    if action is not Action.ADD and any(each is not None for each in signers):
        raise UsageError(
            f"`trust {action}` takes no signers",
            hint="options such as --key and --mode are for `trust add`; to look for the signatures"
            " of others, use `modelrunner inspect --security REF --key FILE`",
        )
    if action is Action.LIST:
        _list(context, policy, given)
        return
    if action is Action.TEST:
        _test(context, _only(action, given, "a model"))
        return
    word = _only(action, given, "a mode" if action is Action.DEFAULT else "a pattern")
    if action is Action.ADD:
        wanted = Rule(
            word,
            (mode or RuleMode.ENFORCE).value,
            tuple(keys or ()),
            identity,
            issuer,
            trusted_root,
            tuple(ca or ()),
            tuple(tsa or ()),
        )
        _changed(context, policy, policy.add(wanted), "added")
    elif action is Action.REMOVE:
        _changed(context, policy, policy.remove(word), "removed")
    else:
        chosen = next((each for each in RuleMode if each == word), None)
        if chosen is None:
            raise UsageError(f"invalid mode {word[:40]!r}", hint="use enforce, warn or off")
        policy.set_default(chosen.value)
        _changed(context, policy, Rule("*", chosen.value), "default")


def _list(context: Context, policy: PolicyFile, given: Sequence[str]) -> None:
    if given:
        raise UsageError("`trust list` takes no names", hint=f"remove {given[0][:80]}")
    found = policy.read()
    if context.console.json:
        rules = [rule_to_dict(rule) for rule in found.rules]
        context.console.emit({"file": str(policy.path), "default": found.default, "rules": rules})
        return
    context.console.table(("MATCH", "MODE", "SIGNERS"), rule_rows(found))
    if not policy.path.exists():
        context.console.say(f"no policy yet: `modelrunner trust add` writes {policy.path}")


def _changed(context: Context, policy: PolicyFile, rule: Rule, what: str) -> None:
    if context.console.json:
        context.console.emit({"file": str(policy.path), "change": what, **rule_to_dict(rule)})
    else:
        context.console.say(f"{what}: {rule.match} {rule.mode} ({policy.path})")


def _test(context: Context, text: str) -> None:
    subject = find_subject(context.store, context.source_for, text, remote=not context.offline)
    ask = None if context.offline else context.registries.referrers_of
    path = context.settings.policy if context.settings.has_policy else None
    found = tested(path, context.store, ask, subject.name, subject.manifest)
    if context.console.json:
        name = None if subject.name is None else str(subject.name)
        context.console.emit({"reference": name, **found.to_dict()})
    else:
        for line in tested_lines(subject.shown, found):
            context.console.print(line)
    if not found.passes:
        raise CommandEnd(ExitStatus.INTEGRITY)


def _only(action: Action, given: Sequence[str], what: str) -> str:
    if len(given) != 1:
        raise UsageError(
            f"`trust {action}` needs {what}", hint="`modelrunner help trust` shows examples"
        )
    return given[0]
