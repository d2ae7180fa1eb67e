"""Which value of a setting counts: of an option, of the model's configuration, or of others.

`config.toml` counts less than these, and what the artifact brings along least. What none of them
says the plan decides.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from modelrunner.errors import InvalidReferenceError, UsageError
from modelrunner.frozen import frozen, replace
from modelrunner.oci.reference import DEFAULT_TAG, Reference
from modelrunner.operations.launch.configure import Configurations
from modelrunner.operations.launch.request import LaunchRequest
from modelrunner.runtime import settings
from modelrunner.runtime.abilities import ability_of, require
from modelrunner.runtime.base import Ability, LoraAdapter, Runtime
from modelrunner.runtime.chat_templates import checked, template_file
from modelrunner.runtime.packaged import Packaged
from modelrunner.runtime.sampling import Sampling, Source
from modelrunner.runtime.settings import Value
from modelrunner.store.store import Store, StoredModel
from modelrunner.text import sanitize_line

_GGUF = ".gguf"
_DRAFTS = ("auto", "mtp", "ngram")
"""Words for ways to guess ahead without another model's file."""


@frozen
class LaunchOptions:
    """What is said of one launch; None leaves a setting to the model's or the general ones.

    Attributes:
        context: `--context`.
        threads: `--threads`.
        gpu_layers: `--gpu-layers`.
        kv_type: `--kv-type`.
        parallel: `--parallel`.
        draft: `--draft`: a model in the local store, or a GGUF file.
        rpc: `--rpc`.
        device: `--device`.
        assignments: `--set KEY=VALUE`; the options above count more.
        raw_flags: What stands behind `--`.
        chat_template: `--chat-template`: a name or a file.
        think: `--think`.
        system: `--system`, where it is saved or packaged.
        temperature: `--temperature`, likewise.
        top_p: `--top-p`, likewise.
        repeat_penalty: `--repeat-penalty`, likewise.
    """

    context: int | None = None
    threads: int | None = None
    gpu_layers: int | None = None
    kv_type: str | None = None
    parallel: int | None = None
    draft: str | None = None
    rpc: str | None = None
    device: str | None = None
    assignments: Sequence[str] = ()
    raw_flags: Sequence[str] = ()
    chat_template: str | None = None
    think: str | None = None
    system: str | None = None
    temperature: float | None = None
    top_p: float | None = None
    repeat_penalty: float | None = None

    def settings(self) -> dict[str, Value]:
        """Return the settings that the options make.

        Raises:
            UsageError: One is not known, or its value is not for it.
        """
        own = {
            "context": self.context,
            "threads": self.threads,
            "gpu-layers": self.gpu_layers,
            "kv-type": self.kv_type,
            "parallel": self.parallel,
            "draft": self.draft,
            "rpc": self.rpc,
            "device": self.device,
            "chat-template": self.chat_template,
            "think": self.think,
            "system": self.system,
            "temperature": self.temperature,
            "top-p": self.top_p,
            "repeat-penalty": self.repeat_penalty,
        }
        said = {
            key: settings.value_of(key, settings.as_text(value), f"--{key}")
            for key, value in own.items()
            if value is not None
        }
        found = settings.parse(self.assignments) | said
        if "chat-template" in found:
            found["chat-template"] = checked(str(found["chat-template"]))
        return found

    def overridden(self, assigned: Mapping[str, str]) -> "LaunchOptions":
        """Return these options with settings that count more than all of them."""
        there = type(self).__annotations__
        own: dict[str, Any] = {
            name: None for name in (key.replace("-", "_") for key in assigned) if name in there
        }
        said = [*self.assignments, *(f"{key}={value}" for key, value in assigned.items())]
        return replace(self, **own, assignments=said)


