"""Rows from files: csv, jsonl. No library beyond the standard one."""

from tunewright.host import hookimpl


@hookimpl
def tunewright_backends() -> dict[str, str]:
    return {
        "data_source/csv": "tunewright_files.csv:Csv",
        "data_source/jsonl": "tunewright_files.jsonl:Jsonl",
    }
