"""A bounded pool of threads for what blocks, cheaper for each job than ``concurrent.futures``."""

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

_log = logging.getLogger(__name__)

Job = Callable[[], Any]
Done = Callable[[Any], None]


class Workers:
    """Runs jobs in threads, and calls back on the loop with what they return.

    Jobs wait in one queue, in order; who adds them has to bound them.

    :param count: how many threads.
    """

    def __init__(self, count: int, *, name: str = "fileserver") -> None:
        self._loop = asyncio.get_running_loop()
        self._jobs: SimpleQueue[tuple[Job, Done] | None] = SimpleQueue()
        self._results: deque[tuple[Done, Any]] = deque()
        # The loop has been told of results, and has not begun to take them.
        self._told = False
        self._threads = [
            threading.Thread(target=self._work, name=f"{name} {number}", daemon=True)
            for number in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, job: Job, done: Done) -> None:
        """Have ``job`` run, and ``done`` called on the loop with its result.

        :param job: raises nothing; an exception is logged, and the result is None.
        """
        self._jobs.put((job, done))

    async def run(self, job: Job) -> Any:
        """Run one job and return its result."""
        future: asyncio.Future[Any] = self._loop.create_future()

        def done(result: Any) -> None:
            if not future.done():
                future.set_result(result)

        self.submit(job, done)
        return await future

    def stop(self) -> None:
        """End the threads once they have done what waits; jobs under way are not cut off."""
        for _ in self._threads:
            self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            work, done = job
            try:
                result = work()
            except Exception:  # noqa: BLE001  a job that failed must not end its thread
                _log.exception("a job of a worker failed")
                result = None
            self._results.append((done, result))
            if self._told:
                continue
            self._told = True
            try:
                self._loop.call_soon_threadsafe(self._deliver)
            except RuntimeError:
                return  # the loop has ended

    def _deliver(self) -> None:
        self._told = False  # whoever has a result from now on tells again
        results = self._results
        while results:
            done, result = results.popleft()
            done(result)
