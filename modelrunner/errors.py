"""Every way this program fails on purpose, and the exit code of each.

```
ModelRunnerError                          1
+ UsageError                              2   options that contradict each other
  + InvalidReferenceError                     a name that is no model reference
  + ConfigError                               config.toml, the environment, the store's place
    + StoreVersionError                       a store that a newer modelrunner wrote
    + StoreAccessError                        a store that may not be written
+ NotFoundError                           3
  + ModelNotFoundError                        no such model in the store
  + ManifestNotFoundError                     no such tag, digest or repository in the registry
  + CardNotFoundError
+ AccessError                             4
  + UnauthorizedError                         login needed, or not found: registries do not say
  + DeniedError                               logged in, but not allowed
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
  + MalformedManifestError, MalformedGGUFError
  + CorruptStoreError
    + RemovedMeanwhileError                   another process has removed what a model needs
  + UnverifiedError                           nobody has signed it whom the policy names
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

A message is a lower-case sentence without a period that names the thing; a hint is something to do.
"""

from collections.abc import Mapping
from copy import copy
from enum import IntEnum
from typing import ClassVar, Self

Fact = str | int | float | bool | None | list[str]


class ExitStatus(IntEnum):
    """What the shell sees: a promise to scripts, see the command line's contract."""

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
    """The root: everything that this program raises on purpose.

    Args:
        message: A lower-case sentence without a period that names the thing.
        hint: What to do next, where something is known to help.
        facts: What a script wants to know, by name; shown with `--json`.
    """

    exit_code: ClassVar[ExitStatus] = ExitStatus.FAILURE
    code: ClassVar[str] = "failure"
    retryable: ClassVar[bool] = False
    default_hint: ClassVar[str | None] = None
    """What helps with any error of the class, where the place that raises it knows no better."""

    def __init__(self, message: str, *, hint: str | None = None, **facts: Fact) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint or self.default_hint
        self.facts: Mapping[str, Fact] = facts

    def with_hint(self, hint: str | None, **more: Fact) -> Self:
        """Return the same error with another hint, and with more facts."""
        changed = copy(self)
        changed.hint = hint
        changed.facts = {**self.facts, **more}
        return changed

    def to_dict(self) -> dict[str, Fact]:
        """The error as one JSON object: code, message, hint, retryable, then the facts."""
        return {
            "code": self.code,
            "message": self.message,
            "hint": self.hint,
            "retryable": self.retryable,
            **self.facts,
        }


class UsageError(ModelRunnerError):
    """The command line contradicts itself, or asks for what cannot be."""

    exit_code = ExitStatus.USAGE
    code = "usage"


class InvalidReferenceError(UsageError):
    """The text is no model reference."""

    code = "invalid_reference"


class ConfigError(UsageError):
    """The configuration file, the environment or a place on disk is not usable."""

    code = "invalid_configuration"


class StoreVersionError(ConfigError):
    """A newer modelrunner wrote this store."""

    code = "store_version"


class StoreAccessError(ConfigError):
    """The store or its folder may not be written or read."""

    code = "store_access"


class NotFoundError(ModelRunnerError):
    """What was named does not exist."""

    exit_code = ExitStatus.NOT_FOUND
    code = "not_found"


class ModelNotFoundError(NotFoundError):
    """The store has no such model."""

    code = "model_not_found"
    default_hint = "`modelrunner list` lists the models of the local store"


class ManifestNotFoundError(NotFoundError):
    """The registry has no such tag, digest or repository.

    Attributes:
        missing: `tag`, `repository`, `manifest` or `blob`; None where that is not known.
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
    """The catalogue has no card for this model."""

    code = "card_not_found"
    default_hint = "`modelrunner cards` lists the catalog"


class AccessError(ModelRunnerError):
    """The registry wants to know who asks, or says no."""

    exit_code = ExitStatus.ACCESS
    code = "access"
    default_hint = "log in with `modelrunner login REGISTRY`"


class UnauthorizedError(AccessError):
    """Login needed; Docker Hub says the same of repositories that do not exist."""

    code = "unauthorized"


class DeniedError(AccessError):
    """The login is known, and not allowed."""

    code = "denied"


class TransferError(ModelRunnerError):
    """Bytes did not come: network, registry, limits. Trying again may help.

    Attributes:
        retry_after_s: Seconds that the registry asks to wait; None where it does not say.
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
    """The registry answered with something that it should not."""

    code = "registry_answer"
    retryable = False
    default_hint = "check the address and the proxy; `--debug` logs every request"


