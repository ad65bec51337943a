"""Rows from files: csv, json, jsonl by the standard library; parquet and folders of `datasets` by pyarrow."""

from tunewright.host import hookimpl


@hookimpl
def tunewright_backends() -> dict[str, str]:
    return {
        "data_source/csv": "tunewright_files.csv:Csv",
        "data_source/datasets": "tunewright_files.datasets:DatasetsFolder",
        "data_source/json": "tunewright_files.json:JsonFile",
        "data_source/jsonl": "tunewright_files.jsonl:Jsonl",
        "data_source/parquet": "tunewright_files.parquet:Parquet",
    }
