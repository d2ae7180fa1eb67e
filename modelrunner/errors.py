"""The errors that this program raises on purpose, and the exit code of each.

```
ModelRunnerError                          1
+ UsageError                              2   options that cannot be combined
  + InvalidReferenceError                     a name that is not a valid model reference
  + CacheTypeError                            a type of KV cache that llama.cpp lacks for a model
  + ConfigError                               config.toml, the environment, the store's place
    + StoreVersionError                       a store that a newer modelrunner wrote
    + StoreAccessError                        a store that may not be written
+ NotFoundError                           3
  + ModelNotFoundError                        no such model in the store
  + ManifestNotFoundError                     no such tag, digest or repository in the registry
  + AppNotFoundError, CardNotFoundError
+ AccessError                             4
  + UnauthorizedError                         login needed, or not found: registries do not say
  + DeniedError                               logged in, but not allowed
  + SigningKeyError                           a private key that does not sign
  + IdentityTokenError                        a token of an identity provider that does not count
+ TransferError                           5
  + RegistryUnavailableError                  cannot be reached
  + RegistryAnswerError                       answers what it should not
    + RequestTooLargeError                    takes no request of that size
  + RateLimitedError
  + InterruptedTransferError                  broke off in the middle
    + PartRefusedError                        a part of a file was refused
  + RangesUnsupportedError                    delivers whole files only
  + DeadlineError                             takes longer than was allowed
+ IntegrityError                          6
  + DigestMismatchError, SizeMismatchError
  + MalformedManifestError, MalformedSafetensorsError, MalformedGGUFError
    + HeaderTooLongError                      a header of more than 16 MiB
  + CorruptStoreError
    + RemovedMeanwhileError                   another process has removed what a model needs
  + UnverifiedError                           no signature of a signer that the policy names
+ CapacityError                           7
  + DoesNotFitError, DiskFullError
  + ContextExceededError                      a prompt longer than the model's context
  + AnswerCutError                            an answer that had to be whole was cut
+ LaunchError                             8
  + RuntimeUnavailableError                   none installed
  + RuntimeFailedError                        did not start, refused the model, died
  + PortInUseError
+ CanceledByUserError                   130   Ctrl-C; 143 and 129 for SIGTERM and SIGHUP
+ LockError                               9
  + LockOutdatedError, NotInStoreError
+ UnsupportedArtifactError               10   what it is, and what would run it
```

A message is a lower-case sentence without a period that names the thing; a hint is one action.
"""

from collections.abc import Mapping
from enum import IntEnum
from typing import ClassVar, Self

Fact = str | int | float | bool | None | list[str]


class ExitStatus(IntEnum):
    """The exit codes of the command line; scripts can rely on them."""

    OK = 0
    FAILURE = 1
    USAGE = 2
    NOT_FOUND = 3
    ACCESS = 4
    TRANSFER = 5
    INTEGRITY = 6
    CAPACITY = 7
    RUNTIME = 8
    LOCK = 9
    UNSUPPORTED = 10
    INTERRUPTED = 130


def _given(**facts: Fact) -> dict[str, Fact]:
    """Those of some facts that are there."""
    return {name: value for name, value in facts.items() if value is not None}


class ModelRunnerError(Exception):
    """The base class of all errors that this program raises on purpose.

    Args:
        message: A lower-case sentence without a period that names the thing.
        hint: One action that helps; None for that of the class, if it has one.
        facts: Values for scripts, by name; shown with `--json`.
    """

    exit_code: ClassVar[ExitStatus] = ExitStatus.FAILURE
    code: ClassVar[str] = "failure"
    retryable: ClassVar[bool] = False
    default_hint: ClassVar[str | None] = None
    """The hint of errors that are raised without one."""

    def __init__(self, message: str, *, hint: str | None = None, **facts: Fact) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint or self.default_hint
        self.facts: Mapping[str, Fact] = facts

    def with_hint(self, hint: str | None, **more: Fact) -> Self:
        """Return the same error with another hint, and with more facts."""
        changed = self._copied()
        changed.hint = hint
        changed.facts = {**self.facts, **more}
        return changed

    def about(self, thing: str) -> Self:
        """Return the same error with what it is about before its message."""
        changed = self._copied()
        changed.message = f"{thing}: {self.message}"
        changed.args = (changed.message,)
        return changed

    def _copied(self) -> Self:
        # every start loads this module, and few errors are changed
        from copy import copy

        return copy(self)

    def to_dict(self) -> dict[str, Fact]:
        """Return the error as one JSON object: code, message, hint, retryable, then the facts."""
        return {
            "code": self.code,
            "message": self.message,
            "hint": self.hint,
            "retryable": self.retryable,
            **self.facts,
        }


class UsageError(ModelRunnerError):
    """Invalid arguments, or options that cannot be combined."""

    exit_code = ExitStatus.USAGE
    code = "usage"


class InvalidReferenceError(UsageError):
    """The text is not a valid model reference."""

    code = "invalid_reference"


