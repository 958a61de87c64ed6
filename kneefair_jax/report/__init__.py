"""Scores by group -> one page that a person reads, and JSON and CSV files that a program reads.

`build` puts the report together; `page` and `study_page` write it with `templates/`, `text/`, `figures/` and
`overlays`, and `csv_tables` its tables. Import the modules by name: `overlays` needs neither matplotlib nor Jinja.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
