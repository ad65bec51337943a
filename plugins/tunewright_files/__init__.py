"""Rows from files: csv, json, jsonl by the standard library; parquet and folders of `datasets` by pyarrow.

Beside them the files of public benchmarks as they are published: `pubmedqa`, `legalbench`, `tatqa`. They stand here, by
the readers that they stand on, so that a change of those is a change of theirs in every key.
"""

from tunewright.host import hookimpl


@hookimpl
def tunewright_backends() -> dict[str, str]:
    return {
        "data_source/csv": "tunewright_files.csv:Csv",
        "data_source/datasets": "tunewright_files.datasets:DatasetsFolder",
        "data_source/json": "tunewright_files.json:JsonFile",
        "data_source/jsonl": "tunewright_files.jsonl:Jsonl",
        "data_source/legalbench": "tunewright_files.legalbench:LegalBench",
        "data_source/parquet": "tunewright_files.parquet:Parquet",
        "data_source/pubmedqa": "tunewright_files.pubmedqa:PubMedQa",
        "data_source/tatqa": "tunewright_files.tatqa:TatQa",
    }
