"""Robots in motion, drawn from states alone: no renderer, no simulator."""
