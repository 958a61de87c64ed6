"""Whole runs, as `launch.py` starts them: `single` is one, `study` are many, compared; `modes` has a function a mode."""
