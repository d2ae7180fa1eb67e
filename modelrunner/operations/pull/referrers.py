"""What refers to a model, fetched beside its weights and kept with it.

It is fetched by a thread of its own while the weights arrive, within limits of bytes and time, and
no failure of it is one of the pull: a registry may have no such thing, or may be broken.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from threading import Lock, Thread

from modelrunner.errors import DeadlineError, ModelRunnerError, UnsupportedArtifactError
from modelrunner.frozen import frozen, record
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.digest import Digest
from modelrunner.oci.reference import Reference
from modelrunner.oci.referrers import (
    DEEPEST,
    MOST_SUBJECTS,
    Referrer,
    ReferrerChoice,
    is_signature,
    refers_to,
)
from modelrunner.registry.oci.referrers import Allowance, NotLookedAt, ReferrerPlace
from modelrunner.store.store import Store
from modelrunner.system.log import Log

_PATIENCE_S = 1.0
"""Time after the limit in which a request may end by itself."""

_log = Log(__name__)


@frozen
class ReferrersKept:
    """What became of that which refers to a model.

    Attributes:
        count: How many things are kept with the model that were asked for.
        size: Their bytes.
        left_out: Why some are not there: a limit; None where all were looked at.
        problem: Why some are not there: what failed; None where nothing did.
        is_asked_for: Whether it was not fetched by default.
    """

    count: int
    size: int
    left_out: str | None = None
    problem: str | None = None
    is_asked_for: bool = False

    def to_dict(self) -> dict[str, object]:
        """Return it as JSON has it."""
        return {
            "kept": self.count,
            "size_bytes": self.size,
            "left_out": self.left_out,
            "problem": self.problem,
        }


def allowance_for(wanted: ReferrerChoice) -> Allowance:
    """How much may be spent on what nobody has to wait for, or on all of it where that was said."""
    if wanted == "all":
        return Allowance(size=1024 * 1024 * 1024, seconds=120.0)
    return Allowance(size=16 * 1024 * 1024, seconds=10.0)


@record
class ReferrerFetch:
    """What refers to one model, on its way into the store; `start`, then `finish`.

    Attributes:
        store: Where it goes; nothing sweeps there between the two.
        ask: Opens who may have it.
        reference: What the model is called.
        digest: The model.
        wanted: What of it is fetched.
        allowance: How much may be spent.
        is_asked_for: Whether it is not fetched by default.
    """

    store: Store
    ask: Callable[[Reference, Allowance], Sequence[ReferrerPlace]]
    reference: Reference
    digest: Digest
    wanted: ReferrerChoice
    allowance: Allowance
    is_asked_for: bool = False

    def __post_init__(self) -> None:
        self._found: list[Referrer] = []
        self._left_out: str | None = None
        self._problem: str | None = None
        self._lock = Lock()
        self._is_over = False

    def start(self) -> None:
        """Begin in a thread of its own."""
        self._thread = Thread(target=self._run, name="referrers", daemon=True)
        self._thread.start()

    def finish(self) -> tuple[Sequence[Referrer], ReferrersKept]:
        """Wait until all is there or a limit is reached; return what has come, and the result."""
        left = self.allowance.deadline - self.allowance.clock()
        self._thread.join(max(0.0, left) + _PATIENCE_S)
        with self._lock:
            # whatever comes after this is not counted any more
            self._is_over = True
            found = tuple(self._found)
            left_out = self._left_out
            if self._thread.is_alive():
                limit = f"{self.allowance.seconds:g} s"
                left_out = f"only {len(found)} referrers were read: limit of {limit}"
        size = sum(one.size for one in found)
        kept = ReferrersKept(len(found), size, left_out, self._problem, self.is_asked_for)
        return found, kept

    def _run(self) -> None:
        try:
            self._fetch()
        except Exception as exc:  # noqa: BLE001 - whatever a registry sends, the pull goes on
            _log.info("what refers to %s: %r", self.reference.short, exc, exc_info=True)
            self._problem = self._problem or f"{type(exc).__name__}"

    def _fetch(self) -> None:
        try:
            places = self.ask(self.reference, self.allowance)
        except UnsupportedArtifactError as exc:
            # the place keeps no such thing
            _log.info("%s", exc)
            return
        except ModelRunnerError as exc:
            self._problem = exc.message
            return
        with ExitStack() as stack:
            for place in places:
                stack.callback(place.source.close)
            is_answered = False
            for place in places:
                if self._found or self._is_over:
                    return
                if is_answered and place.reference == self.reference and not self.is_asked_for:
                    # a mirror's answer is as good as its registry's, which may be out of reach
                    continue
                try:
                    self._fetch_from(place)
                    is_answered = True
                except ModelRunnerError as exc:
                    _log.info("%s: %s", place.source.name, exc)
                    limit = self.allowance.reached
                    if limit is not None:
                        self._left_out = f"{exc.message}: limit of {limit}"
                        return
                    self._problem = self._problem or exc.message

    def _fetch_from(self, place: ReferrerPlace) -> None:
        level = self._fetch_about(place, self.digest)
        if self.wanted != "all":
            return
        # a tag may say that the model refers to itself
        asked = {self.digest}
        for _ in range(DEEPEST - 1):
            following: list[Digest] = []
            for digest in level:
                if self._left_out is not None:
                    # not even the nearest are all there
                    return
                if digest in asked:
                    # by a subject nothing refers to itself, but a tag may say anything
                    continue
                if len(asked) > MOST_SUBJECTS:
                    self._left_out = (
                        f"only {MOST_SUBJECTS} referrers were asked what refers to them"
                    )
                    return
                asked.add(digest)
                following += self._fetch_about(place, digest)
            level = following

    def _fetch_about(self, place: ReferrerPlace, digest: Digest) -> list[Digest]:
        """Fetch what refers to a manifest; return what has come."""
        came: list[Digest] = []
        for referrer in self._referrers(place, digest):
            blobs = referrer.manifest.blobs
            if sum(blob.size for blob in blobs) > self.allowance.left:
                size = f"{self.allowance.size // (1024 * 1024)} MiB"
                self._left_out = f"a referrer is too large: limit of {size}"
                continue
            try:
                for blob in blobs:
                    self._fetch_blob(place, blob)
                self.store.blobs.put(referrer.manifest.descriptor, referrer.manifest.raw)
            except ModelRunnerError as exc:
                if self.allowance.reached is not None:
                    raise
                # one that is broken takes nothing from the others
                _log.info("%s: %s: %s", place.source.name, referrer.digest, exc)
                self._problem = self._problem or exc.message
                continue
            with self._lock:
                if self._is_over:
                    return []
                self._found.append(referrer)
            came.append(referrer.digest)
        return came

    def _referrers(self, place: ReferrerPlace, digest: Digest) -> Iterator[Referrer]:
        only = self.wanted == "signatures"
        for found in place.source.referrers(place.reference, digest, signatures_only=only):
            if isinstance(found, NotLookedAt):
                self._left_out = str(found)
            elif found.tag is None and not refers_to(found.manifest, digest):
                _log.info("%s: %s refers to another manifest", place.source.name, found.digest)
            elif not only or is_signature(found):
                yield found

    def _fetch_blob(self, place: ReferrerPlace, blob: Descriptor) -> None:
        if self.store.blobs.state(blob) == "good":
            return
        with self.store.blobs.writer(blob, resumable=False) as writer:
            if writer is None:
                return
            if blob.size == 0:
                return
            with place.source.open_blob(place.reference, blob) as stream:
                for chunk in stream.chunks:
                    self.allowance.take(len(chunk))
                    if self.allowance.clock() >= self.allowance.deadline:
                        raise DeadlineError(f"{place.source.name}: timed out")
                    writer.write(chunk)
