"""What every adapter method through PEFT does alike: put it on, save it, take it up again, fold it in."""

from __future__ import annotations

import re
import warnings
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from tunewright.digest import digest_tensors
from tunewright.errors import EnvironmentFault, MissingExtra, Refused, TunewrightError
from tunewright.parts import AdapterMethod, Facts
from tunewright.parts.adapter import ModelDir
from tunewright.parts.base import BadOption, O, To
from tunewright_peft.arguments import OURS

CHANGE = "change it, or leave it out: PEFT then takes its own"
NAME = "default"
"""The one adapter of a model: trainers may put others beside it, which are never saved."""


class PeftMethod(AdapterMethod[O]):
    """An adapter by one of PEFT's configs. A method says which config, and what is particular to its weights."""

    extra = "train"
    libraries = ("peft", "torch", "transformers")
    begins: ClassVar[frozenset[str]] = frozenset()
    """Fields of the config that only say how fresh weights begin: a parent may have begun otherwise."""
    calls: ClassVar[Mapping[str, str]] = {}
    """Fields of the config, and the options they follow from where no `To` says it."""

    stateless: ClassVar[bool] = True
    """Whether all that its layers hold beside the base's weights is saved, and nothing is taken from them again."""

    @property
    @abstractmethod
    def peft_type(self) -> str:
        """PEFT's name of the method, as its configs have it."""

    @abstractmethod
    def config(self, model: Any) -> Any:
        """PEFT's config for fresh weights on this model. Raises `BadOption` where a target names no module of it."""

    def saves(self, facts: Facts) -> Mapping[str, Any]:
        """PEFT's config, as far as the options tell."""
        known = {**self.arguments(), **self.derive(facts)}
        return {"peft_type": self.peft_type, **{name: argument.value for name, argument in known.items()}}

    def saved_form(self, config: Any) -> Any:
        """The config under which weights that began by `config` are saved."""
        return config

    @property
    def saved_as(self) -> str:
        """For a message: why what is saved has other sizes than the options say, if it has."""
        return ""

    def begin(self, model: Any, base: Any) -> None:
        """Give fresh weights the start that the options name, where the config alone does not."""

    def settle(self, model: Any) -> None:
        """Give the weights their types."""

    def tensors(self, model: Any) -> dict[str, Any]:
        """The adapter's tensors by saved name."""
        return tensors_of(model)

    def saved_config(self, model: Any) -> Any:
        """PEFT's config of the tensors that are saved."""
        return model.peft_config[NAME]

    def wrap(self, model: Any, parent: Path | None) -> Any:
        """A `PeftModel` with fresh adapters, or with `parent`'s, every number of which may be trained.

        Raises `BadOption` where a target names no module of the model, or the parent is of another method, rank or
        targets than the options say; `Refused` where its files are damaged.
        """
        config, paths = self.config(model), [path for path, _ in model.named_modules()]
        if parent is None:
            wrapped = self._put(model, config)
            self.begin(wrapped, model)
        else:
            wrapped = self._continued(model, self.saved_form(config), parent, paths)
        self.settle(wrapped)
        return wrapped

    def fit(self, model: Any) -> None:
        """What `wrap` does but for the numbers: PEFT makes its layers, and a parent's config is compared."""
        import torch

        config, paths = self.config(model), [path for path, _ in model.named_modules()]
        parent = getattr(self.options, "parent", None)
        if parent is not None:
            config = self.saved_form(config)
        try:
            # else fresh weights are drawn, which takes some tuners half a minute; warnings are left to the training
            with torch.device("meta"), warnings.catch_warnings(action="ignore"):
                wrapped = inject(model, config)
        except (TypeError, ValueError, RuntimeError, ArithmeticError, ImportError) as error:
            if "meta" in str(error).lower():  # it wants the base's numbers: only the training will tell
                return
            raise self._refused(config, error) from error
        if parent is not None:
            self._refuse_unlike(wrapped, parent.path, paths)

    def save(self, model: Any, out: Path) -> None:
        """adapter_config.json and adapter_model.safetensors of the one trained adapter, and nothing else."""
        from tunewright_peft import files  # late: validate has no time for it

        files.write(self.saved_config(model), self.tensors(model), out)

    def attach(self, model: Any, saved: Path) -> Any:
        """The base with a saved adapter, as `PeftModel.from_pretrained` gives it, adapters in fp32.

        Raises `Refused` unless the files are an adapter of exactly this shape, in safetensors, with finite numbers.
        """
        from tunewright_peft import files

        config = files.read_config(saved, self.peft_type)
        config.inference_mode, config.base_model_name_or_path = True, None  # the identity names the base
        try:
            wrapped = inject(model, config)
        except (TypeError, ValueError) as error:  # a target that the base does not have, a rank that is no number
            raise Refused(f"{saved.name} is not an adapter of this base: {error}") from error
        self._fill(wrapped, saved)
        return wrapped

    def merge(self, base: ModelDir, saved: Path, out: Path, dtype: str) -> None:
        """One layer after another gets its weights, is merged by PEFT in fp32, and written. Raises `Refused`."""
        from tunewright_peft.merging import Merging

        with_weights = Merging(base, self.stateless)
        with with_weights.while_adapted():
            wrapped = self.attach(with_weights.model, saved)
        with_weights.fold(wrapped, out, dtype)

    def count(self, model: Any) -> tuple[int, int]:
        """(trainable, all) parameters; a packed weight counts as those that it holds."""
        trainable, total = model.get_nb_trainable_parameters()
        return trainable, total + sum(map(_in_buffers, model.modules()))

    def digest(self, model: Any) -> str:
        """Digest of the adapter's values, under the names that they are saved by."""
        return digest_tensors(self.tensors(model).items())

    def make(self, config: str, **arguments: Any) -> Any:
        """One of PEFT's configs. Raises `BadOption` with its words where it refuses the arguments."""
        try:
            return getattr(peft(), config)(**arguments)
        except (TypeError, ValueError) as error:
            raise BadOption("bad-value", f"{config} refuses its arguments: {error}", "args") from error
        except ImportError as error:
            raise _lacking(config, error) from error

    def _put(self, model: Any, config: Any) -> Any:
        try:
            return inject(model, config)
        except (TypeError, ValueError, NotImplementedError, ImportError) as error:
            raise self._refused(config, error) from error

    def _refused(self, config: Any, error: Exception) -> TunewrightError:
        name = type(config).__name__
        if isinstance(error, ImportError):
            return _lacking(name, error)
        why = " ".join(str(error).split())
        return BadOption("bad-value", f"{name} refuses its arguments: {why}", self._blamed(why), CHANGE)

    def _blamed(self, why: str) -> str:
        """The place of the one written argument that PEFT's words name, or that is negative where they name none."""
        written = {name: found for name, found in self.arguments().items() if found.set_by == "spec"}
        named = [name for name in written if re.search(rf"(?<![\w]){name.replace('_', '[_ ]')}(?![\w])", why)]
        below = [name for name, found in written.items() if isinstance(found.value, (int, float)) and found.value < 0]
        blamed = named or (below if "negative" in why else [])
        if len(blamed) != 1:
            return "args" if getattr(self.options, "args", {}) else "kind"
        field = written[blamed[0]].field
        return f"args.{blamed[0]}" if field == "args" else str(field)

    def _continued(self, model: Any, config: Any, parent: Path, paths: list[str]) -> Any:
        wrapped = self._put(model, config)
        self._refuse_unlike(wrapped, parent, paths)
        self._fill(wrapped, parent)
        return wrapped

    def _refuse_unlike(self, wrapped: Any, parent: Path, paths: list[str]) -> None:
        from tunewright_peft import files

        theirs = files.read_kind(parent)
        if theirs != self.peft_type:
            message = f"`{parent.name}` is a {theirs}, and this adapter a {self.peft_type}"
            raise BadOption("bad-value", message, "parent", "name the parent's method, or another parent")
        found = files.read_config(parent, self.peft_type)
        unlike = next(self._unlike(wrapped.peft_config[NAME], found, paths), None)
        if unlike is not None:
            name, here, there = unlike
            message = f"`{parent.name}` has `{name}: {there}`, and this adapter `{name}: {here}`{self.saved_as}"
            raise BadOption("bad-value", message, "parent", f"set `{name}` to the parent's, or name another parent")

    def _unlike(self, ours: Any, theirs: Any, paths: list[str]) -> Iterator[tuple[str, Any, Any]]:
        """What two configs differ in, by the option's name: not in what only a training's way depends on."""
        from tunewright_peft.targets import reached

        options = {mark.argument: name for name, info in self.Options.model_fields.items() for mark in info.metadata
                   if isinstance(mark, To)} | dict(self.calls)  # fmt: skip
        one, other = ours.to_dict(), theirs.to_dict()
        for name in sorted(set(one) - OURS - self.begins, key=lambda name: (name != "r", name)):
            here, there = one[name], other[name]
            if name == "target_modules":
                same = reached(here, paths) == reached(there, paths)
            else:
                same = name.endswith("dropout") or (_plain(here) or None) == (_plain(there) or None)
            if not same:
                yield options.get(name, f"args.{name}"), _plain(here), _plain(there)

    def _fill(self, wrapped: Any, saved: Path) -> None:
        fill(wrapped, saved, self.tensors(wrapped))


