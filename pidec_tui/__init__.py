"""The dashboard and, under it, the job manager. Never imports torch."""
