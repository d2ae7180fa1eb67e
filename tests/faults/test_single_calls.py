"""kill -9 and every error of a disk, at every single call on a file that a command makes.

After each of them the store is whole, the same command run again does what it would have done, and
what is there then is what would have been there: not a file more, not a byte else. An error ends
the command in words, with the exit code of what it is.
"""

import errno
import random
import sys
from threading import Lock

import pytest

from tests.faults.conftest import Place, Worlds
from tests.support.faults import size
from tests.support.faults.calls import FULL, Fault, counted, errors, full_disks, kills, noted
from tests.support.faults.forks import Ended
from tests.support.faults.world import Look, Scenario, scenarios

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

_pushing = Lock()


def test_no_kill_and_no_error_of_a_disk_does_any_harm(places: Worlds[Place]) -> None:
    chance = random.Random(size.SEED)
    cases = []
    for scenario in size.some(scenarios(places.all[0].world.registry), chance):
        log, right = _undisturbed(places.all[0], scenario)
        calls = counted(log)
        # all of the full disks at a twentieth of the size: what is not noticed there is lost
        parts = ((full_disks(log), 20), (kills(calls), 0.6), (errors(calls), 0.1))
        cases += [
            (scenario, right, fault)
            for found, part in parts
            for fault in size.sample(list(found), chance, least=2, part=part)
        ]
    chance.shuffle(cases)
    sys.stderr.write(f"{len(cases)} cases\n")
    found = places.each(_wrongs, cases)
    assert not found, "\n".join([f"{len(found)} of {len(cases)} cases:", *sorted(found)])


def _undisturbed(place: Place, scenario: Scenario):
    """The noted calls of a command that nothing befalls, and what there is after it."""
    place.begin(scenario)
    done = place.world.do(scenario, noted(place.world.place, place.log))
    assert done.code == 0, (scenario, done)
    return place.log, place.world.look()


def _wrongs(place: Place, case: tuple[Scenario, Look, Fault]) -> list[str]:
    """What is wrong after one case, in words; nothing where all is right."""
    scenario, right, fault = case
    if scenario.name != "push":
        return _judged(place, scenario, right, fault)
    # all push to one registry, which has nothing of it before
    with _pushing:
        place.world.registry.storage.repositories.pop("me/base", None)
        return _judged(place, scenario, right, fault)


def _judged(place: Place, scenario: Scenario, right: Look, fault: Fault) -> list[str]:
    world = place.world
    place.begin(scenario)
    before = world.names()
    ended = world.fail(scenario, fault)
    wrong = [] if _is_decent(scenario, fault, ended) else [f"ends badly: {ended}"]
    wrong += world.harm(scenario, before)
    if fault.error and not fault.then and fault.kind not in ("unlink", "close"):
        wrong += world.leftovers()
    again = world.do(scenario)
    if again.code not in scenario.again:
        wrong.append(f"fails again: {again}")
    found = world.look()
    if fault.kind in ("link", "chmod"):
        # a copy serves where there are no links, and is its owner's to write
        found, right = found.without_modes(), right.without_modes()
    wrong += found.differences(right)
    return [f"{scenario.name}: {fault}: {what}" for what in wrong]


def _is_decent(scenario: Scenario, fault: Fault, ended: Ended) -> bool:
    if not fault.error:
        # it may have been done before it came so far
        return ended.killed or ended.code == 0
    if not ended.in_words:
        return False
    if fault.error in (*FULL, errno.EFBIG):
        return ended.code in (0, 7)
    return ended.code in (0, 2, *scenario.unread)
