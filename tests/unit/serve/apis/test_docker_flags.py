"""Flags of llama-server in requests: what they stand for."""

from modelrunner.runtime.settings import KNOWN
from modelrunner.serve.apis.docker import flags


def test_every_flag_stands_for_a_setting() -> None:
    settings = {*flags._FLAGS.values(), *(name for name, _ in flags._SWITCHES.values())}
    assert settings <= set(KNOWN)
    assert set(flags._SHORT.values()) <= flags._FLAGS.keys() | flags._SWITCHES.keys()
