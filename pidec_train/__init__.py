"""The trainers. They run alone and know nothing of queue, database or screen."""

__version__ = "0.1.0"