def tensors_of(model: Any, name: str = NAME) -> dict[str, Any]:
    """An adapter's tensors by saved name. Without embeddings: asking whether they changed would ask a hub."""
    found: dict[str, Any] = peft().get_peft_model_state_dict(model, adapter_name=name, save_embedding_layers=False)
    return found


def fill(wrapped: Any, saved: Path, expected: Mapping[str, Any], name: str = NAME) -> None:
    """Take the saved numbers over into the adapter `name`, whose tensors now are `expected`: every name and shape is
    compared before the first. Raises `Refused`."""
    from tunewright_peft import files

    tensors = files.read_tensors(saved)
    refuse_unlike(saved, expected, {called: tuple(tensor.shape) for called, tensor in tensors.items()})
    peft().set_peft_model_state_dict(wrapped, tensors, adapter_name=name)


def refuse_unlike(saved: Path, expected: Mapping[str, Any], found: Mapping[str, tuple[int, ...]]) -> None:
    """Raise `Refused` where the tensors of a saved adapter have other names or shapes than the expected ones."""
    unlike = {(called, tuple(tensor.shape)) for called, tensor in expected.items()} ^ set(found.items())
    if unlike:
        raise Refused(f"{saved.name} is not a whole adapter of this base: `{min(unlike)[0]}` does not match")


