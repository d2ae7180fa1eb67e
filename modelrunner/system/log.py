"""Loggers that load the standard library's `logging` when somebody listens.

It takes longer to load than most commands work. What is worth no more than a line of debugging is
for those who have set logging up, and they have loaded it.
"""

import sys
from typing import Any


class Log:
    """A logger by name, as `logging.getLogger` returns one."""

    def __init__(self, name: str) -> None:
        self._name = name

    def debug(self, message: str, *values: object) -> None:
        """Say what happens, for who looks for an error."""
        if "logging" in sys.modules:
            self._logger().debug(message, *values, stacklevel=2)

    def info(self, message: str, *values: object, exc_info: bool = False) -> None:
        """Say what an administrator may want to know; `exc_info` adds the exception's traceback."""
        if "logging" in sys.modules:
            self._logger().info(message, *values, exc_info=exc_info, stacklevel=2)

    def _logger(self) -> Any:  # noqa: ANN401 - whose type is what is not to be loaded
        import logging

        return logging.getLogger(self._name)
