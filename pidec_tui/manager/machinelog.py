"""What the machine did while jobs ran, in the job log: samples of GPUs and host, and who computed on each GPU."""

from __future__ import annotations

import json
import math
import statistics
import struct
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field

from .joblog import JobLog
from .jobs import Attempt, Job

HOST = "host"
# The columns of a sample. Percent, GiB, W, MHz, degrees Celsius, NVML's throttle bits.
UTILIZATION, MEMORY, POWER, POWER_LIMIT = "utilization", "memory", "power", "power_limit"
CLOCK, TEMPERATURE, THROTTLE, CPU = "clock", "temperature", "throttle", "cpu"
GPU_COLUMNS = (UTILIZATION, MEMORY, POWER, POWER_LIMIT, CLOCK, TEMPERATURE, THROTTLE)
HOST_COLUMNS = (CPU, MEMORY)

WHOLE_S = 86_400.0  # for which every sample is kept; then the mean of each minute
MINUTE = 60.0
GAP_S = 150.0  # between two samples that are not joined by a line: nobody measured (old ones are a minute apart)


@dataclass(frozen=True)
class Device:
    """A GPU by its UUID, or the host.

    Attributes:
        memory_gib: all that it has.
        cores: of the host; None: a GPU.
    """

    uuid: str
    name: str
    memory_gib: float
    cores: int | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        return HOST_COLUMNS if self.uuid == HOST else GPU_COLUMNS


@dataclass(frozen=True)
class Tenant:
    """A compute process on a GPU.

    Attributes:
        pid: None where it cannot be found here (a container sees the host's).
        user: its owner's name, else number; "" if unknown.
        gib: GPU memory, 0 where NVML does not say.
        job: of this workspace that it belongs to; None: somebody else's, or it cannot be told.
    """

    pid: int | None
    name: str
    user: str
    gib: float
    job: int | None = None

    @property
    def who(self) -> tuple[int | None, str, str, int | None]:
        """The same for as long as it lives."""
        return self.pid, self.name, self.user, self.job


@dataclass(frozen=True)
class Tenancy:
    """Who computes on a GPU from `time` (unix seconds) on, until the next one."""

    time: float
    tenants: tuple[Tenant, ...]


@dataclass(frozen=True)
class Sample:
    """One look at one device, its values in the order of its columns; NaN for what is not known."""

    time: float
    device: Device
    values: tuple[float, ...]


@dataclass
class MachineBlock:
    """The samples of one device over a stretch of time, oldest first.

    Attributes:
        times: (N,) unix seconds.
        columns: (N,) values by column; NaN for what is not known.
        tenancies: of a GPU; the first may have begun before the first sample.
    """

    device: Device
    times: array[float] = field(default_factory=lambda: array("d"))
    columns: dict[str, array[float]] = field(default_factory=dict)
    tenancies: list[Tenancy] = field(default_factory=list)


