"""Demonstrations (h5) and the windows cut from them."""
