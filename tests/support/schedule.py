"""Which worker of pytest-xdist has which tests: a group, or else a file, has one.

What a file's tests share is made once that way, and not once in each worker; and its controller,
which looks through all that a worker was ever given whenever a test ends, has hundreds of units to
look through instead of ten thousand.
"""

from xdist.scheduler import LoadGroupScheduling
from xdist.workermanage import WorkerController

_SHARES = {"e2e": 10, "integration": 5}
"""How long a test of each folder takes, beside one of `tests/unit`."""


class ByFile(LoadGroupScheduling):
    """Groups and files, those first that take long: nobody is to wait for the last one."""

    def _split_scope(self, nodeid: str) -> str:
        scope = super()._split_scope(nodeid)
        return nodeid.partition("::")[0] if scope == nodeid else scope

    def _assign_work_unit(self, node: WorkerController) -> None:
        longest = max(self.workqueue, key=lambda scope: share(scope, len(self.workqueue[scope])))
        self.workqueue.move_to_end(longest, last=False)
        super()._assign_work_unit(node)


def share(scope: str, tests: int) -> tuple[bool, int]:
    """How early a unit is to begin: a group of several files before all files."""
    folder = scope.removeprefix("tests/").partition("/")[0]
    return (not scope.endswith(".py"), tests * _SHARES.get(folder, 1))
