"""Files stay together in a run with several workers, and what takes long begins first."""

import pytest

from tests.support.schedule import ByFile, share

UNITS = {
    "tests/unit/memory/test_architectures.py": 508,
    "tests/e2e/test_hugging_face.py": 63,
    "tests/integration/test_share.py": 159,
    "lan": 30,
    "tests/unit/test_text.py": 20,
}


def test_a_group_and_then_what_takes_long_begins_first() -> None:
    assert sorted(UNITS, key=lambda scope: share(scope, UNITS[scope]), reverse=True) == [
        "lan",
        "tests/integration/test_share.py",
        "tests/e2e/test_hugging_face.py",
        "tests/unit/memory/test_architectures.py",
        "tests/unit/test_text.py",
    ]


@pytest.mark.parametrize(
    ("nodeid", "scope"),
    [
        ("tests/unit/test_net.py::test_one", "tests/unit/test_net.py"),
        ("tests/unit/test_net.py::TestAll::test_one[a@b::c]", "tests/unit/test_net.py"),
        ("tests/e2e/test_elsewhere.py::TestLan::test_one[x]@lan", "lan"),
    ],
)
def test_a_file_is_together_unless_its_tests_have_a_group(nodeid: str, scope: str) -> None:
    assert ByFile._split_scope(ByFile.__new__(ByFile), nodeid) == scope
