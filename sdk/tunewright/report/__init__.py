"""The report of a run: one HTML file that loads nothing. jinja2 loads when a report is rendered.

page = render(ReportFacts.model_validate(facts))
"""

from tunewright.report.facts import ReportFacts
from tunewright.report.page import render

__all__ = ["ReportFacts", "render"]
