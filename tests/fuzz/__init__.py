"""Fuzzing: arbitrary input through each door of the package.

A door is a place where something comes in that we did not write: a name, a file, an image. A crash,
a hang, or a message that does not name the file is a bug. `python -m tests.fuzz` runs for long,
tests/test_fuzz.py for some seconds.
"""
