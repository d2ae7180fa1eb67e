"""Hosts with several addresses, of which some lead nowhere."""

import errno
import socket
import time
from contextlib import contextmanager

import pytest

from modelrunner.registry.http.direct import reach as module
from modelrunner.registry.http.direct.reach import ConnectError, Place, reach
from tests.support.silence import silent_address

LONG_S = 30
"""Far longer than any of these may take."""


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch):
    monkeypatch.setattr(module, "_known", {})


@contextmanager
def listening(host="127.0.0.1"):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as server:
        yield Place(family, server.getsockname())


@contextmanager
def silent():
    with silent_address() as address:
        yield Place(socket.AF_INET, address)


REFUSING = Place(socket.AF_INET, ("127.0.0.1", 1))


def reached(host, *places, timeout_s=LONG_S):
    with reach(host, places, timeout_s) as sock:
        assert sock.gettimeout() == timeout_s
        return sock.getpeername()


def test_address_that_does_not_answer_is_not_waited_for():
    with silent() as nowhere, listening() as place:
        begun = time.monotonic()
        assert reached("h", nowhere, place) == place.address
        assert time.monotonic() - begun < LONG_S / 2


def test_address_that_has_answered_is_the_first_to_be_tried_again(monkeypatch):
    with silent() as nowhere, listening() as place:
        reached("h", nowhere, place)
        tried = []
        begin = module._Attempts._begin
        monkeypatch.setattr(
            module._Attempts,
            "_begin",
            lambda self, place, end: tried.append(place) or begin(self, place, end),
        )
        assert reached("h", nowhere, place) == place.address
        assert tried == [place]
        # for another host nothing is known, and what is not an address any more is not tried
        reached("other", nowhere, place)
        assert tried[1:] == [nowhere, place]
        with pytest.raises(ConnectError):
            reached("h", nowhere, nowhere, timeout_s=0.2)
        assert set(tried[3:]) == {nowhere}


def test_refusal_has_the_next_one_tried_at_once(monkeypatch):
    monkeypatch.setattr(module, "_STAGGER_S", LONG_S)
    with listening() as place:
        assert reached("h", REFUSING, REFUSING, place) == place.address


def test_all_that_refuse_say_so():
    with pytest.raises(ConnectionRefusedError):
        reach("h", [REFUSING, REFUSING._replace(address=("127.0.0.3", 1))], LONG_S)


@pytest.mark.parametrize("count", [1, 2])
def test_all_that_do_not_answer_have_their_time(count):
    with silent() as nowhere, pytest.raises(ConnectError, match="timed out"):
        reach("h", [nowhere] * count, 0.2)


def test_both_families_are_tried_in_turn():
    four = [Place(socket.AF_INET, (f"127.0.0.{number}", 80)) for number in range(3)]
    six = [Place(socket.AF_INET6, (f"::{number}", 80, 0, 0)) for number in range(2)]

    assert module._mixed([*six, *four]) == [six[0], four[0], six[1], four[1], four[2]]
    assert module._mixed([*four, *six]) == [four[0], six[0], four[1], six[1], four[2]]


def test_family_that_the_system_lacks_is_passed_over(monkeypatch):
    plain = socket.socket

    def only_four(family, kind):
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return plain(family, kind)

    monkeypatch.setattr(socket, "socket", only_four)
    with listening() as place:
        assert reached("h", Place(socket.AF_INET6, ("::1", 80, 0, 0)), place) == place.address


def test_nothing_stays_open_of_what_was_not_taken(monkeypatch):
    made = []
    plain = socket.socket

    def noted(*words):
        made.append(plain(*words))
        return made[-1]

    with silent() as nowhere, listening() as place:
        monkeypatch.setattr(socket, "socket", noted)
        with reach("h", [nowhere, place, REFUSING], LONG_S) as sock:
            assert [each for each in made if each.fileno() >= 0] == [sock]
