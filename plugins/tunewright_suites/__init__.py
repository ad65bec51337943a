"""Suites of items of their own: legal, finance, medical and support work, and folders of anyone's in the same form."""

from tunewright.host import hookimpl


@hookimpl
def tunewright_backends() -> dict[str, str]:
    return {
        "evaluator/suite": "tunewright_suites.evaluator:SuiteEvaluator",
        "evaluator/suite-choice": "tunewright_suites.choice:SuiteChoice",
    }
