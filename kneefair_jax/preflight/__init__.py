"""What is looked at before training: `launch.py --mode=check`.

`check` reads the whole cohort and reports what is in it: groups and splits, `duplicates` under two patients' names,
`outliers` in size, spacing, grey values and area, masks that look wrong. `hardware` times this machine.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