class CacheTypeError(UsageError):
    """llama.cpp does not have the type of the KV cache for a model."""

    code = "cache_type"


class ConfigError(UsageError):
    """The configuration file, an environment variable or a path is invalid.

    Attributes:
        ca_file: The configured file of certificates, if the error is that it does not exist.
    """

    code = "invalid_configuration"

    def __init__(
        self, message: str, *, hint: str | None = None, ca_file: str | None = None, **facts: Fact
    ) -> None:
        super().__init__(message, hint=hint, **facts, **_given(ca_file=ca_file))
        self.ca_file = ca_file


class StoreVersionError(ConfigError):
    """A newer modelrunner wrote this store."""

    code = "store_version"


class StoreAccessError(ConfigError):
    """The store cannot be read or written."""

    code = "store_access"


class NotFoundError(ModelRunnerError):
    """Something that was named does not exist."""

    exit_code = ExitStatus.NOT_FOUND
    code = "not_found"


class ModelNotFoundError(NotFoundError):
    """The store has no such model."""

    code = "model_not_found"
    default_hint = "`modelrunner list` lists the models of the local store"


class ManifestNotFoundError(NotFoundError):
    """The registry has no such tag, digest or repository.

    Attributes:
        missing: `tag`, `repository`, `manifest` or `blob`; None if unknown.
    """

    code = "manifest_not_found"
    default_hint = "check the name and the tag: `modelrunner search` finds models"

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        missing: str | None = None,
        **facts: Fact,
    ) -> None:
        super().__init__(message, hint=hint, **facts, **_given(missing=missing))
        self.missing = missing


class CardNotFoundError(NotFoundError):
    """The catalog has no card for this model."""

    code = "card_not_found"
    default_hint = "`modelrunner cards` lists the catalog"


class AppNotFoundError(NotFoundError):
    """An app that is to be started is not installed."""

    code = "app_not_found"


class AccessError(ModelRunnerError):
    """The registry requires a login, or denies access."""

    exit_code = ExitStatus.ACCESS
    code = "access"
    default_hint = "log in with `modelrunner login REGISTRY`"


class UnauthorizedError(AccessError):
    """A login is needed; Docker Hub answers the same for repositories that do not exist."""

    code = "unauthorized"


class DeniedError(AccessError):
    """The login is valid, but has no access."""

    code = "denied"


class SigningKeyError(AccessError):
    """A private key, or the program that holds it, does not sign."""

    code = "signing_key"


class IdentityTokenError(AccessError):
    """A token of an identity provider cannot be used, or is refused."""

    code = "identity_token"


class TransferError(ModelRunnerError):
    """A transfer failed: network, registry, limits. A retry may help.

    Attributes:
        retry_after_s: Seconds to wait, as the registry asks; None if it does not.
    """

    exit_code = ExitStatus.TRANSFER
    code = "transfer"
    retryable = True
    default_hint = "run the same command again to resume: the partial download is kept"

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        retry_after_s: float | None = None,
        **facts: Fact,
    ) -> None:
        super().__init__(message, hint=hint, **facts, **_given(retry_after_s=retry_after_s))
        self.retry_after_s = retry_after_s


class RegistryUnavailableError(TransferError):
    """The registry cannot be reached."""

    code = "registry_unavailable"
    default_hint = "check the name, the network and the proxy"


class RegistryAnswerError(TransferError):
    """The registry sent an invalid response."""

    code = "registry_answer"
    retryable = False
    default_hint = "check the address and the proxy; `--debug` logs every request"


class RequestTooLargeError(RegistryAnswerError):
    """The registry, or a proxy in front of it, refuses requests of that size."""

    code = "request_too_large"
    default_hint = (
        "raise the size limit for requests in the proxy in front of the registry "
        "(nginx: `client_max_body_size`)"
    )


class RateLimitedError(TransferError):
    """A rate limit of the registry is reached."""

    code = "rate_limited"


class DeadlineError(TransferError):
    """The time limit was exceeded."""

    code = "deadline"


class RangesUnsupportedError(TransferError):
    """The source delivers whole files only, or sends invalid ranges."""

    code = "ranges_unsupported"
    retryable = False
    default_hint = "pull from another registry or mirror: this one does not support byte ranges"


class InterruptedTransferError(TransferError):
    """A response ended early."""

    code = "interrupted_transfer"


class PartRefusedError(InterruptedTransferError):
    """A part of a file was refused: the next try asks again, a later one for the whole."""

    code = "part_refused"


class CanceledByUserError(ModelRunnerError):
    """Ctrl-C, SIGTERM or SIGHUP ended the command."""

    exit_code = ExitStatus.INTERRUPTED
    code = "interrupted"
    retryable = True
    default_hint = "run the same command again"


class IntegrityError(ModelRunnerError):
    """Content does not match its digest, its size or its format."""

    exit_code = ExitStatus.INTEGRITY
    code = "integrity"
    default_hint = "download it again; if it fails again, report it to its publisher"


