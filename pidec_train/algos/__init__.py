"""Losses and updates; no input or output."""
