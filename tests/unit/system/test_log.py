"""A logger that loads `logging` when somebody listens."""

import logging
import subprocess
import sys

from modelrunner.system.log import Log


def test_lines_go_to_the_logger_of_the_name_with_the_place_they_come_from(caplog) -> None:
    caplog.set_level(logging.DEBUG, "modelrunner.x")
    Log("modelrunner.x").debug("%s of %d", "a", 2)
    try:
        int("x")
    except ValueError:
        Log("modelrunner.x").info("failed", exc_info=True)
    assert caplog.record_tuples == [
        ("modelrunner.x", logging.DEBUG, "a of 2"),
        ("modelrunner.x", logging.INFO, "failed"),
    ]
    assert {record.filename for record in caplog.records} == {"test_log.py"}
    assert "ValueError: invalid literal" in caplog.text


def test_nothing_is_loaded_and_said_where_nobody_has_set_logging_up() -> None:
    program = (
        "import sys; from modelrunner.system.log import Log\n"
        "Log('x').info('hidden'); Log('x').debug('hidden'); print('logging' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (b"False\n", b"")