@frozen
class Precedence:
    """Makes one request out of what options, a model's configuration and `config.toml` say.

    Attributes:
        store: Where draft models are.
        configured: What was configured for single models.
        usual: The settings of `config.toml` and the environment.
        warn: Takes warnings.
    """

    store: Store
    configured: Configurations
    usual: Mapping[str, Value]
    warn: Callable[[str], None]

    def needs(self, reference: str, options: LaunchOptions) -> set[Ability]:
        """Return what a start needs of a runtime, as far as options and configuration say.

        Raises:
            UsageError: A setting is not known, or its value is not for it.
        """
        try:
            configured = self.configured.of(tagged(Reference.parse(reference)))
        except InvalidReferenceError:
            # an ID
            configured = {}
        return _needs(configured | options.settings(), options)

    def request(
        self, runtime: Runtime, model: StoredModel, name: str, options: LaunchOptions
    ) -> LaunchRequest:
        """Return how a model is to be started.

        Args:
            runtime: What will start it.
            model: The model.
            name: What the user calls it: of several names with settings, this one's count.
            options: What is said of this launch.

        Raises:
            UsageError: A setting is not known, or the runtime has no way to follow it.
            ModelNotFoundError: The draft model is not in the local store.
        """
        said = options.settings()
        names = sorted(model.references, key=lambda entry: entry.short != name)
        configured = self.configured.of_any(names)
        if runtime.external:
            refuse_for_others(runtime, options)
            if configured:
                self.warn("saved settings of the model are ignored: its server is already running")
                configured = {}
        wanted = settings.merged(self.usual, configured, said)
        if not runtime.external:
            require(runtime, sorted(_needs(wanted, options)))
            wanted = settings.merged(self._packaged(runtime, model, name), wanted)
        template = wanted.pop("chat-template", None)
        draft = wanted.pop("draft", None)
        guess = None if draft not in _DRAFTS else str(draft)
        adapters = wanted.pop("lora", None)
        request = LaunchRequest.of(
            wanted,
            draft_model=None if draft is None or guess else self._draft(str(draft)),
            draft=guess,
            adapters=() if adapters is None else _adapters(str(adapters)),
            chat_template=None if template is None else template_file(str(template)),
            raw_flags=tuple(options.raw_flags),
        )
        request = replace(
            request,
            limits_thoughts=Ability.LIMITS_THOUGHTS in runtime.abilities,
            moves_experts=Ability.CPU_MOE in runtime.abilities,
            chooses_devices=Ability.DEVICES in runtime.abilities,
            sampling_parts=_sampling_parts(
                option=said, configured=configured, config_toml=self.usual
            ),
        )
        if (request.parallel or 1) > 1:
            require(runtime, [Ability.PARALLEL])
        request.check()
        return request

    def _packaged(self, runtime: Runtime, model: StoredModel, name: str) -> dict[str, Value]:
        """The settings of the artifact that the runtime can follow; its sampling is the plan's."""
        packaged = Packaged.read(model.config.settings)
        if packaged.warning is not None:
            self.warn(f"{name}: {packaged.warning}")
        found = packaged.others
        for key in list(found):
            ability = ability_of(key)
            if ability is not None and ability not in runtime.abilities:
                self.warn(
                    f"{name}: the artifact's setting {key} is ignored: {runtime.name} does not"
                    f" offer {ability}"
                )
                del found[key]
        return found

    def _draft(self, text: str) -> Path:
        file = Path(text)
        if text.endswith(_GGUF) and file.is_file():
            return file.absolute()
        if text.endswith(_GGUF) or text.startswith((".", "/", "~")):
            raise UsageError(
                f"draft model {sanitize_line(text, 200)}: file not found",
                hint="check the path, or use a model of the local store (`modelrunner list`)",
            )
        model = self.store.resolve(text)
        model.unpack()
        model.artifact.require_runnable(text)
        return model.weights()


def _sampling_parts(
    *,
    option: Mapping[str, Value],
    configured: Mapping[str, Value],
    config_toml: Mapping[str, Value],
) -> tuple[tuple[Source, Sampling], ...]:
    parts: tuple[tuple[Source, Mapping[str, Value]], ...] = (
        ("option", option),
        ("configured", configured),
        ("config.toml", config_toml),
    )
    return tuple((source, Sampling.of(settings.changes(part))) for source, part in parts)


def _adapters(text: str) -> tuple[LoraAdapter, ...]:
    found = []
    for name, scale in settings.adapters_of(text):
        path = Path(name).expanduser()
        if not path.is_file():
            raise UsageError(
                f"adapter {sanitize_line(name, 200)}: file not found",
                hint="check the path; of several, separate them by commas",
            )
        found.append(LoraAdapter(path.absolute(), scale))
    return tuple(found)


def needs_of_options(options: LaunchOptions) -> set[Ability]:
    """Return what a start needs of a runtime, as far as options say.

    Raises:
        UsageError: A setting is not known, or its value is not for it.
    """
    return _needs(options.settings(), options)


def _needs(wanted: Collection[str], options: LaunchOptions) -> set[Ability]:
    needs = {ability for key in wanted if (ability := ability_of(key)) is not None}
    return needs | {Ability.RAW_FLAGS} if options.raw_flags else needs


def tagged(name: Reference) -> Reference:
    """Return the name that settings are kept by: with its tag, and without a digest."""
    return replace(name, tag=name.tag or DEFAULT_TAG, digest=None)


def refuse_for_others(runtime: Runtime, options: LaunchOptions) -> None:
    """Refuse settings for a server that runs already: it is not started again.

    Raises:
        UsageError: There are some.
    """
    # a request says how much to think, to whatever server
    said = [key for key in options.settings() if key != "think"]
    first = next(iter([*said, *options.raw_flags]), None)
    if first is not None:
        raise UsageError(
            f"cannot set {first}: the server is already running",
            hint="remove it, or use another --runtime",
            runtime=runtime.name,
        )
