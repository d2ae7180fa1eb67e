"""Who signs: a key or an identity, as options name them."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from modelrunner.cli.context import Context
from modelrunner.errors import UsageError
from modelrunner.provenance.signing import KeySigner, SignedBundle, StatementSigner

if TYPE_CHECKING:
    from modelrunner.operations.documents import PackageDocuments

_PASSWORD = "COSIGN_PASSWORD"  # noqa: S105 - the name of a variable


def signer(
    context: Context, key: str | None, identity_token: str | None, trust_config: Path | None
) -> StatementSigner:
    """Return who signs.

    Raises:
        UsageError: Nobody is named, or two are.
        AccessError: The key cannot be used, or the token.
        NotInStoreError: An identity needs the network, which is ruled out.
    """
    if (key is None) == (identity_token is None):
        got = "neither" if key is None else "both"
        raise UsageError(
            f"sign needs --key or --identity-token, got {got}",
            hint="give --key FILE, or --identity-token FILE for a signature without a key",
        )
    if identity_token is None:
        if trust_config is not None:
            raise UsageError(
                "--trust-config needs --identity-token", hint="remove it: a key needs no instance"
            )
        # a signature by identity does without it
        from modelrunner.provenance.signing_keys import signing_key

        assert key is not None  # noqa: S101 - one of the two is there
        return KeySigner(signing_key(key, context.environ, lambda name: _password(context, name)))
    # a signature with a key needs no services
    from modelrunner.operations.trust.keyless import identity_signer
    from modelrunner.registry.services import ServiceClient

    context.require_network("--identity-token")
    registries = context.registries
    client = ServiceClient(registries.ca_file, registries.backoff)
    return identity_signer(
        identity_token, trust_config, context.environ, sys.stdin.buffer.read, client
    )


def documents_wanted(
    context: Context, sboms: Sequence[str], sign_key: str | None, *, provenance: bool
) -> "PackageDocuments | None":
    """Return the documents that a package gets; None for none.

    Raises:
        UsageError: There is a key, and nothing to sign.
        AccessError: The key cannot be used.
    """
    if not sboms and not provenance:
        if sign_key is not None:
            raise UsageError(
                "--sign-key needs --sbom or --provenance",
                hint="sign the model itself with `modelrunner sign`",
            )
        return None
    # most packages have no documents
    from modelrunner.operations.documents import FORMS, PackageDocuments

    who = None if sign_key is None else signer(context, sign_key, None, None)
    # the option has no other values
    return PackageDocuments([form for form in FORMS if form in sboms], provenance, who)


def signed_to_dict(bundle: SignedBundle) -> dict[str, object]:
    """Return who has signed what, as keys of a JSON object."""
    return {
        "predicate_type": bundle.predicate_type,
        "key": bundle.public.fingerprint,
        "identity": bundle.identity,
        "issuer": bundle.issuer,
    }


def signed_by(bundle: SignedBundle) -> str:
    """Return who has signed, for people."""
    if bundle.identity is None:
        return f"with key {bundle.public.fingerprint[:16]}"
    return f"as {bundle.identity}" + (f" of {bundle.issuer}" if bundle.issuer else "")


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
