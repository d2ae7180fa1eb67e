"""Which rule of a policy is for which model."""

import pytest

from modelrunner.oci.reference import Reference
from modelrunner.provenance.policy import Policy, Rule


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
