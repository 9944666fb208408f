"""A small chart for terminals: points -> column envelope -> braille cells -> text with roles -> a Textual widget.

Everything but `view` is pure and knows no screen. Drawing costs depend on the number of cells, not of points.
"""
