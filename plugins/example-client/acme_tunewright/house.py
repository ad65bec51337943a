"""The house rules: a gain that is no luck, and no training on a row that holds an e-mail address."""

import re
from typing import Annotated

from pydantic import Field
from tunewright.parts import Finding, Gate
from tunewright.parts.gate import GateOptions, Verdict

CODE = "acme-address-in-training"
ADDRESS = re.compile(r"[\w.+-]+@[\w-]+(\.[\w-]+)+")


class SureGainOptions(GateOptions):
    kind: str = "sure_gain"
    metric: Annotated[str, Field(description="Which score: `<evaluation>.<metric>`.")]
    at_least: Annotated[float, Field(description="Where the 95 % interval of the gain may begin.")] = 0.0


class SureGain(Gate[SureGainOptions]):
    """Looks at the lower end of the interval: with few test rows, a lucky gain does not pass."""

    kind, Options = "sure_gain", SureGainOptions
    reads = frozenset({"metric", "at_least"})

    def metrics(self):
        return frozenset({self.options.metric})

    def judge(self, evidence):
        asked = f"{self.options.metric} surely gains {self.options.at_least:g}"
        score = evidence.get(self.options.metric)
        if score is None:  # missing evidence fails
            return Verdict(asked, False, f"there is no score `{self.options.metric}`")
        why = f"it gains {score.delta:+.3f} on {score.n} rows, surely {score.ci95[0]:+.3f}"
        return Verdict(asked, score.ci95[0] >= self.options.at_least, why)


def check_rows(spec, facts):
    """One finding a source: `validate` asks with the first rows of each, `plan` and `run` with all."""
    for place, rows in enumerate(facts.rows):
        found = [(row, name) for row in rows for name, value in row.fields.items() if ADDRESS.search(str(value))]
        if found:  # the address itself is never repeated: logs are kept as well
            (row, name), more = found[0], f" and {len(found) - 1} more" if found[1:] else ""
            message = f"{row.origin}{more}: an e-mail address in `{name}`"
            yield Finding(CODE, message, f"data.train.{place}", "write [address] in its place")
