"""`peft`: any other tuner of PEFT that puts weights into the model, by its own config.

adapter: {kind: peft, args: {peft_type: VERA, r: 256, target_modules: [q_proj, v_proj]}}
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from tunewright.parts import Cap, Facts, Finding, LibraryOptions, Need
from tunewright.parts.adapter import AdapterOptions
from tunewright.parts.base import BadOption
from tunewright.spec.suggest import did_you_mean
from tunewright_peft.arguments import OURS
from tunewright_peft.method import PeftMethod
from tunewright_peft.targets import INNER, KNOWN, OTHERS, missing, no_target, refuse_missing, refuse_unreached
from tunewright_peft.tuners import DRAWS, LOADS, REFUSED, TUNERS, Known

TYPE, TARGETS, TOKENS = "peft_type", "target_modules", "token_indices"
EVERY = "all-linear"  # PEFT's word for all linear layers but the head
TAKEN = (OURS - {TYPE}) | {"task_type"}


class TunerOptions(AdapterOptions, LibraryOptions):
    """Options of any tuner: `args:` holds its `peft_type` and whatever its config in PEFT takes."""

    kind: str = "peft"


class Tuner(PeftMethod[TunerOptions]):
    """Any tuner of PEFT for causal language models, as PEFT has it: its defaults, its adapters in fp32."""

    kind = "peft"
    Options: ClassVar = TunerOptions
    accepts = "peft:PeftConfig"
    fixed: ClassVar = {"task_type": "CAUSAL_LM"}
    reads = frozenset({"args"})
    stateless = False  # some draw matrices, or take them from the base's weights, and save neither

    def __init__(self, options: TunerOptions) -> None:
        super().__init__(options)
        if self._known:
            self.accepts = f"peft:{self._known.config}"  # type: ignore[misc]  # what `args` are checked against at `plan`

    @property
    def peft_type(self) -> str:
        return str(self.options.args.get(TYPE, ""))

    def offers(self) -> frozenset[Cap]:
        merges = {Cap.MERGES} if self._known and self._known.merges else set()
        return frozenset({Cap.ADAPTS, *merges, *self._by_token()})

    def _by_token(self) -> set[Cap]:
        """All known tuners sit in single layers; some draw by chance in training, or are told to."""
        dropped = [name for name, value in self.options.args.items() if "dropout" in name and value]
        return {Cap.BY_TOKEN} if self._known and not dropped and self.peft_type not in DRAWS else set()

    def needs(self) -> Iterable[Need]:
        yield Need("quantizer", Cap.TRAINABLE, "base-not-trainable")
        if self._known and not self._known.packed:
            why = f"PEFT's {self.peft_type} reads the base's weights: take `lora`, or drop the quantization"
            yield Need("quantizer", Cap.FULLY_TRAINABLE, "base-not-trainable", why)

    def check(self, facts: Facts) -> Iterable[Finding]:
        """A type that is not known or cannot be used, and arguments that its config does not have."""
        if not self._known:
            yield self._no_type()
            return
        known = frozenset(self._known.arguments.split())
        for name in self.options.args:
            place = f"args.{name}"
            if name in TAKEN:
                yield Finding("argument-taken", f"`{name}` is not set here", place, "remove it", at_key=True)
            elif name in LOADS:
                message = f"`{name}` loads what the spec does not name as a source"
                yield Finding("unsupported-argument", message, place, "remove it", at_key=True)
            elif name not in known | {TYPE}:
                message = f"`{name}` is not an argument of {self._known.config}"
                yield Finding("unknown-argument", message, place, did_you_mean(name, known), at_key=True)
        config = facts.model_config or {}
        yield from self._unknown_targets(config.get("model_type", ""))
        yield from self._unknown_tokens(config.get("vocab_size"))

    def _unknown_targets(self, family: str) -> Iterable[Finding]:
        """Names that a known family has nowhere. A text is an expression, which the base itself must tell of."""
        names = self.options.args.get(TARGETS)
        if family in KNOWN and isinstance(names, list):
            known = [name for role in KNOWN[family].values() for name in role]
            last = [str(name).rpartition(".")[2] for name in names]
            for name in missing(last, [*known, *OTHERS, *INNER]):
                yield no_target(f"module `{name}`", known, f"args.{TARGETS}").finding

    def _unknown_tokens(self, vocabulary: Any) -> Iterable[Finding]:
        indices = self.options.args.get(TOKENS)
        if isinstance(indices, list) and isinstance(vocabulary, int):
            for index in indices:
                if isinstance(index, int) and not 0 <= index < vocabulary:
                    message = f"the base has no token {index}: its vocabulary is 0 to {vocabulary - 1:,}"
                    yield Finding("bad-value", message, f"args.{TOKENS}", "name tokens of its tokenizer by their ids")

    def config(self, model: Any) -> Any:
        found = [*self.check(Facts())]
        if found or not self._known:
            raise BadOption(*found[0][:4])
        paths = [path for path, _ in model.named_modules() if path]
        for name in (TARGETS, "modules_to_save"):
            names = self.options.args.get(name)
            if isinstance(names, list):
                refuse_missing(f"args.{name}", names, paths)
        expression = self.options.args.get(TARGETS)
        if isinstance(expression, str) and expression.lower() != EVERY:
            refuse_unreached(f"args.{TARGETS}", expression, paths)
        given = {name: argument.value for name, argument in self.arguments().items() if name != TYPE}
        return self.make(self._known.config, **given)

    @property
    def _known(self) -> Known | None:
        return TUNERS.get(self.peft_type)

    def _no_type(self) -> Finding:
        if TYPE not in self.options.args:
            return Finding("missing-key", "`args` names no `peft_type`", "args", did_you_mean("", TUNERS))
        place, kind = f"args.{TYPE}", self.peft_type
        if kind in REFUSED:
            return Finding("unsupported-argument", f"`{kind}` cannot be trained here: {REFUSED[kind]}", place)
        return Finding("bad-value", f"PEFT has no tuner `{kind}`", place, did_you_mean(kind.upper(), TUNERS))
