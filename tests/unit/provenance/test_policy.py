"""Which rule of a policy is for which model."""

import pytest

from modelrunner.errors import ConfigError
from modelrunner.oci.reference import Reference
from modelrunner.provenance.policy import Policy, Rule, parse_policy


@pytest.mark.parametrize(
    ("match", "name", "is_for"),
    [
        ("docker.io/ai/*", "ai/m", True),
        ("docker.io/ai/*", "ghcr.io/ai/m", False),
        ("ai/*", "ai/m", True),
        ("AI/*", "ai/m", True),
        ("ai/*", "ghcr.io/ai/m", False),
        ("ai/*", "team/m", False),
        ("m", "ai/m", True),
        ("m", "ghcr.io/ai/m", False),
        ("ghcr.io/acme/*", "ghcr.io/acme/m", True),
        ("ghcr.io/acme/*", "ghcr.io/acme.evil/m", False),
        ("localhost:5000/*", "localhost:5000/m", True),
        ("localhost/*", "localhost/m", True),
        ("*/acme/*", "ghcr.io/acme/m", True),
        ("*", "ghcr.io/acme/m", True),
        ("*", "local/m", True),
    ],
)
def test_pattern_is_of_full_names_and_a_short_one_is_docker_hubs(match, name, is_for):
    policy = Policy("off", (Rule(match, "enforce"),))
    assert (policy.rule_for(Reference.parse(name)).mode == "enforce") == is_for


@pytest.mark.parametrize(
    ("match", "name"),
    [
        ("hf.co/acme/*", "hf.co/acme/model"),
        ("HF.co/acme/*", "https://huggingface.co/acme/model"),
        ("index.docker.io/ai/*", "ai/model"),
        ("docker.io/model", "model"),
        ("registry.ollama.ai/model", "registry.ollama.ai/model"),
        ("oci://ghcr.io/acme/*", "ghcr.io/acme/model"),
        ("docker.io/*", "acme/model"),
        ("*", "localhost:5000/model"),
        # the port that https has anyway
        ("registry.example.com/*", "registry.example.com:443/team/model"),
        ("registry.example.com:443/*", "registry.example.com/team/model"),
        ("*.example.com/*", "registry.example.com:443/team/model"),
        ("[2001:db8::1]/*", "[2001:db8::1]:443/team/model"),
        # brackets are those of an address
        ("[::1]:5000/*", "[::1]:5000/team/model"),
        ("[::1]:*/team/*", "[::1]:5000/team/model"),
        ("[::1]*", "[::1]:5000/team/model"),
        ("[2001:db8::*]:5000/*", "[2001:db8::1]:5000/team/model"),
    ],
)
def test_a_pattern_may_be_spelled_as_names_are(match, name):
    policy = Policy("off", (Rule(match, "enforce"),))
    assert policy.rule_for(Reference.parse(name)).mode == "enforce"


@pytest.mark.parametrize(
    ("match", "name"),
    [
        ("registry.example.com/*", "registry.example.com:5000/team/model"),
        ("registry.example.com:5000/*", "registry.example.com/team/model"),
        # http has another port than https there
        ("localhost/*", "localhost:443/team/model"),
        ("[::1]:5000/*", "[::1]:5001/team/model"),
        ("[::1]:5000/*", "1:5000/team/model"),
    ],
)
def test_a_pattern_is_for_one_port(match, name):
    policy = Policy("off", (Rule(match, "enforce"),))
    assert policy.rule_for(Reference.parse(name)).mode == "off"


@pytest.mark.parametrize("match", ["ghcr.io/acme/model:1", "https://ghcr.io/acme/*", "model:1"])
def test_a_pattern_that_no_name_fits_is_refused(match, tmp_path):
    said = f'version = 1\n[[rule]]\nmatch = "{match}"\nmode = "off"\n'
    with pytest.raises(ConfigError, match="is not a pattern of repositories"):
        parse_policy(tmp_path / "verify.toml", said.encode())
