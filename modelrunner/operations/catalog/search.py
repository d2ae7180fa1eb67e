"""Search: models on Docker Hub and the Hugging Face Hub, with size and fit, asked side by side.

Neither list has sizes. Those of Docker Hub's models come from the catalog's cards; those of the
Hugging Face Hub are estimated from the number of parameters that the Hub has read in the header,
and are said to be so.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from modelrunner.cards.card import Card, Variant
from modelrunner.cards.catalog import Catalog
from modelrunner.errors import ModelRunnerError
from modelrunner.huggingface.files import DEFAULTS
from modelrunner.memory.fit import Verdict
from modelrunner.operations.model.size_fit import size_verdict
from modelrunner.registry.docker_hub import DockerHubRepository
from modelrunner.registry.huggingface.hits import HubHit
from modelrunner.runtime.capabilities.facts import Capabilities, TemplateFacts
from modelrunner.runtime.capabilities.read import template_facts

DOCKER_HUB, HUGGING_FACE = "docker.io", "huggingface.co"
NAMESPACE = "ai"

_BITS = {
    "Q4_K_M": 4.9,
    "Q4_K_S": 4.65,
    "Q4_0": 4.65,
    "Q5_K_M": 5.7,
    "Q8_0": 8.5,
    "F16": 16.0,
    "BF16": 16.0,
}
"""Bits a parameter, about: from llama.cpp's table of its quantizations of an 8B model."""


@dataclass(frozen=True, slots=True)
class Hit:
    """A repository that was found.

    Attributes:
        name: What to pull.
        source: Where it is.
        description: In a line.
        parameters: How many, for people.
        size: Bytes of what is pulled by this name, if that is known.
        size_is_estimate: Whether it is only about that.
        quantizations: What there is, as far as the list says.
        downloads: All of them on Docker Hub, the last month's on the Hugging Face Hub.
        stars: Of people who like it.
        gated: Whether its owner wants to know who takes it.
        verdict: Whether it would fit.
        capabilities: What it can do, as its card or the template that the Hub shows says, a word
            each; None where neither is known.
    """

    name: str
    source: str
    description: str = ""
    parameters: str | None = None
    size: int | None = None
    size_is_estimate: bool = False
    quantizations: tuple[str, ...] = ()
    downloads: int = 0
    stars: int = 0
    gated: bool = False
    verdict: Verdict = "unknown"
    capabilities: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Search:
    """What is looked for, and where.

    Attributes:
        docker_hub: Lists the repositories of Docker Hub's namespace.
        hugging_face: Finds repositories by a text, up to a number.
        catalog: Cards, which know sizes.
        budget: Bytes that there are.
    """

    docker_hub: Callable[[], Sequence[DockerHubRepository]] | None
    hugging_face: Callable[[str, int], Sequence[HubHit]] | None
    catalog: Catalog
    budget: int

    def find(self, text: str, limit: int) -> tuple[list[Hit], list[ModelRunnerError]]:
        """Return what is found, Docker Hub's first, up to a number of each; and what failed."""
        # each place takes as long as it takes
        from concurrent.futures import ThreadPoolExecutor

        asked: list[Callable[[], list[Hit]]] = []
        if self.docker_hub is not None:
            listed = self.docker_hub
            asked.append(lambda: self._of_docker_hub(listed(), text)[:limit])
        if self.hugging_face is not None:
            found = self.hugging_face
            asked.append(lambda: self._of_hub(found(text, limit)))
        hits: list[Hit] = []
        failures: list[ModelRunnerError] = []
        with ThreadPoolExecutor(len(asked)) as pool:
            for future in [pool.submit(ask) for ask in asked]:
                try:
                    hits += future.result()
                except ModelRunnerError as exc:
                    failures.append(exc)
        return hits, failures

    def _of_docker_hub(self, listed: Sequence[DockerHubRepository], text: str) -> list[Hit]:
        words = text.lower().split()
        hits = []
        for entry in listed:
            said = f"{entry.name} {entry.description}".lower()
            if all(word in said for word in words):
                hits.append(self._of_repository(entry))
        return hits

    def _of_repository(self, entry: DockerHubRepository) -> Hit:
        card = self.catalog.get(entry.name)
        row = _usual(card)
        size = None if row is None else row.size_bytes
        variants = card.variants if card is not None else ()
        return Hit(
            entry.name,
            DOCKER_HUB,
            entry.description,
            None if row is None else row.parameters_text,
            size,
            quantizations=tuple(
                dict.fromkeys(each.quantization for each in variants if each.quantization)
            ),
            downloads=entry.pulls,
            stars=entry.stars,
            verdict=self._verdict(size),
            capabilities=None if card is None else _of_card(card),
        )

    def _of_hub(self, found: Sequence[HubHit]) -> list[Hit]:
        """The Hub's repositories; their templates are tried together."""
        shown = [hit for hit in found if hit.chat_template]
        facts = template_facts([hit.chat_template or "" for hit in shown]) if shown else []
        known = dict(zip((hit.name for hit in shown), facts, strict=True))
        return [self._of_hugging_face(hit, known.get(hit.name)) for hit in found]

    def _of_hugging_face(self, hit: HubHit, facts: TemplateFacts | None) -> Hit:
        capable = Capabilities(template=facts, images=hit.has_projector)
        usual = next((name for name in DEFAULTS if name in hit.quantizations), None)
        size = None
        if hit.parameters is not None and usual is not None:
            size = round(hit.parameters * _BITS[usual] / 8)
        return Hit(
            f"hf.co/{hit.name}",
            HUGGING_FACE,
            hit.architecture or "",
            None if hit.parameters is None else _billions(hit.parameters),
            size,
            size_is_estimate=True,
            quantizations=hit.quantizations,
            downloads=hit.downloads,
            stars=hit.likes,
            gated=hit.gated,
            verdict=self._verdict(size),
            capabilities=capable.words if facts is not None or hit.has_projector else None,
        )

    def _verdict(self, size: int | None) -> Verdict:
        return "unknown" if size is None or not self.budget else size_verdict(size, self.budget)


def _of_card(card: Card) -> tuple[str, ...]:
    """What a card says of its model."""
    senses = {sense.lower() for sense in card.attributes.input_modalities or ()}
    said = {
        "tools": card.attributes.tool_calling is True,
        "images": "image" in senses,
        "audio": "audio" in senses,
    }
    return tuple(word for word, true in said.items() if true)


def _usual(card: Card | None) -> Variant | None:
    """The row of what is pulled without a tag."""
    if card is None:
        return None
    return card.variant("latest") or next(iter(card.variants), None)


def _billions(count: int) -> str:
    return f"{count / 1e9:.1f}B" if count >= 10**9 else f"{count / 1e6:.0f}M"
