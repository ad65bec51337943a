"""An adapter folded into its base, layer by layer: a whole model that needs no PEFT, from a base never loaded whole.

The base's modules are made without numbers, and PEFT puts its adapter on them as it would on a loaded model: on
zeros of no size, or, for a tuner that takes something from the base's weights, on those that lie in the files, each
read as it is needed. Then one adapted layer after another gets its own weights in fp32, PEFT's own layer merges it,
and the result is written and let go.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tunewright.errors import Refused
from tunewright.parts.adapter import ModelDir
from tunewright_transformers.tensors import FLOATS, TYPES, Rewritten, Tensors, placed, rewrite, write_config

KEEP = "keep it apart from its base"


class Merging:
    """The base of one merge: its modules over the tensors of its folder, and what each is called there."""

    def __init__(self, base: ModelDir, stateless: bool) -> None:
        """`stateless`: nothing of the adapter is made anew of the base's weights, so it is put on without them.

        Raises `Refused` where the loader could not tell the base's modules.
        """
        self.base, self.model, self.stateless = base, base.modules, stateless
        self.modules = dict(self.model.named_modules())  # as they are before PEFT replaces some
        self.tensors = Tensors(base.path)
        self.places = placed(self.model, self.tensors)
        self.names = frozenset(self.model.state_dict())
        self.paths = {id(module): path for path, module in self.modules.items()}
        self.tied = _tied(self.model, self.places)
        self._give(self.model)

    @contextmanager
    def while_adapted(self) -> Iterator[None]:
        """While PEFT puts its layers in: what one of them read of the base is given back before the next does."""
        from peft.tuners.tuners_utils import BaseTunerLayer
        from torch.nn.modules.module import register_module_module_registration_hook

        def registered(parent: Any, name: str, made: Any) -> None:
            if isinstance(made, BaseTunerLayer):
                self._give(made)

        handle = register_module_module_registration_hook(registered)
        try:
            yield
        finally:
            handle.remove()

    def fold(self, wrapped: Any, out: Path, dtype: str) -> None:
        """Write the merged model's config.json and weights into the empty folder `out`.

        Raises `Refused` where PEFT cannot merge the adapter, where a layer's weights are not in the base's files, or
        by a tensor's name where a number would not be finite.
        """
        try:
            with warnings.catch_warnings(action="ignore"):  # of tied weights, which are told apart here
                wrapped.base_model._check_merge_allowed()
        except ValueError as error:
            raise Refused(f"the adapter cannot be merged: {error}", fix=KEEP) from error
        self.units = _units(wrapped)
        adapted = {name: path for path in self.units for name in self.names if f"{name}.".startswith(f"{path}.")}
        lacking = sorted(name for name in adapted if name not in self.places)
        if lacking:
            raise Refused(f"the base's files hold no `{lacking[0]}`, which the adapter changes", fix=KEEP)
        shared = sorted(name for name in adapted if self.places[name] != self._own(name) and name not in self.tied)
        if shared:
            raise Refused(f"`{shared[0]}`, which the adapter changes, is shared with another layer", fix=KEEP)
        apart = {name for name in self.tied if self.tied & adapted.keys()}
        more = {name: self._shape(name) for name in sorted(apart) if self.places[name] != self._own(name)}
        called = {self._own(name): name for name in self.places}
        self.waiting: dict[str, dict[str, Any]] = {}

        def change(place: str, tensor: Any) -> Any:
            name = called.get(place, place)
            if name in adapted:
                return self._merged(adapted[name], name)
            return self._held(name, self.tensors.read(self.places[name]) if tensor is None else tensor)

        rewrite(self.tensors, out, Rewritten(dtype, change, more, self._kept(dtype)))
        write_config(self.base.path / "config.json", out, dtype, **({"tie_word_embeddings": False} if apart else {}))

    def _own(self, name: str) -> str:
        """What a tensor is called in the files; its own name where it is there by its partner alone."""
        place = self.places[name]
        return place if name.endswith(place) else name

    def _shape(self, name: str) -> tuple[int, ...]:
        return self.tensors.shape(self.places[name])

    def _merged(self, path: str, name: str) -> Any:
        """A tensor of an adapted module, merged by PEFT in fp32.

        Each module is merged once, and what a later file asks for waits: PEFT would not merge it a second time.
        """
        if path not in self.waiting:
            self.waiting[path] = self._merge(path)
        found = self.waiting[path].pop(name)
        if not self.waiting[path]:
            del self.waiting[path]
        return found

    def _merge(self, path: str) -> dict[str, Any]:
        unit = self.units[path]
        kept = getattr(unit, "modules_to_save", unit)  # a module that was trained whole needs nothing of the base
        # anew, whatever was merged before: a tied tensor is in two units
        self._give(kept, with_held=True)
        kept.float()
        try:
            made = _merged(unit)
        except (ValueError, NotImplementedError, AttributeError) as error:
            raise Refused(f"the adapter cannot be merged into `{path}`: {error}", fix=KEEP) from error
        found = {f"{path}.{name}": tensor.detach() for name, tensor in made.state_dict().items()}
        unlike = sorted(found.keys() - self.names)
        if unlike:
            raise Refused(
                f"merged, the base would have a tensor `{unlike[0]}` that its kind of model has not", fix=KEEP
            )
        self._give(unit)
        return found

    def _give(self, holder: Any, *, with_held: bool = False) -> None:
        """Put tensors under the base's own modules in `holder`: those that it held in training, or what PEFT's layers
        are made on."""
        import torch

        for module in holder.modules():
            path = self.paths.get(id(module))
            for name, old in list(module._parameters.items()) if path is not None else ():
                if old is not None:
                    whole = f"{path}.{name}".lstrip(".")
                    made = self._to_merge(whole, old) if with_held else self._to_adapt(whole, old)
                    module._parameters[name] = torch.nn.Parameter(made, requires_grad=False)

    def _to_merge(self, name: str, old: Any) -> Any:
        found = self.tensors.read(self.places[name])
        if found.shape != old.shape:
            raise Refused(f"`{self.places[name]}` in the base's files is of another shape than its config.json says")
        return self._held(name, found)

    def _to_adapt(self, name: str, old: Any) -> Any:
        """In the type that the adapter was trained on: what it holds beside the base is cast to it."""
        import torch

        dtype = getattr(torch, TYPES[FLOATS[self.base.dtype]])
        if self.stateless or name not in self.places:
            return torch.zeros((), dtype=dtype).expand(old.shape)
        return self.tensors.read(self.places[name]).to(dtype)

    def _held(self, name: str, tensor: Any) -> Any:
        return tensor if self.base.held is None else self.base.held(name, tensor)

    def _kept(self, dtype: str) -> Any:
        """Whether a tensor stays in fp32, as the model's class has it."""
        strict = getattr(self.model, "_keep_in_fp32_modules_strict", None) or ()
        names = {*strict, *((getattr(self.model, "_keep_in_fp32_modules", None) or ()) if dtype == "fp16" else ())}
        return lambda name: bool(names & set(name.split(".")))


