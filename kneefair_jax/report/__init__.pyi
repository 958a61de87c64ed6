from . import build, contact_sheet, csv_tables, examples, figures, notes, overlays, page, study_page, text

__all__ = [
    "build",
    "contact_sheet",
    "csv_tables",
    "examples",
    "figures",
    "notes",
    "overlays",
    "page",
    "study_page",
    "text",
]
