"""How a lock chooses what fits: the same on every machine, whatever this one has or has run."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from modelrunner.lockfile.intent import Fit, ModelIntent
from modelrunner.memory.card_estimate import CARD_CONTEXT
from modelrunner.oci.reference import Reference
from modelrunner.operations.estimate.estimate import Estimator
from modelrunner.operations.estimate.report import EstimateRequest
from modelrunner.operations.pull.fit import Fitted, Fitting, does_not_fit


@dataclass(frozen=True, slots=True)
class LockFitting:
    """Chooses and checks the models of a project that have to fit.

    Attributes:
        fitted: Returns the variant of a repository that fits best.
        estimator: Returns what estimates.
        say: Takes a line about the variant that was chosen.
    """

    fitted: Callable[[str, Fitting], Fitted]
    estimator: Callable[[], Estimator]
    say: Callable[[str], None]

    def choose(self, wanted: ModelIntent) -> Reference:
        """Return the variant to pin.

        Raises:
            DoesNotFitError: None fits.
        """
        fitting = Fitting(choose=True, require=True, request=_request(wanted.fit))
        found = self.fitted(wanted.text, fitting)
        if found.note is not None:
            self.say(found.note)
        return Reference.parse(found.text)

    def check(self, wanted: ModelIntent, pinned: Reference) -> None:
        """Accept a model that fits.

        Raises:
            DoesNotFitError: It does not.
        """
        report = self.estimator().of_model(str(pinned), _request(wanted.fit))
        if report.fit.verdict not in ("fits", "partial", "maybe"):
            name = wanted.reference.short
            raise does_not_fit(replace(report, facts=report.facts._replace(name=name)))


def _request(fit: Fit | None) -> EstimateRequest:
    request = EstimateRequest(usual=CARD_CONTEXT, source="header")
    return request if fit is None else request._replace(context=fit.context, budget=fit.vram)
