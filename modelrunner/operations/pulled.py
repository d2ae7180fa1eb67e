"""What became of a model that was to be pulled: as data, without what pulls."""

from dataclasses import dataclass
from typing import Literal

from modelrunner.errors import ModelRunnerError
from modelrunner.oci.reference import Reference
from modelrunner.store.store import StoredModel


@dataclass(frozen=True, slots=True)
class Pulled:
    """What a pull came to."""

    reference: Reference
    model: StoredModel
    status: Literal["pulled", "up-to-date"]
    downloaded_bytes: int
    resumed_bytes: int
    duration_s: float
    source: str | None


@dataclass(frozen=True, slots=True)
class Failed:
    """A model that did not come."""

    reference: Reference
    error: ModelRunnerError

    def named(self) -> ModelRunnerError:
        """The error with the model's name in its message."""
        name = self.reference.short
        if name in self.error.message:
            return self.error
        return type(self.error)(
            f"{name}: {self.error.message}", hint=self.error.hint, **self.error.facts
        )


@dataclass(frozen=True, slots=True)
class Dropped:
    """A model that was not brought to its end, because another one failed."""

    reference: Reference


Outcome = Pulled | Failed | Dropped
