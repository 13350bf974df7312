"""The command line of `run.py`: parsing, and one small module a group of commands."""
