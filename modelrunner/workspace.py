"""The one place where settings become a store, registries and a policy.

The command line and the library build a `Workspace` each and differ in what they do with warnings.
A workspace is never changed: what differs for one command is another workspace.
"""

import time
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cache, cached_property, partial, reduce
from pathlib import Path
from typing import TYPE_CHECKING, Self

from modelrunner.errors import NotInStoreError, TransferError, UsageError
from modelrunner.frozen import field, frozen, replace

# late imports: most commands use a part of this, and start without the rest
if TYPE_CHECKING:
    from modelrunner.config.settings import Settings
    from modelrunner.events import Listener
    from modelrunner.lockfile.lock import Lock, LockedModel
    from modelrunner.lockfile.signer import LockedSigner
    from modelrunner.memory.devices.device import Device
    from modelrunner.oci.descriptor import Descriptor
    from modelrunner.oci.digest import Digest
    from modelrunner.oci.manifest import Index, Manifest
    from modelrunner.oci.model.artifact import ModelArtifact
    from modelrunner.oci.model.config import ModelConfig
    from modelrunner.oci.reference import Reference
    from modelrunner.oci.referrers import Referrer
    from modelrunner.operations.copy.copy import Copying
    from modelrunner.operations.devices import Usable
    from modelrunner.operations.estimate.estimate import Estimator
    from modelrunner.operations.estimate.observations import Experience
    from modelrunner.operations.launch.builds import Builds
    from modelrunner.operations.launch.precedence import Precedence
    from modelrunner.operations.lock.lock import Locker
    from modelrunner.operations.package.push import Pusher
    from modelrunner.operations.pull.fit import Fitted, Fitting
    from modelrunner.operations.pull.keeping import Keeping
    from modelrunner.operations.pull.locked import Check, Fetch, LockedPuller
    from modelrunner.operations.pull.pull import Puller
    from modelrunner.operations.runtimes.install import Installer
    from modelrunner.operations.runtimes.locked import RuntimePuller
    from modelrunner.operations.trust.gate import Guard
    from modelrunner.operations.trust.locked import SignerRecorder
    from modelrunner.operations.trust.prove import Prover
    from modelrunner.operations.trust.signatures import Signers
    from modelrunner.provenance.policy import Policy
    from modelrunner.registry.oci.referrers import Allowance, ReferrerPlace
    from modelrunner.registry.registries import Registries
    from modelrunner.registry.source import Choice, Source
    from modelrunner.runtime.base import Ability, Runtime
    from modelrunner.store.store import Store
    from modelrunner.transfer.limits import Limits

OnRetry = Callable[[TransferError, int, int, float], None]
"""Called before a retry: the error, the number of this try, of all tries, and the delay."""


def _silent(*_: object) -> None:
    """Do nothing."""


