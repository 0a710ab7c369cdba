"""
The solver: finds what the cache has, executes the rest, by need and in parallel.

First one thread goes through the steps in order and asks the cache wherever a key can be known;
a build that is cached whole ends there. What is left goes to a pool: a step starts when its
inputs are done. Its key is asked again first, since a parent that was executed to the identity it
had before leads back into the cache.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from builder import context as contexts
from builder import keys
from builder.context import StageFiles
from builder.dockerfile.source import Span
from builder.events import Notice, StepEnded, StepOutput, StepStarted
from builder.execute.files import execute_copy, execute_workdir
from builder.plan import Base, Copy, Plan, Run, Step, Workdir
from builder.selection import Picked
from builder.stack import Made, Stack
from builder.tools import Tools
from layers.layerwrite import WrittenLayer
from ocispec.digest import CacheKey
from ocispec.errors import Cancelled, PybuildError

Execute = Callable[[], WrittenLayer]
Locate = Callable[[PybuildError, Span], PybuildError]  # the error, with its place shown


class Solver:
    """Solves one plan, once."""

    def __init__(
        self, plan: Plan, tools: Tools, locate: Locate, *, use_cache: bool, jobs: int
    ) -> None:
        self._steps = plan.steps
        self._tools = tools
        self._locate = locate
        self._use_cache = use_cache
        self._jobs = jobs
        self._results: list[Stack | None] = [None] * len(plan.steps)
        self._selected: dict[int, Sequence[Sequence[Picked]]] = {}
        self._lock = threading.Lock()  # guards _flights and cached
        self._flights: dict[CacheKey, threading.Lock] = {}
        self.cached = 0

    def solve(self) -> Sequence[Stack | None]:
        """The filesystem that each step gives. The first error of a step ends the build."""
        todo = [index for index in range(len(self._steps)) if not self._from_cache(index)]
        if todo:
            self._execute_all(todo)
        return self._results

    # ---- what the cache knows

    def _from_cache(self, index: int) -> bool:
        """Give step *index* its result if that needs no work."""
        step = self._steps[index]
        if isinstance(step.op, Base):
            self._begin(index)
            self._results[index] = Stack(tuple(Made(layer, 0) for layer in step.op.layers))
            self._end(index, time.monotonic(), cached=True)
            return True
        if not self._use_cache or any(self._results[i] is None for i in step.inputs):
            return False
        started = time.monotonic()
        try:
            key = keys.key_of(self._preimage(index))
        except PybuildError as error:
            raise self._located(error, step) from error
        made = self._tools.cache.get(key)
        if made is None:
            return False
        self._begin(index)
        self._results[index] = self._input(index, 0).plus(made)
        self._end(index, started, cached=True)
        return True

    def _preimage(self, index: int) -> Mapping[str, Any]:
        """The pre-image of the step's first key; its inputs have results."""
        step = self._steps[index]
        parent = self._input(index, 0).identity
        match step.op:
            case Run():
                return keys.run(step.op, self._tools.platform, parent)
            case Workdir():
                return keys.workdir(step.op, parent)
            case Copy() if len(step.inputs) > 1:
                return keys.copy(step.op, {"filesystem": self._input(index, 1).identity}, parent)
            case Copy():
                return keys.copy(step.op, {"files": self._context_digest(index, step.op)}, parent)
            case Base():
                raise AssertionError("a base has no key")

    def _context_digest(self, index: int, op: Copy) -> str:
        if index not in self._selected:
            self._selected[index] = self._tools.context.select(op.sources)
        return contexts.digest(self._selected[index], owners=False)

    def _input(self, index: int, number: int) -> Stack:
        stack = self._results[self._steps[index].inputs[number]]
        assert stack is not None
        return stack

    # ---- what has to be done

    def _execute_all(self, todo: Sequence[int]) -> None:
        from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

        waiting = set(todo)
        futures: dict[Future[None], int] = {}
        failure: BaseException | None = None
        with ThreadPoolExecutor(self._jobs, thread_name_prefix="step") as pool:
            if any(isinstance(self._steps[index].op, Run) for index in todo):
                # While the first steps copy files. What goes wrong here goes wrong in start(), too.
                pool.submit(lambda: self._tools.runner().warm())
            try:
                while waiting or futures:
                    if failure is None:
                        for index in sorted(waiting):
                            if all(self._results[i] is not None for i in self._inputs(index)):
                                waiting.discard(index)
                                futures[pool.submit(self._step, index)] = index
                    if not futures:
                        break
                    done, _ = wait(futures, return_when=FIRST_COMPLETED)
                    for future in done:
                        del futures[future]
                        error = future.exception()
                        if error is not None and (
                            failure is None or isinstance(failure, Cancelled)
                        ):
                            failure = error
                            self._tools.running.stop()
            except BaseException:
                self._tools.running.stop()
                raise
        if failure is not None:
            raise failure

    def _inputs(self, index: int) -> tuple[int, ...]:
        return self._steps[index].inputs

    def _step(self, index: int) -> None:
        """Give step *index* its result, from the cache or by executing it."""
        self._tools.running.check()
        step = self._steps[index]
        started = time.monotonic()
        self._begin(index)
        cached = False
        try:
            preimage = self._preimage(index)
            key = keys.key_of(preimage)
            with self._flight(key):
                made = self._tools.cache.get(key) if self._use_cache else None
                cached = made is not None
                if made is None:
                    made, cached = self._make(index, step)
                    self._tools.cache.put(key, made, preimage)
        except BaseException as error:
            message = str(error).partition("\n")[0] or type(error).__name__
            self._end(index, started, cached=False, error=message)
            if isinstance(error, PybuildError):
                raise self._located(error, step) from error
            raise
        self._results[index] = self._input(index, 0).plus(made)
        self._end(index, started, cached=cached)

    def _located(self, error: PybuildError, step: Step) -> PybuildError:
        return error if step.span is None else self._locate(error, step.span)

    def _flight(self, key: CacheKey) -> threading.Lock:
        """One at a time for each key: equal steps of two stages are executed once."""
        with self._lock:
            return self._flights.setdefault(key, threading.Lock())

    def _make(self, index: int, step: Step) -> tuple[Made, bool]:
        """The change of step *index*, and whether the cache had it under its content after all."""
        parent = self._input(index, 0)
        match step.op:
            case Run():
                op = step.op
                from builder.execute.run import execute

                def output(stream: int, data: bytes) -> None:
                    self._tools.on_event(StepOutput(index + 1, stream, data))

                return self._executed(index, lambda: execute(op, parent, self._tools, output))
            case Workdir():
                directory = step.op
                return self._executed(
                    index, lambda: execute_workdir(directory, parent, self._tools)
                )
            case Copy() if len(step.inputs) > 1:
                return self._copy_from_stage(index, step.op)
            case Copy():
                files = step.op
                found = self._selected[index]
                return self._executed(
                    index,
                    lambda: execute_copy(files, parent, self._tools.context, found, self._tools),
                )
            case Base():
                raise AssertionError("a base is never executed")

    def _copy_from_stage(self, index: int, op: Copy) -> tuple[Made, bool]:
        """Look at the files in the other stage: if just those are known, nothing is copied."""
        tools, parent = self._tools, self._input(index, 0)
        with tools.snapshots().view(tools.unpacked(self._input(index, 1))) as root:
            files = StageFiles(root)
            found = files.select(op.sources)
            preimage = keys.copy(
                op, {"files": contexts.digest(found, owners=True)}, parent.identity
            )
            key = keys.key_of(preimage)
            made = tools.cache.get(key) if self._use_cache else None
            if made is not None:
                return made, True
            made, _ = self._executed(index, lambda: execute_copy(op, parent, files, found, tools))
        tools.cache.put(key, made, preimage)
        return made, False

    def _executed(self, index: int, execute: Execute) -> tuple[Made, bool]:
        """Execute; if the change is one that this parent had before, the earlier layer is kept."""
        tools = self._tools
        written = execute()
        made = Made(written.layer, tools.clock(), written.newest, empty=written.entries == 0)
        preimage = keys.result(self._input(index, 0).identity, made.layer.identity)
        key = keys.key_of(preimage)
        earlier = tools.cache.get(key)
        if earlier is not None:
            if earlier.layer.diff_id != made.layer.diff_id:
                tools.on_event(Notice(index + 1, "executed again to the same content"))
            return earlier, False
        tools.cache.put(key, made, preimage)
        return made, False

    # ---- events

    def _begin(self, index: int) -> None:
        self._tools.on_event(StepStarted(index + 1, self._steps[index].title))

    def _end(self, index: int, started: float, *, cached: bool, error: str = "") -> None:
        with self._lock:
            self.cached += cached and not isinstance(self._steps[index].op, Base)
        seconds = time.monotonic() - started
        self._tools.on_event(StepEnded(index + 1, cached, seconds, error))
