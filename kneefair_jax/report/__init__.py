"""Build the report from scores by group, and write it as one HTML page, JSON and CSV files.

`build` computes the report; `page` and `study_page` write it with `templates/`, `text/`, `figures/` and `overlays`, and
`csv_tables` writes its tables. Import the modules by name: `overlays` needs neither matplotlib nor Jinja.
"""

__all__ = [
    "build",
    "checklist",
    "csv_tables",
    "figures",
    "overlays",
    "page",
    "pdf",
    "study_page",
    "text",
]
