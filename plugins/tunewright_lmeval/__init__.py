"""lm-evaluation-harness: public benchmarks by their names, and tasks of one's own, asked of whatever is measured."""

from tunewright.host import hookimpl


@hookimpl
def tunewright_backends() -> dict[str, str]:
    return {"evaluator/lm-eval": "tunewright_lmeval.evaluator:LmEval"}