class DigestMismatchError(IntegrityError):
    """The content does not match its digest.

    Attributes:
        places: The hosts that parts of the content came from.
    """

    code = "digest_mismatch"

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        places: list[str] | None = None,
        **facts: Fact,
    ) -> None:
        super().__init__(message, hint=hint, **facts, **_given(places=places))
        self.places = tuple(places or ())


class SizeMismatchError(IntegrityError):
    """The content does not have the size of its descriptor."""

    code = "size_mismatch"


class MalformedManifestError(IntegrityError):
    """A manifest, index or config is invalid."""

    code = "malformed_manifest"
    default_hint = "the artifact is broken: report it to its publisher"


class MalformedGGUFError(IntegrityError):
    """A file is not GGUF, or is malformed."""

    code = "malformed_gguf"
    default_hint = "download the file again, or convert the model again"


class MalformedSafetensorsError(IntegrityError):
    """A file is not safetensors, or is malformed; or the model's `config.json` is."""

    code = "malformed_safetensors"
    default_hint = "download the file again, or ask its publisher to upload it again"


class HeaderTooLongError(MalformedGGUFError):
    """A header is longer than what is read of one: nothing is known to be wrong with it."""

    code = "header_too_long"


class CorruptStoreError(IntegrityError):
    """The store does not match its index."""

    code = "corrupt_store"
    default_hint = "run `modelrunner verify --deep` to find the damage, then pull that model again"


class RemovedMeanwhileError(CorruptStoreError):
    """Another process removed a blob of a model before it got its name."""

    code = "removed_meanwhile"
    retryable = True
    default_hint = "run the same command again: only missing blobs are downloaded"


class UnverifiedError(IntegrityError):
    """No signature of a signer that the policy names."""

    code = "unverified"


class CapacityError(ModelRunnerError):
    """Not enough memory, disk space or context."""

    exit_code = ExitStatus.CAPACITY
    code = "capacity"


class DoesNotFitError(CapacityError):
    """The model needs more memory than is available or allowed."""

    code = "does_not_fit"


class DiskFullError(CapacityError):
    """The disk is full, or would become so."""

    code = "disk_full"
    default_hint = "free some space: `modelrunner df`, `modelrunner prune`"


class ContextExceededError(CapacityError):
    """The prompt is longer than the context of the running model."""

    code = "context_exceeded"


class AnswerCutError(CapacityError):
    """An answer that must be complete was cut off."""

    code = "answer_cut"


class LaunchError(ModelRunnerError):
    """A runtime is not available, or failed."""

    exit_code = ExitStatus.RUNTIME
    code = "launch"
    default_hint = "`modelrunner doctor` checks the runtimes"


class RuntimeUnavailableError(LaunchError):
    """No installed runtime can do this.

    Attributes:
        installable: The argument of `runtimes install` that helps; None where none does.
    """

    code = "runtime_unavailable"

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        installable: str | None = None,
        **facts: Fact,
    ) -> None:
        super().__init__(message, hint=hint, **facts)
        self.installable = installable


class RuntimeFailedError(LaunchError):
    """The runtime did not start, refused the model, or died.

    Attributes:
        broke_off: Whether a server ended during an answer.
        unsupported: Whether the runtime will never run this model.
        server_message: The error message of the server, if it sent one.
    """

    code = "runtime_failed"

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        broke_off: bool | None = None,
        unsupported: bool | None = None,
        server_message: str | None = None,
        **facts: Fact,
    ) -> None:
        super().__init__(
            message,
            hint=hint,
            **facts,
            **_given(broke_off=broke_off, unsupported=unsupported, told=server_message),
        )
        self.broke_off = broke_off is True
        self.unsupported = unsupported is True
        self.server_message = server_message


class PortInUseError(LaunchError):
    """Another process listens on the port."""

    code = "port_in_use"


class LockError(ModelRunnerError):
    """`modelrunner.toml`, `modelrunner.lock` and the store disagree."""

    exit_code = ExitStatus.LOCK
    code = "lock"
    default_hint = "`modelrunner lock --check` compares modelrunner.lock with modelrunner.toml"


class LockOutdatedError(LockError):
    """`modelrunner.lock` does not satisfy `modelrunner.toml`.

    Attributes:
        disagreements: Each as `FILE:LINE: TEXT`.
    """

    code = "lock_outdated"

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        disagreements: list[str] | None = None,
        **facts: Fact,
    ) -> None:
        super().__init__(message, hint=hint, **facts, **_given(disagreements=disagreements))
        self.disagreements = tuple(disagreements or ())


class NotInStoreError(LockError):
    """Something is not in the local store, and the network must not be used."""

    code = "not_in_store"


class UnsupportedArtifactError(ModelRunnerError):
    """A valid artifact that this program cannot run."""

    exit_code = ExitStatus.UNSUPPORTED
    code = "unsupported_artifact"
    default_hint = "`modelrunner search` finds models in GGUF format"