@frozen
class Workspace:
    """Store, registries and policy, made from the settings when they are first used.

    Attributes:
        load: Returns the settings, the same ones each time.
        environ: The environment: where runtimes and other programs are found.
        offline: Whether the network is ruled out.
        warn: Takes warnings.
        on_assumed: Called with a full name where a short one was completed.
        on_retry: Called before a request is retried.
        changes: What this run changes of the registries that the settings make.
        also_check: Refuses models, besides the policy.
    """

    load: "Callable[[], Settings]"
    environ: Mapping[str, str] = field(repr=False)
    offline: bool = False
    warn: Callable[[str], None] = warnings.warn
    on_assumed: "Callable[[Reference], None]" = _silent
    on_retry: OnRetry = _silent
    changes: "tuple[Callable[[Registries], Registries], ...]" = ()
    also_check: "Check | None" = None

    # none is like another
    __eq__ = object.__eq__
    __hash__ = object.__hash__

    @property
    def settings(self) -> "Settings":
        """The settings.

        Raises:
            ConfigError: The configuration cannot be understood.
        """
        return self.load()

    @cached_property
    def store(self) -> "Store":
        """The local store."""
        from modelrunner.store.store import Store

        return Store(self.settings.store, self.on_assumed)

    @cached_property
    def registries(self) -> "Registries":
        """Every registry, and the mirrors before them."""
        from modelrunner.registry.credentials import DockerCredentials
        from modelrunner.registry.registries import Registries

        settings = self.settings
        usual = Registries(
            DockerCredentials(settings.docker_config, settings.auth_files),
            settings.mirrors,
            settings.registries,
            settings.ca_file,
            hub=settings.hub,
            known_files=self._known_files,
        )
        attempts = usual.backoff.attempts

        def on_retry(error: TransferError, attempt: int, delay: float) -> None:
            self.on_retry(error, attempt, attempts, delay)

        patient = replace(usual, backoff=replace(usual.backoff, on_retry=on_retry))
        return reduce(lambda found, change: change(found), self.changes, patient)

    def _known_files(
        self, reference: "Reference", sizes: Collection[int]
    ) -> "Mapping[str, Digest]":
        # whole repositories alone need it
        from modelrunner.operations.pull.known_files import known_files

        return known_files(self.store, reference, sizes)

    def ruled_offline(self) -> Self:
        """Return this workspace without the network."""
        return replace(self, offline=True)

    def trusting(self, ca_file: Path) -> Self:
        """Return this workspace with a bundle of certificates for all registries without one."""
        return self._with(lambda found: replace(found, ca_file=str(ca_file)))

    def within(self, seconds: float) -> Self:
        """Return this workspace with registries that are given up after a time from now on."""
        deadline = time.monotonic() + seconds

        def change(found: "Registries") -> "Registries":
            limited = replace(found.backoff, deadline=deadline, allowed_s=seconds)
            return replace(found, backoff=limited)

        return self._with(change)

    def asking_also(self, others: Sequence[str], *, lan: bool) -> Self:
        """Return this workspace with other sources for content that is known by its digest.

        Args:
            others: References, and addresses of shared stores.
            lan: Whether to look for shared stores on the local network.

        Raises:
            UsageError: The extra `lan` is not installed.
        """
        if not lan:
            return self._with(lambda found: replace(found, also=tuple(others)))
        from modelrunner.registry import lan as network
        from modelrunner.registry.registries import LanStores

        network.require()

        def find() -> "Sequence[network.LanStore]":
            try:
                return network.find()
            except UsageError as exc:
                # there are other sources
                self.warn(exc.message)
                return ()

        stores = LanStores(find)
        return self._with(lambda found: replace(found, also=tuple(others), lan_stores=stores))

    def checking(self, also: "Check") -> Self:
        """Return this workspace, where this refuses models too, besides the policy."""
        return replace(self, also_check=also)

    def _with(self, change: "Callable[[Registries], Registries]") -> Self:
        return replace(self, changes=(*self.changes, change))

    def source_for(self, reference: "Reference") -> "Source":
        """Return where to pull from.

        Raises:
            ModelNotFoundError: It is a name under `local/`; the near ones are named.
            NotInStoreError: The network is ruled out.
        """
        if reference.is_local:
            raise self.store.unregistered(reference)
        self.require_registry(reference)
        return self.registries.source_for(reference)

    def pusher(
        self,
        reference: "Reference",
        token: str,
        listener: "Listener",
        limits: "Limits | None" = None,
        referrers: str = "all",
    ) -> "Pusher":
        """Return what pushes models to the registry of a name.

        Args:
            reference: The name.
            token: What the registry wants to see instead of our login; empty for our login.
            listener: Called with each event of a push.
            limits: How many connections, and how many bytes a second.
            referrers: What of that which refers to a model goes along.

        Raises:
            UsageError: `referrers` is not a choice.
            UnsupportedArtifactError: The place takes no models.
            NotInStoreError: The network is ruled out.
        """
        from modelrunner.oci.referrers import parse_choice
        from modelrunner.operations.package.push import Pusher
        from modelrunner.transfer.limits import Limits

        choice = parse_choice(referrers)
        self.require_network("push")
        found = self.registries.with_token(reference, token) if token else self.registries
        sink = found.sink_for(reference)
        return Pusher(self.store, sink, listener, found.backoff, limits or Limits(), choice)

    def copying(
        self, listener: "Listener", limits: "Limits | None" = None, referrers: str = "all"
    ) -> "Copying":
        """Return what copies between registries, and from the local store.

        Args:
            listener: Called with each event of a copy.
            limits: How many connections, and how many bytes a second.
            referrers: What is copied of that which refers to a manifest.

        Raises:
            UsageError: `referrers` is not a choice.
        """
        from modelrunner.oci.referrers import parse_choice
        from modelrunner.operations.copy.copy import Copying
        from modelrunner.operations.copy.to_registry import RegistryCopier
        from modelrunner.transfer.limits import Limits

        found = self.registries
        copier = RegistryCopier(
            found.sink_for,
            self.check,
            parse_choice(referrers),
            listener,
            found.backoff,
            limits or Limits(),
        )
        return Copying(
            self.store,
            self.source_for,
            found.referrers_of,
            copier,
            found.backoff,
            self.check_carried,
        )

    @cached_property
    def guarded(self) -> bool:
        """Whether models are checked, by a policy or a lock; most are not."""
        return self.settings.has_policy or self.also_check is not None

    def check(self, reference: "Reference", manifest: "Manifest | Index") -> None:
        """Accept a model, or the image of a runtime, that the policy lets in.

        Raises:
            UnverifiedError: The policy keeps it out.
            AccessError, TransferError, NotInStoreError: Its registry does not answer.
        """
        guard = self._guard
        if guard is not None:
            guard.check(reference, manifest)
        if self.also_check is not None:
            self.also_check(reference, manifest)

    def check_carried(
        self,
        reference: "Reference",
        manifest: "Manifest | Index",
        referrers: "Sequence[Referrer]",
        read: "Callable[[Descriptor], bytes]",
    ) -> None:
        """Accept a model that did not come from its registry, and that the policy lets in.

        Args:
            reference: Its name.
            manifest: It.
            referrers: What came with it; with the local store that is all that is asked.
            read: Returns a blob of that.

        Raises:
            UnverifiedError: The policy keeps it out.
        """
        guard = self._guard
        if guard is None:
            return
        from modelrunner.operations.trust.signatures import CarriedReferrers

        guard.check(reference, manifest, CarriedReferrers(referrers, read))

    def prove_locked(
        self, lock: "Lock", locked: "LockedModel", manifest: "Manifest | Index"
    ) -> None:
        """Accept a model that is signed by those whom a lock records.

        Raises:
            UnverifiedError: It is not.
            AccessError, TransferError: Its registry does not answer.
        """
        from modelrunner.operations.trust.records import Records, all_noted

        if all_noted(Records(self.settings.verified), locked):
            return
        from modelrunner.operations.trust.locked import LockProver

        LockProver(self._prover, self._policy).check(lock, locked, manifest)

    @cached_property
    def _policy(self) -> "Policy":
        from modelrunner.provenance.policy import Policy, read_policy

        return read_policy(self.settings.policy) if self.settings.has_policy else Policy("off", ())

    @cached_property
    def _prover(self) -> "Prover":
        from modelrunner.operations.trust.prove import Prover
        from modelrunner.operations.trust.records import Records

        def ask(reference: "Reference") -> "Sequence[ReferrerPlace]":
            self.require_network(f"checking the signature of {reference.short}")
            return self.registries.referrers_of(reference)

        return Prover(self.store, ask, Records(self.settings.verified), self.offline)

    @cached_property
    def _guard(self) -> "Guard | None":
        if not self.settings.has_policy:
            return None
        # most have no policy
        from modelrunner.operations.trust.gate import guard_at

        return guard_at(self.settings.policy, self._prover, self.warn)

    def require_network(self, what: str) -> None:
        """Refuse what needs the network where it is ruled out.

        Raises:
            NotInStoreError: It is.
        """
        if self.offline:
            raise NotInStoreError(
                f"{what} needs the network, but --offline is set", hint="run it without --offline"
            )

    def require_registry(self, reference: "Reference") -> None:
        """Refuse to ask a model's registry where the network is ruled out.

        Raises:
            NotInStoreError: It is.
        """
        if not self.offline:
            return
        if self.store.find(reference) is None:
            raise self.store.unreachable(reference)
        self.require_network(f"asking the registry of {reference.short}")

    def estimator(self, instead: "Sequence[Device] | None" = None) -> "Estimator":
        """Return the estimator for this machine, or for other devices instead."""
        from modelrunner.cards.catalog import Catalog
        from modelrunner.operations.estimate.estimate import Estimator

        catalog = cache(Catalog.load)
        kept = self.settings.headers
        if instead is not None:
            return Estimator(self.store, self.source_for, catalog, lambda: instead, cache=kept)
        return Estimator(
            self.store,
            self.source_for,
            catalog,
            lambda: self.machine.devices,
            self._seen,
            kept,
        )

    @cached_property
    def machine(self) -> "Usable":
        """What the configured runtime can use of this machine."""
        from modelrunner.errors import RuntimeUnavailableError
        from modelrunner.operations.devices import has_gpu

        if not has_gpu():
            # then it is the same for every runtime, and none has to be looked for
            return self.usable(None)
        try:
            return self.usable(self.runtime(None))
        except (RuntimeUnavailableError, UsageError):
            return self.usable(None)

    def usable(self, runtime: "Runtime | None") -> "Usable":
        """Return what a runtime can use of this machine; for None, what there is."""
        from modelrunner.operations.devices import usable

        settings = self.settings
        if runtime is None:
            return usable(None, kept=settings.devices, environ=self.environ)
        from modelrunner.runtime.select import known

        others = known(self.environ, settings.container_image, settings.runtimes)
        return usable(runtime, kept=settings.devices, environ=self.environ, others=others)

    def _seen(self) -> "Experience | None":
        from modelrunner.operations.estimate.estimate import OBSERVATIONS_FILE

        # most machines have none, and what reads them is not needed then
        if not (self.settings.state / OBSERVATIONS_FILE).exists():
            return None
        return self.experience()

    def fitted(self, text: str, fitting: "Fitting") -> "Fitted":
        """Return the model to pull: what was named, or the variant that fits best.

        Raises:
            UsageError: A variant is to be chosen, and the text names one.
            DoesNotFitError: It does not fit, and has to.
            NotInStoreError: The network is ruled out, and no variant is in the local store.
        """
        from modelrunner.operations.pull.fit import among_stored, fitted

        only = partial(among_stored, self.store, self.require_registry) if self.offline else None
        return fitted(self.estimator(fitting.devices), text, fitting, only)

    def puller(
        self,
        listener: "Listener",
        limits: "Limits | None" = None,
        *,
        on_choice: "Callable[[Reference, Choice], None]" = _silent,
        on_config: "Callable[[Reference, ModelArtifact, ModelConfig], None]" = _silent,
        referrers: str | None = None,
    ) -> "Puller":
        """Return what pulls models into the local store.

        Args:
            listener: Called with each event of a transfer.
            limits: On all transfers together.
            on_choice: Called with the file that was chosen for a name that leaves it open.
            on_config: Called with what a model is, before its weights are downloaded.
            referrers: What is kept of that which refers to a model, asked for even where the model
                is in the store; None to keep signatures of what is downloaded.

        Raises:
            UsageError: `referrers` is not a choice.
        """
        from modelrunner.operations.pull.local_copies import cached_by_share, nowhere, programs
        from modelrunner.operations.pull.pull import Puller
        from modelrunner.transfer.budget import Budget

        return Puller(
            self.store,
            self.source_for,
            listener,
            lambda: self.registries.backoff,
            Budget(limits),
            on_choice=on_choice,
            on_config=on_config,
            nearby=cached_by_share(lambda: self.settings.shared_cache, programs(self.environ))
            if self.settings.reuse
            else nowhere,
            check=self.check,
            keeping=self._keeping(referrers),
        )

    def _keeping(self, referrers: str | None) -> "Keeping | None":
        if self.offline or referrers == "none":
            return None
        from modelrunner.oci.referrers import parse_choice
        from modelrunner.operations.pull.keeping import DEFAULT, Keeping

        wanted = DEFAULT if referrers is None else parse_choice(referrers)

        def ask(reference: "Reference", allowance: "Allowance") -> "Sequence[ReferrerPlace]":
            return self.registries.referrers_of(reference, allowance)

        return Keeping(ask, wanted, insists=referrers is not None)

    def locker(
        self,
        say: Callable[[str], None],
        signers: "Callable[[], Signers] | None" = None,
        *,
        unsigned: bool = False,
    ) -> "Locker":
        """Return what pins the models of a project.

        Args:
            say: Takes a line about each variant that was chosen because it fits.
            signers: Whose signatures every model has to have; None for the policy's, or those of
                the lock before.
            unsigned: Whether nobody's signatures are asked for and recorded.
        """
        from modelrunner.operations.lock.fitting import LockFitting
        from modelrunner.operations.lock.lock import Locker

        fitting = LockFitting(self.fitted, self.estimator, say)
        locker = Locker(self.store, self.source_for, fitting.choose, fitting.check, self.offline)
        if unsigned:
            return replace(locker, records_kept=True)

        @cache
        def recorder() -> "SignerRecorder":
            # few locks have signers
            from modelrunner.operations.trust.locked import SignerRecorder
            from modelrunner.operations.trust.signatures import Signers

            asked = Signers() if signers is None else signers()
            ask = None if self.offline else self.registries.referrers_of
            return SignerRecorder(self.store, ask, self._policy, asked, self.warn)

        def record(
            reference: "Reference", manifest: "Manifest", before: "Sequence[LockedSigner]"
        ) -> "tuple[LockedSigner, ...]":
            if signers is None and not before and not self.settings.has_policy:
                return ()
            return recorder().record(reference, manifest, before)

        return replace(locker, record=record, records_kept=signers is not None)

    def locked_puller(
        self,
        fetch: "Fetch",
        on_gone: Callable[[str], None] = _silent,
    ) -> "LockedPuller":
        """Return what pulls the models that a lock pins.

        Args:
            fetch: Pulls references.
            on_gone: Takes a hint about a tag that no longer exists.
        """
        from modelrunner.operations.pull.locked import LockedPuller

        return LockedPuller(
            store=self.store,
            offline=self.offline,
            fetch=fetch,
            check=self.check if self.guarded else None,
            prove=self.prove_locked,
            warn=self.warn,
            on_gone=on_gone,
        )

    def installer(self, listener: "Listener", limits: "Limits | None" = None) -> "Installer":
        """Return what installs runtimes from images.

        Args:
            listener: Called with each event of a transfer.
            limits: On all transfers together.
        """
        from modelrunner.operations.runtimes.install import Installer
        from modelrunner.runtime.images.library import Library
        from modelrunner.transfer.budget import Budget

        return Installer(
            self.store,
            Library(self.settings.runtimes),
            self.environ,
            self.source_for,
            listener,
            self.registries.backoff,
            Budget(limits),
            offline=self.offline,
            guarded=self.guarded,
            check=self.check,
        )

    def runtime_puller(
        self, listener: "Listener" = _silent, limits: "Limits | None" = None
    ) -> "RuntimePuller":
        """Return what installs the runtime that a lock pins.

        Args:
            listener: Called with each event of a transfer.
            limits: On all transfers together.
        """
        from modelrunner.oci.image import Platform
        from modelrunner.operations.runtimes.locked import RuntimePuller
        from modelrunner.runtime.images.library import Library

        return RuntimePuller(
            store=self.store,
            library=Library(self.settings.runtimes),
            platform=Platform.of_machine(),
            offline=self.offline,
            installer=lambda: self.installer(listener, limits),
        )

    def builds(self) -> "Builds":
        """Return the builds of runtimes that models last worked with."""
        from modelrunner.operations.launch.builds import BUILDS_FILE, Builds
        from modelrunner.runtime.images.library import Library

        library = Library(self.settings.runtimes)

        def is_installed(name: str) -> bool:
            return any(one.name == name for one in library.all())

        return Builds(self.settings.state / BUILDS_FILE, is_installed)

    def experience(self) -> "Experience":
        """Return what counts of earlier runs, whatever runtime served them."""
        from modelrunner.operations.estimate.estimate import OBSERVATIONS_FILE
        from modelrunner.operations.launch.learn import experience_of

        settings = self.settings
        return experience_of(
            settings.state / OBSERVATIONS_FILE,
            settings.runtime,
            environ=self.environ,
            image=settings.container_image,
            library=settings.runtimes,
        )

    def runtime(self, choice: str | None, needs: "Collection[Ability]" = ()) -> "Runtime":
        """Return the runtime that was asked for, or else the configured one.

        Args:
            choice: What `--runtime` says.
            needs: What it has to be able to do, if it is for us to choose.

        Raises:
            RuntimeUnavailableError: It is not installed; with `auto`, none is.
            UsageError: There is no runtime of that name.
        """
        from modelrunner.runtime.select import select

        return select(
            choice or self.settings.runtime,
            environ=self.environ,
            image=self.settings.container_image,
            library=self.settings.runtimes,
            needs=needs,
            origin="--runtime" if choice else self.settings.origin_of("runtime"),
        )

    def precedence(self) -> "Precedence":
        """Return what makes a request of options, a model's configuration and the settings."""
        from modelrunner.operations.launch.configure import Configurations
        from modelrunner.operations.launch.precedence import Precedence

        settings = self.settings
        usual = {
            "context": settings.context,
            "threads": settings.threads,
            "system": settings.system,
        }
        return Precedence(
            self.store,
            Configurations(settings.state, settings.own_state),
            {key: value for key, value in usual.items() if value is not None},
            self.warn,
        )
