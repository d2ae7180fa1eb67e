"""Notes of what was verified, so that it need not be asked again: they load no cryptography."""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from modelrunner.disk.inside import open_inside
from modelrunner.lockfile.lock import LockedModel
from modelrunner.lockfile.signer import LockedSigner
from modelrunner.oci.digest import Digest


@dataclass(frozen=True, slots=True)
class Records:
    """A directory of notes: that a manifest has a signature by one of some signers.

    Attributes:
        directory: Where they are.
    """

    directory: Path

    def has(self, digest: Digest, signers: str) -> bool:
        """Whether a manifest was verified against these signers, by their fingerprint."""
        return self._path(digest, signers).exists()

    def note(self, digest: Digest, signers: str) -> None:
        """Note that it was; where nothing can be noted, it is asked again the next time."""
        with suppress(OSError):
            self.directory.mkdir(parents=True, exist_ok=True)
            open_inside(self._path(digest, signers), "append").close()

    def _path(self, digest: Digest, signers: str) -> Path:
        return self.directory / f"{digest.hex}-{signers}"


def fingerprint_of(
    keys: Iterable[str],
    authorities: Iterable[str] = (),
    identity: str | None = None,
    issuer: str | None = None,
    trusted_root: str | None = None,
) -> str:
    """The same for the same signers, in hex.

    Args:
        keys: Fingerprints of keys.
        authorities: Those of certificates of authorities; of timestamps after `tsa `.
        identity: Whom a certificate names.
        issuer: Who says so.
        trusted_root: The SHA-256 of the trusted root, in hex.
    """
    said = "\n".join([*sorted(keys), *authorities, identity or "", issuer or ""])
    if trusted_root is not None:
        said += f"\n{trusted_root}"
    return sha256(said.encode()).hexdigest()[:16]


def fingerprint_of_locked(signer: LockedSigner) -> str:
    """The same for a signer that a lock records."""
    if signer.key is not None:
        return fingerprint_of([signer.key])
    if signer.ca is not None:
        clocks = sorted(f"tsa {sha256(each).hexdigest()}" for each in signer.tsa)
        return fingerprint_of((), [signer.ca, *clocks], signer.identity)
    return fingerprint_of((), (), signer.identity, signer.issuer, signer.trusted_root)


def all_noted(records: Records, locked: LockedModel) -> bool:
    """Whether all signers of a locked model were verified before."""
    digest = locked.manifest.digest
    return all(records.has(digest, fingerprint_of_locked(signer)) for signer in locked.signed)
