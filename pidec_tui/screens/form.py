"""A job as a form: drawn from the config model, validated as one types, with the command that results."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Input, Static

from pidec_train.protocol.config import parse_config, shell_line
from pidec_train.protocol.errors import PidecError

from ..formfiles import FilesSeen, FormFiles, PathsFound
from ..forms import FormField, files_of, form_fields, from_text, missing_files, to_text, values_of
from ..formsweep import Axes, axes_of, combinations_of, errors_of_axes, one_of, told, understood
from ..manager.jobs import Job
from ..manager.manager import Manager
from ..manager.presetfile import Draft, save_preset
from ..manager.presets import Preset, is_from_first
from ..presetfiles import PresetLooked, look_for
from ..widgets.fields import FieldRow
from ..words import plural
from .base import PidecScreen

# What belongs to the job and not to its config; shown as fields like any other.
JOB_FIELDS = (
    FormField("name", "how the queue calls it; empty: preset or task", True, None, (), True, "text", ""),
    FormField(
        "lane",
        "which queue it stands in; usual: as its kind needs",
        False,
        None,
        ("usual", "gpu", "cpu"),
        False,
        "text",
        "usual",
    ),
    FormField("after", "ids of jobs that must succeed before", False, None, (), True, "text", ""),
)


class _Fields(VerticalScroll, inherit_bindings=False):
    """Without the keys of a scrolling container: up and down go from field to field, which brings each into sight."""


class FormScreen(PidecScreen):
    """Queues a new job by `ctrl+s`, or changes the given one. Several values in a field make a job for each.

    Args:
        kind: of job.
        config: values that differ from the model's defaults.
        preset: where they come from; its name stays with the job.
        job: the queued or held job to change instead of making one.
        clone: the job that the new one is made from: it runs where that one did, and comes after the same jobs.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+s", "queue", "queue", id="form.queue", priority=True),
        Binding("escape", "app.pop_screen", "back", id="form.back"),
        Binding("down", "app.focus_next", "next field", show=False, id="form.next"),
        Binding("up", "app.focus_previous", "previous field", show=False, id="form.previous"),
        Binding("ctrl+n", "next_path", "next path found", id="form.path"),
        Binding("ctrl+o", "unfold", "all settings", id="form.unfold"),
        Binding("f2", "help", "all about this field", show=False, id="form.help"),
        Binding("ctrl+t", "preset", "keep as preset", id="form.preset", priority=True),
    ]

    def __init__(
        self,
        kind: str,
        config: Mapping[str, Any],
        *,
        title: str,
        preset: Preset | None = None,
        job: Job | None = None,
        clone: Job | None = None,
    ) -> None:
        super().__init__()
        self._kind, self._title, self._preset, self._job, self._clone = kind, title, preset, job, clone
        self._axes: Axes = {}
        self._there: Mapping[str, bool] = {}  # whether there is a file, by the text that names it
        self._looking = True  # for what path fields may name
        self._fields = form_fields(kind)
        self._texts = {f.name: to_text(config[f.name]) if f.name in config else f.default or "" for f in self._fields}
        self._job_rows = JOB_FIELDS if job is None else ()
        self._unfolded = False

    def body(self) -> ComposeResult:
        yield Static(Content.styled(self._title, "b"), classes="title")
        with _Fields(id="fields", can_focus=False):
            yield from (self._row(field) for field in self._fields if field.first)
            yield from (self._row(field, self._first_name(field)) for field in self._job_rows if field.first)
            rest = [field for field in (*self._fields, *self._job_rows) if not field.first]
            more = f"{plural(len(rest), 'more setting')}: type to find one, {self.key('form.unfold')} shows all"
            yield Input(placeholder=more, compact=True, id="filter")
            yield from (self._row(field) for field in rest)
        yield Static(id="form-help", markup=False)
        yield Static(id="command-line", markup=False)

    def _row(self, field: FormField, text: str | None = None) -> FieldRow:
        return FieldRow(field, self._texts.get(field.name, field.default or "") if text is None else text)

    def _first_name(self, field: FormField) -> str:
        return self._preset.name if self._preset else ""

    def on_mount(self) -> None:
        self.query_one("#command-line").border_title = "command"
        self._rows()[0].edit()
        kinds = dict.fromkeys(field.path for field in self._fields if field.path)
        board, manager = self.door.board, self.door.manager
        self._files = FormFiles(manager.workspace, board.jobs or (), kinds, self.post_message)
        self._check()

    def on_unmount(self) -> None:
        self._files.end()

    def on_paths_found(self, message: PathsFound) -> None:
        self._looking = False
        for row in self._rows():
            row.offer(message.paths.get(row.field.path or "", ()))
        self._say_help()

    def on_files_seen(self, message: FilesSeen) -> None:
        if message.there != self._there:
            self._there = message.there
            self._judge()

    def _rows(self) -> list[FieldRow]:
        return list(self.query(FieldRow))

    def _config_texts(self) -> dict[str, str]:
        mine = {field.name for field in self._job_rows}
        return {row.field.name: row.text for row in self._rows() if row.field.name not in mine}

    # --- what it says

    def on_field_row_edited(self) -> None:
        self._check()

    def on_input_changed(self, event: Input.Changed) -> None:
        self._check()
        if event.input.id == "filter":
            self._say_help()

    def on_descendant_focus(self) -> None:
        self._say_help()

    def _check(self) -> None:
        """Judge what is typed now, and have the files looked for that it names."""
        self._files.ask(self._named())
        self._judge()

    def _named(self) -> set[str]:
        """The files that are named; where that may be several, each of them, too."""
        whole = set(files_of(self._fields, self._config_texts()).values())
        return whole | {part.strip() for text in whole if "," in text for part in text.split(",")}

    def _judge(self) -> None:
        """Errors, hints, folding and the command, all from what is typed and known of files now."""
        typed = self._config_texts()
        self._axes, wrong = axes_of(self._fields, typed, self._there)
        if self._axes and self._job is not None:
            wrong.update(
                dict.fromkeys(self._axes, f"one value: this is one job. {self.key('job.clone')} makes others from it")
            )
        errors = {**errors_of_axes(self._kind, self._fields, typed, self._axes), **wrong}
        texts = one_of(typed, self._axes)
        after_error = _after_error(self._job_text("after"))
        if after_error:
            errors["after"] = after_error
        hints: Mapping[str, str] = {}
        line = ""
        if not errors:
            try:
                config = parse_config(self._kind, values_of(self._fields, texts))
                missing = missing_files(self._fields, texts, self._there)
                hints = {**config.hints(), **missing, **self._first_notes(texts)}
                line = shell_line(self._kind, config)
                line = f"{told(self._axes)}. The first: {line}" if self._axes else line
            except PidecError as error:
                errors[""] = error.line()
        read = understood(self._fields, typed, self._axes)
        for row in self._rows():
            name = row.field.name
            row.note(errors.get(name, ""), hints.get(name, ""), read.get(name, ""))
            row.display = self._is_open(row, name in errors or name in hints)
        command = self.query_one("#command-line", Static)
        command.set_class(not line, "-wrong")
        command.update(line or f"✗ {errors.get('') or plural(len(errors), 'setting') + ' to put right'}")

    def _first_notes(self, texts: Mapping[str, str]) -> dict[str, str]:
        """By field name: which values come from the job that the preset queues before its own."""
        if self._preset is None or self._preset.first is None:
            return {}
        note = f"{self._preset.first} is queued first, and its checkpoint used; another path here queues this job alone"
        return {name: note for name, text in texts.items() if is_from_first(text.strip())}

    def _is_open(self, row: FieldRow, speaks: bool) -> bool:
        """Fields that people change first; and what is or was no default, is typed in, is wrong or is looked for."""
        wanted = self._wanted()
        if row.field.first or speaks or (self._unfolded and not wanted):
            return True
        if wanted:
            return _is_called(row.field, wanted)
        default = row.field.default or ""
        return row.has_keyboard() or row.text != default or row.initial != default

    def _wanted(self) -> str:
        """The name, or a part of it, that is looked for."""
        return self.query_one("#filter", Input).value.strip().lower().replace("-", "_").replace(" ", "_")

    def _say_help(self) -> None:
        """Two lines on the field that has the keyboard, and which key tells the rest."""
        row, wanted = self._row_with_keyboard(), self._wanted()
        text = ""
        if row is None and wanted and not any(_is_called(each.field, wanted) for each in self._rows()):
            value = ": values are typed into its own line" if "=" in wanted else ""
            text = f'No setting is called "{wanted}"{value}.'
        elif row is not None:
            text = f"{row.field.name}: {row.field.description}"
            if row.field.choices:
                text += f" ({', '.join(row.field.choices)}; {self.key('form.choose')} for the next)"
            elif row.suggestions:
                text += f". Found: {', '.join(row.suggestions[:6])}" + (" …" if len(row.suggestions) > 6 else "")
            elif row.field.path in {"demo", "checkpoint"}:
                text += ". Looking for some …" if self._looking else ". None found in this workspace."
        whole = row is None or len(row.suggestions) <= 6
        self.query_one("#form-help", Static).update(self._cut(text, all_of_it=whole))

    def _cut(self, text: str, *, all_of_it: bool) -> str:
        """As much as two lines hold; where that is not all, with the key that tells it."""
        width = max(self.size.width - 4, 20)
        lines = textwrap.wrap(text, width, break_long_words=True)
        if len(lines) <= 2 and all_of_it:
            return text
        rest = f" {self.key('form.help')}: all of it"
        if len(lines) <= 2 and len(lines[-1]) + len(rest) <= width:
            return text + rest
        second = lines[1] if len(lines) > 1 else lines[0]
        return "\n".join([*lines[: len(lines[:2]) - 1], f"{second[: width - len(rest) - 2]} …{rest}"])

    def _row_with_keyboard(self) -> FieldRow | None:
        return next((row for row in self._rows() if row.has_keyboard()), None)

    def action_help(self) -> None:
        """All about the field, however long."""
        row = self._row_with_keyboard()
        if row is not None:
            from .field_help import FieldHelp

            self.app.push_screen(FieldHelp(row.field, row.suggestions, row.said))

    # --- what it does

    def _job_text(self, name: str) -> str:
        return next((row.text.strip() for row in self._rows() if row.field.name == name and self._job_rows), "")

    def _changed(self) -> dict[str, Any]:
        """The values that were typed, as the config takes them."""
        mine = {field.name for field in self._job_rows}
        return {
            row.field.name: from_text(row.field, row.text)
            for row in self._rows()
            if row.field.name not in {*mine, *self._axes} and row.text != row.initial
        }

    def action_queue(self) -> None:
        wrong = [row for row in self._rows() if row.has_class("-wrong")]
        if wrong or self.query_one("#command-line").has_class("-wrong"):
            if wrong:
                wrong[0].edit()
            self.notify("Something is not right yet: see the lines with ✗.", severity="error", timeout=5)
            return
        unknown = [text for text in files_of(self._fields, self._config_texts()).values() if text not in self._there]
        if any("," in text for text in unknown):  # a file's name, or several files: one job, or a group
            self.notify("Whether there is a file of that name is looked for: try again in a moment.", timeout=4)
            return
        job, changed = self._job, self._changed()
        if job is not None:
            self.door.act(lambda manager: manager.edit(job.id, changed), f"Job {job.id} changed")
        else:
            self.door.queue_jobs(self._maker(changed))
        self.app.pop_screen()

    def _maker(self, changed: Mapping[str, Any]) -> Callable[[Manager], list[Job]]:
        """What makes the new jobs from what stands in the form now."""
        preset, clone, kind = self._preset, self._clone, self._kind
        sweep = combinations_of(self._fields, self._axes)
        name = self._job_text("name") or None
        lane = None if self._job_text("lane") == "usual" else self._job_text("lane")
        after = _ids(self._job_text("after"))
        start = {
            f.name: from_text(f, self._texts[f.name])
            for f in self._fields
            if self._texts[f.name] != (f.default or "") and f.name not in self._axes
        }

        def make(manager: Manager) -> list[Job]:
            if clone is not None:
                return manager.clone(clone.id, changed, name=name, lane=lane, after=after, sweep=sweep)
            if preset is not None:
                return manager.add_preset_jobs(preset.name, changed, name=name, lane=lane, after=after, sweep=sweep)
            if sweep:
                return manager.groups.add(kind, {**start, **changed}, sweep, name=name, lane=lane, after=after)
            return [manager.add(kind, {**start, **changed}, name=name, lane=lane, after=after)]

        return make

    def action_preset(self) -> None:
        """Keep what stands here as a preset of the workspace, named as the job."""
        if self.query_one("#command-line").has_class("-wrong") or self._axes:
            self.notify("A preset takes one right value in each field.", severity="error", timeout=5)
            return
        rows = [row for row in self._rows() if row.field in self._fields and row.text != (row.field.default or "")]
        lane, before = self._job_text("lane"), self._preset
        draft = Draft(
            name=self._job_text("name") or (self._job.name if self._job else ""),
            kind=self._kind,
            lane=None if lane in ("", "usual") else lane,
            first=before.first if before and any(is_from_first(row.text) for row in rows) else None,
            config={row.field.name: from_text(row.field, row.text) for row in rows},
        )
        try:
            there = draft.path(self.door.manager.workspace)
        except PidecError as error:
            self.notify(error.hint, title=error.message, severity="error", timeout=6, markup=False)
            return

        if not look_for(draft, there, self.post_message):
            self.notify("The folder of the presets answers slowly: wait here, and it is kept when it does.", timeout=6)

    def on_preset_looked(self, message: PresetLooked) -> None:
        draft = message.draft
        if message.why:
            self.notify("Nothing was written.", title=message.why, severity="error", timeout=8, markup=False)
        if message.why or not self.is_current:
            return

        def keep(yes: bool | None) -> None:
            if yes:
                said = f"Kept as preset {draft.name}: {message.path}"
                self.door.act(lambda m: save_preset(m.workspace, draft, over=message.taken), said)

        if message.taken:
            from .question import Question

            text = f'There is a preset "{draft.name}" of this workspace. Write over it?'
            self.app.push_screen(Question(text, "write over it", "keep it"), keep)
        else:
            keep(True)

    def action_next_path(self) -> None:
        """Fill in the next of the paths that were found."""
        row = self._row_with_keyboard()
        if row is not None and row.field.path and self._looking:
            self.notify("Files are looked for: the folder answers slowly.", timeout=4)
        if row is not None and row.suggestions:
            place = row.suggestions.index(row.text) + 1 if row.text in row.suggestions else 0
            row.fill(row.suggestions[place % len(row.suggestions)])

    def action_unfold(self) -> None:
        looked_for = self.query_one("#filter", Input)
        self._unfolded = not self._unfolded or bool(looked_for.value)
        looked_for.value = ""  # all means all
        self._check()


def _is_called(field: FormField, wanted: str) -> bool:
    return wanted in field.name or wanted in field.description.lower().replace(" ", "_")


def _ids(text: str) -> Sequence[int]:
    return [int(word) for word in text.replace(",", " ").split()]


def _after_error(text: str) -> str:
    wrong = [word for word in text.replace(",", " ").split() if not word.isdecimal()]
    return f'"{wrong[0]}" is not the id of a job' if wrong else ""
