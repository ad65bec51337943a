"""`triage`: a ticket becomes a question, its team the answer; did it go to the right team, and to a team at all?"""

from typing import Annotated

from pydantic import Field
from tunewright import BadInput
from tunewright.parts import Evaluator, Options, PromptFormat
from tunewright.parts.evaluator import EvaluatorOptions, Item, mean_of
from tunewright.parts.prompt_format import Example

Teams = Annotated[list[str], Field(min_length=2, description="The only answers there are.")]


class TriageOptions(Options):
    kind: str = "triage"
    teams: Teams


class Triage(PromptFormat[TriageOptions]):
    """Asks for the team of a ticket; refuses a row whose team is unknown."""

    kind, Options, makes = "triage", TriageOptions, "messages"
    reads = frozenset({"teams"})
    vary = {"teams": (["billing", "repairs"], ["repairs", "billing"])}

    def columns(self):
        return {"subject": "kind", "body": "kind", "team": "teams"}

    def prompt_columns(self):
        return frozenset({"subject", "body"})

    def prompt(self, fields):
        missing = [column for column in ("subject", "body") if not fields.get(column)]
        if missing:
            raise BadInput(f"the row has no text in column `{missing[0]}`")  # Tunewright adds the row's place
        task = f"Which team takes this ticket? Answer with one word: {', '.join(self.options.teams)}."
        ticket = f"{fields['subject']}\n\n{fields['body']}"
        return [{"role": "system", "content": task}, {"role": "user", "content": ticket}]

    def example(self, fields):
        team = fields.get("team")
        if team not in self.options.teams:
            raise BadInput(f"`{team}` is no team", fix=f"the spec knows: {', '.join(self.options.teams)}")
        return Example(self.prompt(fields), [{"role": "assistant", "content": team}])


class TriageEvaluatorOptions(EvaluatorOptions):
    kind: str = "triage"
    teams: Teams


class TriageEvaluator(Evaluator[TriageEvaluatorOptions]):
    """Scores `right` and `known`: a ticket at a wrong team is passed on, one at no team is lost."""

    kind, Options = "triage", TriageEvaluatorOptions
    reads = frozenset({"teams"})
    vary = {"teams": (["billing", "repairs"], ["sales", "support"])}

    def items(self, data):
        return [Item(row.id, row.origin, row.example.asked, row.example.answer, row.group) for row in data]

    def grade(self, item, answer):
        said = answer.text.strip().rstrip(".").lower()
        return {"right": float(said == item.reference), "known": float(said in self.options.teams)}

    def summaries(self):
        return {"right": mean_of("right"), "known": mean_of("known")}