def _merged(unit: Any) -> Any:
    """The module that takes an adapted one's place, as PEFT unloads it."""
    if hasattr(unit, "unload_and_optionally_merge_module"):
        return unit.unload_and_optionally_merge_module(merge=True, safe_merge=False, adapter_names=None)
    unit.merge(safe_merge=False)
    return unit.get_base_layer()


def _units(wrapped: Any) -> dict[str, Any]:
    """Each module that PEFT replaced, by its path in the base; what lies inside another is merged with it."""
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils.other import AuxiliaryTrainingWrapper

    found: dict[str, Any] = {}
    for path, module in wrapped.get_base_model().named_modules():
        inside = any(f"{path}.".startswith(f"{outer}.") for outer in found)
        if isinstance(module, BaseTunerLayer | AuxiliaryTrainingWrapper) and not inside:
            found[path] = module
    return found


def _tied(model: Any, places: dict[str, str]) -> frozenset[str]:
    """The tensors of the embedding and of the head where the model ties them: one memory, or by its config."""
    modules = {id(module): path for path, module in model.named_modules()}
    pair = [model.get_input_embeddings(), model.get_output_embeddings()]
    names = [f"{modules[id(module)]}.weight" for module in pair if id(module) in modules]
    tied = getattr(model.config.get_text_config(), "tie_word_embeddings", False)
    return frozenset(names if tied and all(name in places for name in names) else ())
