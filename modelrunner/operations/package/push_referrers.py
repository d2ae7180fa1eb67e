"""What refers to a model goes along to its registry.

A registry with the referrers API says in its answer (`OCI-Subject`) that it has put a manifest into
the list of its subject. Another one keeps the list that a client writes under the tag
`sha256-HEX`, as the distribution specification asks of clients. What refers by a tag of cosign's is
pushed under it, unless the registry has something else there that ours does not hold.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from modelrunner.errors import (
    IntegrityError,
    ManifestNotFoundError,
    RegistryAnswerError,
    UnsupportedArtifactError,
)
from modelrunner.oci import media_types
from modelrunner.oci.digest import Digest
from modelrunner.oci.manifest import MAX_BYTES, Index, Manifest, parse_json
from modelrunner.oci.reference import Reference
from modelrunner.oci.referrers import Referrer, by_subject, list_of, referrers_tag
from modelrunner.registry.http.retry import Backoff
from modelrunner.registry.source import Sink


@dataclass(frozen=True, slots=True)
class PushedReferrers:
    """What became of that which refers to a model.

    Attributes:
        count: How many things the registry has now.
        problems: Why it has not the others.
    """

    count: int
    problems: tuple[str, ...] = ()


def push_referrers(
    sink: Sink,
    reference: Reference,
    digest: Digest,
    referrers: Sequence[Referrer],
    backoff: Backoff,
) -> PushedReferrers:
    """Push what refers to a model, and then what refers to that, whose blobs are there already.

    Raises:
        AccessError, TransferError: The registry does not answer.
    """
    count = 0
    problems: list[str] = []
    for subject, group in by_subject(digest, referrers):
        pushed = ReferrerPusher(sink, reference, subject, backoff).push(group)
        count += pushed.count
        problems += pushed.problems
    return PushedReferrers(count, tuple(dict.fromkeys(problems)))


@dataclass(frozen=True, slots=True)
class ReferrerPusher:
    """Pushes manifests that refer to a model, whose blobs are there already.

    Attributes:
        sink: Where they go.
        reference: The model's name there.
        digest: The model, or what they refer to instead.
        backoff: How often a request is tried again.
    """

    sink: Sink
    reference: Reference
    digest: Digest
    backoff: Backoff

    def push(self, referrers: Sequence[Referrer]) -> PushedReferrers:
        """Push them; what a registry refuses is returned, and does no harm to the model.

        Raises:
            AccessError, TransferError: The registry does not answer.
        """
        problems: list[str] = []
        unlisted: list[Referrer] = []
        count = 0
        for referrer in referrers:
            try:
                if referrer.tag is not None:
                    self._push_tagged(referrer.manifest, referrer.tag)
                elif not self._put(referrer.manifest):
                    unlisted.append(referrer)
            except (RegistryAnswerError, IntegrityError, UnsupportedArtifactError) as exc:
                problems.append(f"{referrer.artifact_type}: {exc.message}")
            else:
                count += 1
        if unlisted:
            try:
                self._list(unlisted)
            except (RegistryAnswerError, IntegrityError, UnsupportedArtifactError) as exc:
                problems.append(exc.message)
                count -= len(unlisted)
        return PushedReferrers(count, tuple(dict.fromkeys(problems)))

    def _put(self, manifest: Manifest) -> bool:
        """Push a manifest by its digest; whether the registry lists it as a referrer."""
        name = replace(self.reference, tag=None, digest=manifest.digest)
        subject = self.backoff.run(lambda: self.sink.push_manifest(name, manifest))
        return subject == self.digest

    def _push_tagged(self, manifest: Manifest, tag: str) -> None:
        there = self._at(tag)
        if there is not None and there.digest != manifest.digest:
            ours = set(manifest.layers)
            if not isinstance(there, Manifest) or not set(there.layers) <= ours:
                raise RegistryAnswerError(
                    f"{self.sink.name} has other signatures under the tag {tag}: they stay",
                    hint="pull the model with `--referrers all` first, and push it again",
                )
        elif there is not None:
            return
        name = replace(self.reference, tag=tag, digest=None)
        self.backoff.run(lambda: self.sink.push_manifest(name, manifest))

    def _list(self, referrers: Sequence[Referrer]) -> None:
        """Add to the list that the registry keeps under a tag."""
        tag = referrers_tag(self.digest)
        there = self._at(tag)
        entries: list[dict[str, object]] = []
        if isinstance(there, Index):
            # as they are: other tools may say more of theirs
            entries = parse_json(there.raw, "the list of referrers").get("manifests") or []
        elif there is not None:
            raise RegistryAnswerError(
                f"{self.sink.name} has something else than a list of referrers under the tag {tag}",
                hint=f"remove the tag {tag} from the repository, and push again",
            )
        known = {entry["digest"] for entry in entries}
        new = [each.to_dict() for each in referrers if str(each.digest) not in known]
        if not new:
            return
        raw = list_of([*entries, *new])
        if len(raw) > MAX_BYTES:
            raise RegistryAnswerError(
                f"the list of referrers under the tag {tag} would exceed {MAX_BYTES} bytes",
                hint="push to a registry with the referrers API",
            )
        name = replace(self.reference, tag=tag, digest=None)
        index = Index(raw, media_types.OCI_INDEX, ())
        self.backoff.run(lambda: self.sink.push_manifest(name, index))

    def _at(self, tag: str) -> Manifest | Index | None:
        try:
            return self.sink.manifest(replace(self.reference, tag=tag, digest=None))
        except ManifestNotFoundError:
            return None
