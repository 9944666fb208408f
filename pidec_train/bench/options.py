"""What the bench is asked for. No torch here."""

from __future__ import annotations

from dataclasses import dataclass

from ..protocol.errors import PidecError, did_you_mean

CONTENDERS = ("upstream", "eager", "graph", "compile", "bf16")
WHOLE, QUICK, QUICK_CPU = (1024, 4096), (1024,), (128,)  # batch sizes
LARGEST_BATCH = 16_384  # half of the windows there are: the upstream way drops what does not fill a batch


@dataclass(frozen=True)
class Options:
    """Attributes:
    quick: one batch size and short turns.
    batch_sizes: empty: (1024, 4096), or what `quick` takes.
    device: "auto", "cpu" or "cuda".
    contenders: which of CONTENDERS run, empty for all; "upstream" always does, because all ratios are to it.
    rounds: turns of each contender; None: 7, with `quick` 5.
    seconds: length of a turn; None: 2, with `quick` 1.
    json: one JSON object on stdout instead of tables.
    """

    quick: bool = False
    batch_sizes: tuple[int, ...] = ()
    device: str = "auto"
    contenders: tuple[str, ...] = ()
    rounds: int | None = None
    seconds: float | None = None
    json: bool = False

    def __post_init__(self) -> None:
        """Raises:
        PidecError: a value that cannot be.
        """
        for size in self.batch_sizes:
            if not 1 <= size <= LARGEST_BATCH:
                raise PidecError(f"batch size {size} is not possible: 1 to {LARGEST_BATCH:,} are")
        for name in self.contenders:
            if name not in CONTENDERS:
                raise PidecError(f'contender "{name}" does not exist: {did_you_mean(name, CONTENDERS)}')
        if self.device not in ("auto", "cpu", "cuda"):
            raise PidecError(f'device "{self.device}" is not possible: allowed are auto, cpu and cuda')
        if self.rounds is not None and self.rounds < 1:
            raise PidecError(f"rounds {self.rounds} is not possible: at least 1")
        if self.seconds is not None and not 0 < self.seconds < float("inf"):
            raise PidecError(f"seconds {self.seconds} is not possible: more than 0")

    def sizes_on(self, device_type: str) -> tuple[int, ...]:
        """Batch sizes to measure, each once, in the order asked for."""
        default = WHOLE if not self.quick else QUICK_CPU if device_type == "cpu" else QUICK
        return tuple(dict.fromkeys(self.batch_sizes or default))

    @property
    def turns(self) -> int:
        return self.rounds or (5 if self.quick else 7)

    @property
    def turn_seconds(self) -> float:
        return self.seconds or (1.0 if self.quick else 2.0)
