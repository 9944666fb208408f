"""The keys that do something to a checkpoint; the same in the browser and on a checkpoint's own screen."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from textual.binding import Binding, BindingType

from pidec_train.protocol.episodes import episodes_file
from pidec_train.protocol.errors import PidecError
from pidec_train.protocol.rundir import slug

from ..copying import copy_file, keep_copy
from ..manager.catalogue import Catalogue, Entry, check_hash
from ..manager.catalogue_order import Lineage
from ..manager.jobs import JobState
from ..manager.shelf import Shelf
from ..messages import CheckpointJudged, EpisodesRead
from ..motion.takes import find_takes, takes_beside
from ..widgets.checkpointlines import printable
from ..words import duration, keyed, size
from .base import PidecScreen


def name_of(entry: Entry) -> str:
    """How a checkpoint is called in sentences."""
    if entry.step is not None:
        return printable(f"{entry.run} step {entry.step:,}")
    return printable(f"{entry.run}/{entry.path.name}")


def place_of(entry: Entry, root: Path) -> str:
    """Its path; without the workspace's own, where it lies in there."""
    path = entry.path.relative_to(root) if entry.path.is_relative_to(root) else entry.path
    return printable(str(path))


class CheckpointKeys(PidecScreen):
    """Mixed into screens that have a checkpoint."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("e", "evaluate", "evaluate", id="checkpoints.evaluate"),
        Binding("d", "decorate", "decorate", id="checkpoints.decorate"),
        Binding("a", "adapt", "adapt", id="checkpoints.adapt"),
        Binding("R", "resume", "resume run", id="checkpoints.resume"),
        Binding("v", "watch", "watch", id="checkpoints.watch"),
        Binding("x", "trash", "trash", id="checkpoints.trash"),
        Binding("y", "copy", "copy path", id="checkpoints.copy"),
        Binding("H", "hash", "check hash", show=False, id="checkpoints.hash"),
    ]

    @property
    def shelf(self) -> Shelf:
        """Where the checkpoints come from."""
        raise NotImplementedError

    def entry(self) -> Entry | None:
        """The checkpoint that a key is about."""
        raise NotImplementedError

    def changed(self, gone: Path | None = None) -> None:
        """Called from a thread: the disk is not as it was; `gone` was thrown away."""

    def renew(self, catalogue: Catalogue, lineage: Lineage) -> None:
        """The browser below has read the disk again."""

    def _policy(self, *kinds: str) -> Entry | None:
        """The checkpoint, if it is a policy of one of these kinds; else it is said why not."""
        entry = self.entry()
        if entry is None:
            return None
        if not entry.is_policy:
            why = entry.note or f"it is of kind {entry.kind}"
            self.notify(printable(why), title=f"{name_of(entry)} cannot be used", timeout=6, markup=False)
            return None
        if kinds and entry.kind not in kinds:
            hint = f"Take the base policy that it stands on: {self.key('checkpoints.arrange')} shows the lineage."
            self.notify(hint, title=f"{name_of(entry)} is a {entry.kind}, not a base policy", timeout=6, markup=False)
            return None
        return entry

    def _form(self, kind: str, config: dict[str, Any], title: str) -> None:
        from .form import FormScreen

        self.app.push_screen(FormScreen(kind, config, title=title))

    # --- jobs that begin with it

    def action_evaluate(self) -> None:
        if entry := self._policy():
            self._form("evaluate", {"ckpt": str(entry.path)}, f"Evaluate {name_of(entry)}")

    def action_decorate(self) -> None:
        if entry := self._policy("diffusion"):
            task = {"env_id": entry.env_id} if entry.env_id else {}
            self._form("decorator", {"base_policy_ckpt": str(entry.path), **task}, f"Decorate {name_of(entry)}")

    def action_adapt(self) -> None:
        entry = self._policy("diffusion")
        if entry is None:
            return
        if entry.origin == "ours":
            hint = "Adapting is for policies from ManiSkill2; the job says so, where there is nothing to adapt."
            self.notify(hint, title="It was trained here", timeout=6)
        folder = self.door.manager.workspace.checkpoints / f"adapted-{slug(entry.run)}"
        config = {"ckpt": str(entry.path), "out": str(folder / entry.path.name)}
        self._form("adapt", config, f"Adapt {name_of(entry)} to ManiSkill3")

    def action_resume(self) -> None:
        """Retry the job that wrote it, past its end where it has reached it; the job manager says where that cannot
        be."""
        entry = self.entry()
        if entry is None:
            return
        job_id = entry.job
        if job_id is None:
            self.notify(
                "pidec-train with the same settings, --checkpoint-dir and --resume goes on with it.",
                title=f"{printable(entry.run)} is no run of this queue",
                timeout=8,
                markup=False,
            )
            return
        job = next((each for each in self.door.board.jobs or () if each.id == job_id), None)
        if job is not None and job.state is JobState.succeeded:
            from .lengthen import lengthen

            lengthen(self, job)
            return
        self.door.act(lambda m: m.retry(job_id), f"Job {job_id} queued again: it goes on from its last checkpoint")

    # --- looking

    def action_watch(self) -> None:
        """Episodes that lie beside it, else those of the newest job that evaluated it. They are read in a thread."""
        entry, manager = self.entry(), self.door.manager
        if entry is None:
            return
        name = name_of(entry)

        def work() -> None:
            try:
                told = next((each.job for each in entry.evaluations if each.job is not None), None)
                if told is not None and not episodes_file(entry.path).exists():
                    job = manager.job(told)
                    message = EpisodesRead(job, find_takes(manager, job))
                else:
                    message = EpisodesRead(name, takes_beside(entry.path))
            except PidecError as error:
                message = EpisodesRead(name, (), error)
            self.post_message(message)

        self.door.act(lambda _: work(), reads=True)

    def on_episodes_read(self, message: EpisodesRead) -> None:
        if message.why is not None:
            self.notify(keyed(message.why.hint, self.key), title=message.why.message, timeout=8, markup=False)
        elif self.is_current:
            from .watch import WatchScreen

            self.app.push_screen(WatchScreen(message.job, message.takes))

    def action_copy(self) -> None:
        """The path, to the clipboard and to a file: a terminal may drop what is sent to the clipboard."""
        entry = self.entry()
        if entry is None:
            return
        text = str(entry.path)
        self.app.copy_to_clipboard(text)
        if self.door.readonly:
            self.notify("The path is in the clipboard, if this terminal takes OSC 52.", timeout=4)
            return
        where = f"the clipboard (if this terminal takes OSC 52) and {copy_file(self.door.manager.workspace)}"
        self.door.act(lambda m: keep_copy(m.workspace, text), f"The path is in {where}")

    def action_hash(self) -> None:
        entry = self.entry()
        if entry is None:
            return
        if not entry.told:
            self.notify("There is no .json whose hash it could be held against.", title=name_of(entry), timeout=5)
            return
        self.notify(f"Reading {size(entry.size)} of {name_of(entry)}", timeout=2, markup=False)
        said = f"{name_of(entry)}: the contents match their hash"
        self.door.act(lambda m: check_hash(entry), said, reads=True)

    # --- the trash

    def action_trash(self) -> None:
        """Ask first; what must stay is refused before, with the reason. The disk is read in a thread."""
        entry, shelf = self.entry(), self.shelf
        if entry is None:
            return

        def work() -> None:
            try:
                why, goes_with_it = shelf.may_go(entry.path)
                error = PidecError(f"{name_of(entry)} stays: {why}") if why else None
                self.post_message(CheckpointJudged(entry, goes_with_it, error))
            except PidecError as error:
                self.post_message(CheckpointJudged(entry, (), error))

        self.door.act(lambda _: work(), reads=True)

    def on_checkpoint_judged(self, message: CheckpointJudged) -> None:
        if message.why_not is not None:
            error = message.why_not
            self.notify(error.hint, title=error.message, severity="error", timeout=10, markup=False)
            return
        if not self.is_current:
            return
        from .question import Question

        entry, shelf = message.entry, self.shelf
        age = duration(self.door.clock() - entry.created)
        text = " ".join(
            [
                f"Put {name_of(entry)} ({size(entry.size)}, {age} old) into the trash?",
                *message.goes_with_it,
                f"It goes to {entry.root / '.trash'}: mv brings it back, rm frees the disk.",
            ]
        )

        def throw(_: object) -> None:
            shelf.throw_away(entry.path)
            self.changed(entry.path)

        self.app.push_screen(
            Question(printable(text), "into the trash", "keep it"),
            lambda yes: self.door.act(throw, f"{name_of(entry)} is in the trash") if yes else None,
        )
