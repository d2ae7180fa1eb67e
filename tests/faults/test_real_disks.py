"""Power cuts of real file systems, at every moment of every command, and after its end.

The file system itself forgets what it has not written, and replays its journal when it is mounted
again, see `volume`; in `test_power_cuts` what reaches a disk is played. What holds is the same: the
store is whole and no model is lost, the same command run again does what it would have done, and
what exit code 0 has promised is there.
"""

import random
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.faults.conftest import Place, Worlds
from tests.support.faults import size
from tests.support.faults.calls import Outage, build, noted, outages
from tests.support.faults.forks import Forks
from tests.support.faults.volume import KINDS, LOSSES, Loss, Volume, volume
from tests.support.faults.world import Look, Scenario, World, copy_tree, make, scenarios, supply
from tests.support.registry import Registry

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

PROMISES = ("pull", "pull copies", "save", "lock anew")
"""Each writes in a way of its own: tried whenever there are tests."""
DISKS = KINDS if size.SIZE else KINDS[:1]


@dataclass(frozen=True)
class Mounted(Place):
    """A world on a disk of its own."""

    disk: Volume

    def begin(self, scenario: Scenario) -> Path:
        """Lets all that is there before a command be on the disk."""
        kept = super().begin(scenario)
        self.disk.flush()
        return kept


@dataclass(frozen=True)
class Case:
    """A command, what there is after it, and when the power goes: amid it, or after its end."""

    scenario: Scenario
    right: Look
    cut: Outage | Loss

    def __str__(self) -> str:
        when = self.cut if isinstance(self.cut, Outage) else f"cut after the end, {self.cut} lost"
        return f"{self.scenario.name}: {when}"


@pytest.fixture(params=DISKS)
def mounted(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Worlds[Mounted]]:
    """Worlds on disks of one kind."""
    with ExitStack() as stack:
        library = build(tmp_path)
        registry = stack.enter_context(Registry())
        supplies = supply(registry, tmp_path)
        made = []
        for number in range(size.workers()):
            own = tmp_path / str(number)
            disk = stack.enter_context(volume(request.param, own))
            world = World(disk.place / "world", stack.enter_context(Forks(library)), registry)
            make(world, supplies)
            copy_tree(world.place, own / "kept")
            made.append(Mounted(world, own / "kept", own / "log", disk))
        yield Worlds(made)


def test_no_power_cut_of_a_real_disk_does_any_harm(mounted: Worlds[Mounted]) -> None:
    chance = random.Random(size.SEED)
    every = scenarios(mounted.all[0].world.registry)
    promises = [scenario for scenario in every if scenario.name in PROMISES]
    others = [scenario for scenario in every if scenario.name not in PROMISES] if size.SIZE else []
    cases = []
    for scenario in (*promises, *others):
        log, right = _undisturbed(mounted.all[0], scenario)
        amid = size.sample(list(outages(log, chance)), chance, least=1, part=0.03)
        cases += [Case(scenario, right, cut) for cut in (*amid, *LOSSES)]
    chance.shuffle(cases)
    sys.stderr.write(f"{len(cases)} cases\n")
    found = mounted.each(_wrongs, cases)
    assert not found, "\n".join([f"{len(found)} of {len(cases)} cases:", *sorted(found)])


def _undisturbed(place: Mounted, scenario: Scenario) -> tuple[Path, Look]:
    """The noted calls of a command that nothing befalls, and what there is after it."""
    place.begin(scenario)
    done = place.world.do(scenario, noted(place.world.place, place.log))
    assert done.code == 0, (scenario, done)
    return place.log, place.world.look()


def _wrongs(place: Mounted, case: Case) -> list[str]:
    """What is wrong after one case, in words; nothing where all is right."""
    world, scenario = place.world, case.scenario
    if scenario.name == "push":
        world.registry.storage.repositories.pop("me/base", None)
    place.begin(scenario)
    before = world.names()
    if isinstance(case.cut, Outage):
        ended = world.fail(scenario, case.cut)
        done = not ended.killed
        loss: Loss = "all"
    else:
        ended = world.do(scenario)
        done, loss = True, case.cut
    if done:
        # the end has come before the call: threads take turns, and some calls are made by chance
        place.disk.cut(loss)
    place.disk.power_on()
    wrong = [f"ends badly: {ended}"] if done and ended.code != 0 else []
    wrong += world.harm(scenario, before)
    if done and scenario.lasts:
        wrong += world.look().differences(case.right)
    again = world.do(scenario)
    if again.code not in scenario.again:
        wrong.append(f"fails again: {again}")
    wrong += world.look().differences(case.right)
    return [f"{case}: {what}" for what in wrong]
