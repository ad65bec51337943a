"""The report of a run: one HTML file that loads nothing. jinja2 loads when a report is rendered."""
