"""`modelrunner sign`."""

import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from modelrunner.cli.context import Context, command
from modelrunner.cli.parser.declared import Argument, Option
from modelrunner.cli.steps.attaching import attached_to_dict, hand_over
from modelrunner.errors import UsageError
from modelrunner.operations.trust.attach import NOT_STORED, find_subject
from modelrunner.operations.trust.sign import read_statement, sign
from modelrunner.provenance.signing_keys import signing_key

_PASSWORD = "COSIGN_PASSWORD"  # noqa: S105 - the name of a variable


@command(
    examples="  modelrunner sign registry.example.com/team/model:1 --key cosign.key --push\n"
    "  modelrunner sign team/model:1 --key env:SIGNING_KEY\n"
    '  modelrunner sign team/model:1 --key "exec:./kms-sign --key-id models"\n'
    "  modelrunner sign team/model:1 --key cosign.key --predicate slsa.json --type slsaprovenance",
)
def sign_model(
    context: Context,
    reference: Annotated[str, Argument(metavar="REF", help="Name or ID of a model.")],
    key: Annotated[
        str,
        Option(
            "--key",
            metavar="FILE|env:NAME|exec:PROGRAM",
            help="Private key in PEM format, from a file or a variable; or a program that gets a"
            " SHA-256 in hex on stdin and prints signature and public_key as JSON.",
        ),
    ],
    predicate: Annotated[
        Path | None,
        Option(metavar="FILE", help="Sign an attestation: a predicate in JSON, with --type."),
    ] = None,
    kind: Annotated[
        str | None,
        Option(
            "--type",
            metavar="TYPE",
            help="Type of the predicate: slsaprovenance, spdx, cyclonedx, openvex, or a URI.",
        ),
    ] = None,
    push_: Annotated[
        bool, Option("--push", help="Push the signature to the model's registry now.")
    ] = False,
) -> None:
    """Sign a model with a key, as cosign does. The signature goes wherever the model goes."""
    if kind is not None and predicate is None:
        raise UsageError("--type needs --predicate", hint="add --predicate FILE")
    statement = None if predicate is None else read_statement(predicate, kind)
    holder = signing_key(key, context.environ, lambda name: _password(context, name))
    subject = find_subject(
        context.store, context.source_for, reference, remote=push_, otherwise=NOT_STORED
    )
    attachment, bundle = sign(subject, holder, statement, datetime.now(UTC))
    pushed = hand_over(context, subject, attachment, push=push_)
    if context.console.json:
        context.console.emit(
            {
                **attached_to_dict(subject, attachment, pushed=pushed),
                "predicate_type": bundle.predicate_type,
                "key": bundle.public.fingerprint,
            }
        )
        return
    what = "signed" if statement is None else f"attested {statement.type} of"
    by = f"with key {bundle.public.fingerprint[:16]}"
    where = ", pushed to its registry" if pushed else ""
    context.console.print(f"{what} {subject.shown} {by}: {attachment.manifest.digest}{where}")
    if not pushed and subject.name is not None and not subject.name.is_local:
        context.console.say(
            f"the signature is in the local store; `modelrunner push {subject.name.short}` sends it"
        )


def _password(context: Context, name: str) -> bytes:
    """Return the password of a key, from the environment or the person."""
    found = context.environ.get(_PASSWORD)
    if found is not None:
        return os.fsencode(found)
    if not sys.stdin.isatty():
        raise UsageError(
            f"the private key {name} is encrypted, and stdin is not a terminal",
            hint=f"set {_PASSWORD} to its password",
        )
    # most keys of pipelines are not asked for
    from getpass import getpass

    return getpass(f"Password of {name}: ").encode()
