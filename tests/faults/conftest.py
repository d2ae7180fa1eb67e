"""Worlds to try faults in: one for each processor where there is much to do."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Generic, TypeVar

import pytest

from tests.support.faults import size
from tests.support.faults.calls import build
from tests.support.faults.forks import Forks
from tests.support.faults.world import Scenario, World, copy_tree, make, supply
from tests.support.registry import Registry

Case = TypeVar("Case")
Home = TypeVar("Home", bound="Place")


@dataclass(frozen=True)
class Place:
    """A world, and a copy of what it was in the beginning."""

    world: World
    kept: Path
    log: Path

    def begin(self, scenario: Scenario) -> Path:
        """Lets the world be what it is before a command; a copy of that."""
        if scenario.prepare is None:
            self.world.become(self.kept)
            return self.kept
        kept = self.kept.with_name(f"kept for {scenario.name}")
        if not kept.exists():
            self.world.become(self.kept)
            scenario.prepare(self.world)
            copy_tree(self.world.place, kept)
        self.world.become(kept)
        return kept


@dataclass(frozen=True)
class Worlds(Generic[Home]):
    """All worlds."""

    all: list[Home]

    def each(self, judge: Callable[[Home, Case], list[str]], cases: Iterable[Case]) -> list[str]:
        """What is found in all cases, as many of them at once as there are worlds."""
        free: SimpleQueue[Home] = SimpleQueue()
        for place in self.all:
            free.put(place)

        def attempt(case: Case) -> list[str]:
            place = free.get()
            try:
                return judge(place, case)
            finally:
                free.put(place)

        with ThreadPoolExecutor(len(self.all)) as pool:
            return [wrong for wrongs in pool.map(attempt, cases) for wrong in wrongs]


@pytest.fixture(scope="session")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worlds[Place]]:
    """The worlds, and the registry that they all know."""
    folder = tmp_path_factory.mktemp("worlds")
    library = build(folder)
    with Registry() as registry, ExitStack() as stack:
        supplies = supply(registry, folder)
        made = []
        for number in range(size.workers()):
            own = folder / str(number)
            own.mkdir()
            world = World(own / "world", stack.enter_context(Forks(library)), registry)
            make(world, supplies)
            copy_tree(world.place, own / "kept")
            made.append(Place(world, own / "kept", own / "log"))
        yield Worlds(made)
