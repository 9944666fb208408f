"""The job manager: job log, runner, launchers. No Textual, no torch."""
