"""Work in threads of their own."""

import asyncio
import threading

from modelrunner.serve.transfers import in_thread


def test_work_whose_result_nobody_waits_for_any_more_ends_in_silence() -> None:
    async def run() -> list[object]:
        problems: list[object] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _loop, context: problems.append(context))
        may_end = threading.Event()
        in_thread(lambda: may_end.wait(60), "work").cancel()
        may_end.set()
        while any(thread.name == "work" for thread in threading.enumerate()):
            await asyncio.sleep(0)
        # what the thread has left to the loop
        await asyncio.sleep(0)
        return problems

    assert asyncio.run(run()) == []