def inject(model: Any, config: Any, name: str = NAME) -> Any:
    """`model` with an adapter by `config`. On a model without numbers (the meta device) the adapter has none either."""
    empty = any(parameter.is_meta for parameter in model.parameters())
    wrapped = peft().get_peft_model(model, config, adapter_name=name, low_cpu_mem_usage=empty)
    if is_packed(model):
        _keep_types(wrapped)
    return wrapped


def is_packed(model: Any) -> bool:
    """Whether the base's linear layers hold 4-bit or 8-bit weights."""
    return bool(getattr(model, "is_loaded_in_4bit", False) or getattr(model, "is_loaded_in_8bit", False))


def _keep_types(wrapped: Any) -> None:
    """Let each adapted layer answer in the type it was asked in: on packed weights, PEFT's answer in the adapter's."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    adapted: list[Any] = [module for module in wrapped.modules() if isinstance(module, BaseTunerLayer)]
    for module in adapted:
        module.register_forward_hook(_in_type_of_input)


def _in_type_of_input(module: Any, inputs: tuple[Any, ...], output: Any) -> Any:
    asked = inputs[0]
    return output.to(asked.dtype) if asked.is_floating_point() and output.dtype != asked.dtype else output


def peft() -> Any:
    """The library. Raises `MissingExtra`."""
    try:
        import peft
    except ImportError as error:
        raise MissingExtra("adapter", PeftMethod.extra, error) from error
    return peft


def _in_buffers(layer: Any) -> int:
    """The weights of a layer that GPTQ or AWQ packed: they lie in buffers, which are no parameters."""
    return int(layer.in_features * layer.out_features) if "qweight" in vars(layer).get("_buffers", {}) else 0


def _lacking(config: str, error: ImportError) -> EnvironmentFault:
    return EnvironmentFault(f"{config} needs a library that is not installed: {error}", fix="install what it names")


def _plain(value: Any) -> Any:
    return sorted(value) if isinstance(value, (set, frozenset, list, tuple)) else value