class RequestTooLargeError(RegistryAnswerError):
    """The registry, or a proxy in front of it, takes no request of that size."""

    code = "request_too_large"
    default_hint = (
        "raise the size limit for requests in the proxy in front of the registry "
        "(nginx: `client_max_body_size`)"
    )


class RateLimitedError(TransferError):
    """The registry asks for patience."""

    code = "rate_limited"


class DeadlineError(TransferError):
    """It takes longer than was allowed."""

    code = "deadline"


class RangesUnsupportedError(TransferError):
    """The source delivers whole files only, or says nonsense about parts."""

    code = "ranges_unsupported"
    retryable = False
    default_hint = "pull from another registry or mirror: this one does not support byte ranges"


class InterruptedTransferError(TransferError):
    """A body broke off before its end."""

    code = "interrupted_transfer"


class PartRefusedError(InterruptedTransferError):
    """A part of a file was refused: the next try asks anew, a later one for the whole."""

    code = "part_refused"


class CanceledByUserError(ModelRunnerError):
    """Ctrl-C, SIGTERM or SIGHUP has ended the command."""

    exit_code = ExitStatus.INTERRUPTED
    code = "interrupted"
    retryable = True
    default_hint = "run the same command again"


class IntegrityError(ModelRunnerError):
    """Bytes are not what their name says."""

    exit_code = ExitStatus.INTEGRITY
    code = "integrity"
    default_hint = "download it again; if it fails again, report it to its publisher"


class DigestMismatchError(IntegrityError):
    """The content hashes to something else.

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
    """The content is longer or shorter than its descriptor says."""

    code = "size_mismatch"


class MalformedManifestError(IntegrityError):
    """A manifest, index or config that breaks its specification."""

    code = "malformed_manifest"
    default_hint = "the artifact is broken: report it to its publisher"


class MalformedGGUFError(IntegrityError):
    """A file that is no GGUF, or a hostile one."""

    code = "malformed_gguf"
    default_hint = "download the file again, or convert the model again"


class CorruptStoreError(IntegrityError):
    """The store on disk is not what its index says."""

    code = "corrupt_store"
    default_hint = "run `modelrunner verify --deep` to find the damage, then pull that model again"


class RemovedMeanwhileError(CorruptStoreError):
    """Another process has removed a blob that a model was about to be named with."""

    code = "removed_meanwhile"
    retryable = True
    default_hint = "run the same command again: only missing blobs are downloaded"


class UnverifiedError(IntegrityError):
    """Nobody whom the policy names has signed it."""

    code = "unverified"


class CapacityError(ModelRunnerError):
    """There is not enough room."""

    exit_code = ExitStatus.CAPACITY
    code = "capacity"


class DoesNotFitError(CapacityError):
    """The model needs more memory than there is, or than was allowed."""

    code = "does_not_fit"


class DiskFullError(CapacityError):
    """The disk is full, or would be."""

    code = "disk_full"
    default_hint = "free some space: `modelrunner df`, `modelrunner prune`"


class ContextExceededError(CapacityError):
    """The prompt is longer than the context that the model was started with."""

    code = "context_exceeded"


class AnswerCutError(CapacityError):
    """An answer that has to be whole to be of use was cut."""

    code = "answer_cut"


class LaunchError(ModelRunnerError):
    """No runtime came up."""

    exit_code = ExitStatus.RUNTIME
    code = "launch"
    default_hint = "`modelrunner doctor` checks the runtimes"


class RuntimeUnavailableError(LaunchError):
    """No runtime is installed that could do it."""

    code = "runtime_unavailable"


class RuntimeFailedError(LaunchError):
    """The runtime did not start, refused the model, or died.

    Attributes:
        broke_off: Whether a server ended amid its work.
        unsupported: Whether the runtime will never run this model.
        server_message: What the server itself said; None where it said nothing.
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
    """Somebody else listens there."""

    code = "port_in_use"


class LockError(ModelRunnerError):
    """Intent, lock and store disagree."""

    exit_code = ExitStatus.LOCK
    code = "lock"
    default_hint = "`modelrunner lock --check` compares modelrunner.lock with modelrunner.toml"


class LockOutdatedError(LockError):
    """The lock does not satisfy the intent."""

    code = "lock_outdated"


class NotInStoreError(LockError):
    """Something is missing here, and the network was ruled out."""

    code = "not_in_store"


class UnsupportedArtifactError(ModelRunnerError):
    """A real artifact, but none that this program can run."""

    exit_code = ExitStatus.UNSUPPORTED
    code = "unsupported_artifact"
    default_hint = "`modelrunner search` finds models in GGUF format"
