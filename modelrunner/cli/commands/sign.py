"""`modelrunner sign`."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from modelrunner.cli.context import Context, command
from modelrunner.cli.options import CaFile, Timeout
from modelrunner.cli.parser.declared import Argument, Option
from modelrunner.cli.steps.attaching import attached_to_dict, hand_over
from modelrunner.cli.steps.network import limited_workspace
from modelrunner.cli.steps.signing import signed_by, signed_to_dict, signer
from modelrunner.errors import UsageError
from modelrunner.operations.trust.attach import NOT_STORED, find_subject
from modelrunner.operations.trust.sign import read_statement, sign


@command(
    examples="  modelrunner sign registry.example.com/team/model:1 --key cosign.key --push\n"
    "  modelrunner sign team/model:1 --key env:SIGNING_KEY\n"
    '  modelrunner sign team/model:1 --key "exec:./kms-sign --key-id models"\n'
    "  modelrunner sign ghcr.io/acme/model:1 --identity-token auto --push\n"
    "  modelrunner sign team/model:1 --key cosign.key --predicate slsa.json --type slsaprovenance",
)
def sign_model(
    context: Context,
    reference: Annotated[str, Argument(metavar="REF", help="Name or ID of a model.")],
    key: Annotated[
        str | None,
        Option(
            "--key",
            metavar="FILE|env:NAME|exec:PROGRAM",
            help="Private key in PEM format, from a file or a variable; or a program that gets a"
            " SHA-256 in hex on stdin and prints signature and public_key as JSON.",
        ),
    ] = None,
    identity_token: Annotated[
        str | None,
        Option(
            "--identity-token",
            metavar="FILE|env:NAME|-|auto",
            help="Sign without a key, for the identity of an OIDC token: from a file, a variable or"
            " stdin, or that of this pipeline. Identity and model appear in a public log.",
        ),
    ] = None,
    trust_config: Annotated[
        Path | None,
        Option(
            metavar="FILE",
            help="Sigstore trust configuration of your own instance (default: the public one).",
        ),
    ] = None,
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
    timeout: Timeout = None,
    ca_file: CaFile = None,
) -> None:
    """Sign a model, as cosign does, with a key or an identity.

    The signature goes wherever the model goes.
    """
    if kind is not None and predicate is None:
        raise UsageError("--type needs --predicate", hint="add --predicate FILE")
    context = context.over(limited_workspace(context, timeout, ca_file))
    statement = None if predicate is None else read_statement(predicate, kind)
    who = signer(context, key, identity_token, trust_config)
    subject = find_subject(
        context.store, context.source_for, reference, remote=push_, otherwise=NOT_STORED
    )
    attachment, bundle = sign(subject, who, statement, datetime.now(UTC))
    pushed = hand_over(context, subject, attachment, push=push_)
    if context.console.json:
        shown = attached_to_dict(subject, attachment, pushed=pushed)
        context.console.emit({**shown, **signed_to_dict(bundle)})
        return
    what = "signed" if statement is None else f"attested {statement.type} of"
    where = ", pushed to its registry" if pushed else ""
    made = f"{attachment.manifest.digest}{where}"
    context.console.print(f"{what} {subject.shown} {signed_by(bundle)}: {made}")
    if not pushed and subject.name is not None and not subject.name.is_local:
        context.console.say(
            f"the signature is in the local store; `modelrunner push {subject.name.short}` sends it"
        )
