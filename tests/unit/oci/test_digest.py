"""The digest of bytes in memory, whoever computes it."""

import hashlib
import subprocess
import sys

import pytest

from modelrunner.oci import digest
from modelrunner.oci.digest import Digest


@pytest.mark.parametrize("size", [0, 1, 55, 64, 64 * 1024, 64 * 1024 + 1, 300_000])
@pytest.mark.parametrize("own", [True, False])
def test_a_digest_is_that_of_the_bytes(size, own, monkeypatch):
    if not own:
        monkeypatch.setattr(digest, "_OWN", "no_such_module")
    content = bytes(index % 251 for index in range(size))
    assert Digest.of(content).hex == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize(("size", "loaded"), [(64 * 1024, False), (64 * 1024 + 1, True)])
def test_openssl_is_loaded_for_much_alone(size, loaded):
    program = (
        "import sys\nfrom modelrunner.oci.digest import Digest\n"
        f"Digest.of(bytes({size}))\nprint('_hashlib' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"{loaded}\n"
