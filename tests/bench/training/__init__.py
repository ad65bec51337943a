"""Training and evaluation, Tunewright against what a user would pick instead, interleaved in one sitting.

    PYTHONPATH=tests python -m bench.training [FIGURE…] [--quick]

| module | has |
|---|---|
| `figures` | what is compared, by name |
| `data` | a figure's rows, as a run prepares them |
| `side` | one side of one round: a process of its own, which prints one line of JSON |
| `ours`, `theirs`, `asking` | the sides |
| `clock` | when steps begin and end, the same for every side |
| `probe` | what this machine can do |
| `limit` | what the mathematics need, in FLOPs |
| `work` | whether two sides did the same |
| `table` | `docs/benchmarks.md` |
| `profile` | where a step's time goes |
"""
