"""Acme's plugin. Every command imports this module, so it imports nothing but the hooks' marker."""

from tunewright import hookimpl


@hookimpl
def tunewright_backends():
    return {
        "data_source/tickets": "acme_tunewright.tickets:Tickets",
        "prompt_format/triage": "acme_tunewright.triage:Triage",
        "evaluator/triage": "acme_tunewright.triage:TriageEvaluator",
        "gate/sure_gain": "acme_tunewright.house:SureGain",
    }


@hookimpl
def tunewright_check_spec(spec, facts):
    from acme_tunewright.house import check_rows  # late: see above

    return check_rows(spec, facts)
