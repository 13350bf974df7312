"""What the files of a run hold: every column and key with its type, its unit and its meaning, in one place.

`docs/outputs.md` is made from here (`make docs`); tests hold it against the schemas in the code and the files of a run.
"""
