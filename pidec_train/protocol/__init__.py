"""The agreement between a trainer and whoever starts it: configs, files, metric names, errors. No torch here.

This package is all that `pidec_tui` may import from `pidec_train`.
"""
