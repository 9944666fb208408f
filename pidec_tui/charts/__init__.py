"""Charts of the dashboard."""