class MachineLog:
    """Samples of all devices. Callers hold the transaction when they write."""

    def __init__(self, log: JobLog) -> None:
        self._log = log
        self._thinned = 0.0  # samples before this are one a minute already

    # --- writing ---------------------------------------------------------------------------------------------------

    def add(self, samples: Iterable[Sample]) -> None:
        """Insert samples; of one device and moment, the first one stays."""
        rows = [(sample.time, self._id(sample.device), _packed(sample.values)) for sample in samples]
        self._log.many("INSERT OR IGNORE INTO machine_samples (time, device, vals) VALUES (?, ?, ?)", rows)

    def add_tenants(self, device: Device, tenancy: Tenancy) -> None:
        """From now on these compute there."""
        text = json.dumps([asdict(tenant) for tenant in tenancy.tenants], ensure_ascii=False, separators=(",", ":"))
        self._log.rows(
            "INSERT OR REPLACE INTO machine_tenants (time, device, tenants) VALUES (?, ?, ?)",
            (tenancy.time, self._id(device), text),
        )

    def _id(self, device: Device) -> int:
        rows = self._log.rows("SELECT id FROM machine_devices WHERE uuid = ?", (device.uuid,))
        if not rows:
            self._log.rows(
                "INSERT INTO machine_devices (uuid, name, memory_gib, cores) VALUES (?, ?, ?, ?)",
                (device.uuid, device.name, device.memory_gib, device.cores),
            )
            rows = self._log.rows("SELECT id FROM machine_devices WHERE uuid = ?", (device.uuid,))
        return int(rows[0][0])

    def thin(self, now: float) -> int:
        """Make one of all samples of a minute, where they are older than a day, and leave of who computed on a GPU the
        last word of each minute. Gives how many samples went.

        Five-second samples of a week would be as large as the curves of a hundred runs.
        """
        until = (now - WHOLE_S) // MINUTE * MINUTE
        self._thin_tenants(until)
        devices = self._devices()
        minutes: dict[tuple[int, float], list[tuple[float, bytes]]] = {}
        sql = "SELECT time, device, vals FROM machine_samples WHERE time >= ? AND time < ?"
        for time, number, vals in self._log.rows(sql, (self._first_crowded(until), until)):
            minutes.setdefault((number, time // MINUTE), []).append((time, vals))
        crowded = {key: rows for key, rows in minutes.items() if len(rows) > 1}
        gone = [(time, number) for (number, _), rows in crowded.items() for time, _ in rows]
        kept = [
            ((minute + 0.5) * MINUTE, number, _mean(devices[number], [vals for _, vals in rows]))
            for (number, minute), rows in crowded.items()
        ]
        self._log.many("DELETE FROM machine_samples WHERE time = ? AND device = ?", gone)
        self._log.many("INSERT OR IGNORE INTO machine_samples (time, device, vals) VALUES (?, ?, ?)", kept)
        self._thinned = max(self._thinned, until)
        return len(gone) - len(kept)

    def _thin_tenants(self, until: float) -> None:
        """Of the rows of a minute the last one stays, as it holds until the next: a process that comes and goes with
        every look writes as many rows as there are samples."""
        self._log.rows(
            "DELETE FROM machine_tenants WHERE device IN (SELECT id FROM machine_devices) AND time >= ?1 AND time < ?2 "
            "AND EXISTS (SELECT 1 FROM machine_tenants AS later WHERE later.device = machine_tenants.device AND "
            "later.time > machine_tenants.time AND "
            "later.time < (CAST(machine_tenants.time / 60 AS INTEGER) + 1) * 60)",
            (self._thinned, until),
        )

    def _first_crowded(self, until: float) -> float:
        """Time of the first sample of a minute with several; `until` if there is none.

        Each runner asks once for all that there is: months of it in a dict took seconds, with the job log locked, and
        hundreds of megabytes.
        """
        sql = (
            "SELECT coalesce(min(first), ?2) FROM (SELECT min(time) AS first FROM machine_samples "
            "WHERE time >= ?1 AND time < ?2 GROUP BY device, CAST(time / 60 AS INTEGER) HAVING count(*) > 1)"
        )
        return float(self._log.rows(sql, (self._thinned, until))[0][0])

    # --- reading ---------------------------------------------------------------------------------------------------

    def blocks(self, after: float, until: float) -> list[MachineBlock]:
        """The samples with a time above `after` and up to `until`, one block for each device that has any."""
        with self._log.read():  # a device that is new comes with its first samples, or not yet
            devices = self._devices()
            grouped: dict[int, list[tuple[float, bytes]]] = {}
            sql = "SELECT device, time, vals FROM machine_samples WHERE time > ? AND time <= ? ORDER BY time"
            for number, time, vals in self._log.rows(sql, (after, until)):
                grouped.setdefault(number, []).append((time, vals))
            return [
                MachineBlock(
                    devices[number],
                    array("d", [time for time, _ in rows]),
                    _columns(devices[number], [vals for _, vals in rows]),
                    self._tenancies(number, after, until),
                )
                for number, rows in sorted(grouped.items())
            ]

    def _tenancies(self, number: int, after: float, until: float) -> list[Tenancy]:
        sql = (
            "SELECT time, tenants FROM machine_tenants WHERE device = ?1 AND time <= ?3 AND time >= "
            "coalesce((SELECT max(time) FROM machine_tenants WHERE device = ?1 AND time <= ?2), ?2) ORDER BY time"
        )
        rows = self._log.rows(sql, (number, after, until))
        return [Tenancy(time, tuple(Tenant(**tenant) for tenant in json.loads(text))) for time, text in rows]

    def _devices(self) -> dict[int, Device]:
        rows = self._log.rows("SELECT id, uuid, name, memory_gib, cores FROM machine_devices")
        return {row[0]: Device(*row[1:]) for row in rows}


def _packed(values: Sequence[float]) -> bytes:
    return struct.pack(f"<{len(values)}f", *values)


def _columns(device: Device, rows: Sequence[bytes]) -> dict[str, array[float]]:
    names = device.columns
    flat = array("f", b"".join(rows))
    return {name: array("d", flat[place :: len(names)]) for place, name in enumerate(names)}


def _mean(device: Device, rows: Sequence[bytes]) -> bytes:
    """One sample for several: means of what is known; throttle bits that were set at any time."""
    means = []
    for name, values in _columns(device, rows).items():
        known = [value for value in values if not math.isnan(value)]
        if name == THROTTLE:
            bits = 0
            for value in known:
                bits |= int(value)
            means.append(float(bits) if known else math.nan)
        else:
            means.append(statistics.fmean(known) if known else math.nan)
    return _packed(means)


def gpu_of(job: Job, devices: Iterable[str]) -> str | None:
    """The GPU that a job computes on, by its UUID, of those that were sampled; None: none, or not known."""
    gpus = [uuid for uuid in devices if uuid != HOST]
    if job.config.get("device") == "cpu" or not job.attempts:
        return None
    own = job.attempts[-1].gpu
    if own is not None:
        return own if own in gpus else None
    by_hand = job.id < 0 and job.kind not in ("demos", "adapt")
    return gpus[0] if by_hand and len(gpus) == 1 else None


def computed_on(attempt: Attempt, uuid: str) -> bool:
    """Whether what was sampled of this device is of this attempt: an earlier one may have had another GPU."""
    return uuid == HOST or attempt.gpu in (None, uuid)
