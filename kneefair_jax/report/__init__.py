"""Scores by group -> one page that a person reads, and JSON and CSV files that a program reads.

`build` puts the report together; `page` and `study_page` write it with `templates/`, `text/`, `figures/` and
`overlays`, and `csv_tables` its tables. Import the modules by name: `overlays` needs neither matplotlib nor Jinja.
"""

__all__ = [
    "build",
    "checklist",
    "contact_sheet",
    "csv_tables",
    "examples",
    "figures",
    "notes",
    "overlays",
    "page",
    "patient_flow",
    "study_page",
    "text",
]
