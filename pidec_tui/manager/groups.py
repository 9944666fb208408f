"""Jobs that were queued as one: queued, held, released and retried as one, all of them or none."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pidec_train.protocol.errors import PidecError
from pidec_train.protocol.rundir import Workspace

from .joblog import JobLog
from .jobs import Job, JobState
from .newjobs import NewJob, swept
from .queueing import Queue, write_spec_of
from .sweep import Combination


class Groups:
    """`Manager.groups`. To cancel one: `Manager.cancel_group`."""

    def __init__(self, queue: Queue, log: JobLog, ws: Workspace) -> None:
        self._queue = queue
        self._log = log
        self._ws = ws

    def add(
        self,
        kind: str,
        values: Mapping[str, Any],
        sweep: Sequence[Combination],
        *,
        name: str | None = None,
        lane: str | None = None,
        after: Sequence[int] = (),
    ) -> list[Job]:
        """Queue a job for each combination, as `Manager.add` does one. Raises PidecError as that does."""
        return self._queue.add_group(None, swept(NewJob(kind, values, name=name, lane=lane, after=after), sweep))

    def hold(self, name: str) -> list[Job]:
        """Keep its queued jobs from starting. Gives those; raises PidecError if none is queued."""
        return self._each(name, (JobState.queued,), "queued", self._queue.do_hold)

    def release(self, name: str) -> list[Job]:
        """Let its held jobs start. Gives those; raises PidecError if none is held, or one of them cannot start."""
        return self._each(name, (JobState.held,), "held", self._queue.do_release)

    def retry(self, name: str, *, fresh: bool = False) -> list[Job]:
        """Queue its failed and cancelled jobs again. Gives those; raises PidecError if there is none."""
        again = (JobState.failed, JobState.cancelled)
        return self._each(
            name, again, "failed or cancelled", lambda job_id: self._queue.do_retry(job_id, fresh=fresh, extend_to=None)
        )

    def _each(self, name: str, states: Sequence[JobState], word: str, does: Callable[[int], Job]) -> list[Job]:
        chosen: list[Job] = []
        try:
            with self._log.write():
                chosen += (job for job in self._queue.group(name) if job.state in states)
                if not chosen:
                    hint = f'pidec-jobs list --group "{name}" shows them'
                    raise PidecError(f'no job of group "{name}" is {word}', hint)
                return [does(job.id) for job in chosen]
        except PidecError:
            # The rows are as before; the spec.json of those that came first is not, and a rebuild goes by it.
            with contextlib.suppress(PidecError), self._log.write():
                for job in chosen:
                    write_spec_of(self._log, self._ws, job.id)
            raise
