"""`endpoint`: asks base and tuned of a server, by the names under which it has them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field, PositiveInt, model_validator

from tunewright.errors import BadInput
from tunewright.parts import Cap, Engine, Finding, Options, Secret
from tunewright.parts.base import Json, Unkeyed
from tunewright.parts.engine import Served

if TYPE_CHECKING:
    from tunewright_endpoint.client import Client
    from tunewright_endpoint.subject import EndpointSeveral, EndpointSubject

URL = r"^https?://([A-Za-z0-9.-]+|\[[0-9a-fA-F:]+\])(:[0-9]{1,5})?(/[A-Za-z0-9._~/-]*)?$"
"""Without a user's name in it: a password in a spec would be a secret in a file."""
OURS = "`same_tokenizer` is of baselines: what is asked here is the base or what was trained on it"
UNREAD = (
    "an export is certified by its own files, which the run has just written; the server at `url` never reads them: "
    "what it answers would stand there for another model"
)
OPENS = (
    "leave `engine` out, or name one that opens the files; a served model is asked by an evaluation's `engine`, or by "
    "`predict --engine` once it serves what was handed over"
)
ServedName = Annotated[str, Field(min_length=1, max_length=256)]


class EndpointOptions(Options):
    """Options of a model that is served elsewhere."""

    kind: str = "endpoint"
    url: Annotated[
        str, Field(pattern=URL, description="Where the API begins, as in `http://127.0.0.1:8000/v1`, without a query.")
    ]
    model: Annotated[ServedName, Field(description="What the server calls the tuned model.")]
    base_model: Annotated[
        ServedName | None,
        Field(description="What it calls the base, which evaluations ask as well."),
    ] = None
    api_key: Annotated[
        Secret | None, Field(description='Sent as a bearer token: `"${env:NAME}"`. None is taken from elsewhere.')
    ] = None
    prompts: Annotated[
        Literal["ids", "text", "messages"],
        Field(
            description="What is sent: our token ids, which the server answers with token ids (vLLM does); the rendered"
            " text, which it tokenizes; or the messages, which it renders by its own template."
        ),
    ] = "ids"
    same_tokenizer: Annotated[
        bool,
        Field(
            description="Of a baseline: its model has the base's tokenizer and template. Then ids and text may be sent,"
            " and token counts are compared."
        ),
    ] = False
    timeout: Annotated[float, Unkeyed(), Field(gt=0, description="Seconds that the server may be silent.")] = 300.0
    concurrency: Annotated[PositiveInt, Unkeyed(), Field(le=1024, description="Requests under way at once.")] = 8

    @model_validator(mode="after")
    def _two_names(self) -> EndpointOptions:
        if self.model == self.base_model:
            raise ValueError(f"`model` and `base_model` are both `{self.model}`: base and tuned would be one model")
        return self


class Endpoint(Engine[EndpointOptions]):
    """Asks any OpenAI-compatible server. Which weights answer there it cannot see, and claims nothing of them."""

    kind = "endpoint"
    Options: ClassVar = EndpointOptions
    sees_weights = False
    reads = frozenset({"url", "model", "base_model", "api_key", "prompts", "same_tokenizer", "timeout", "concurrency"})
    vary: ClassVar = {
        "url": ("http://127.0.0.1:9/v1", "http://127.0.0.1:99/v1"),
        "model": ("one", "other"),
        "base_model": ("one", "other"),
        "api_key": (None, "${env:TUNEWRIGHT_NEVER_SET}"),
        "same_tokenizer": (False, True),
        "timeout": (300.0, 600.0),
        "concurrency": (1, 8),
    }

    def offers(self) -> frozenset[Cap]:
        """Scores are of token ids: a server that is sent text says of its own what it will."""
        return frozenset({Cap.SCORES} if self.options.prompts == "ids" else ())

    def comparing(self) -> Iterable[Finding]:
        if self.options.base_model is None:
            message = "engine `endpoint` is asked for the base too, and is not told what the server calls it"
            yield Finding("missing-key", message, suggestion="add `base_model:`")
        if self.options.same_tokenizer:
            yield Finding("argument-unused", OURS, "same_tokenizer", "remove it", at_key=True)

    def certifying(self, packed: Mapping[str, Json]) -> Iterable[Finding]:
        yield Finding("target-cannot-load", UNREAD, "url", OPENS)

    def foreign(self) -> Iterable[Finding]:
        sent = self.options.prompts
        if sent != "messages" and not self.options.same_tokenizer:
            what = "our token ids are" if sent == "ids" else "a text by our template is"
            message = f"{what} sent to a model that may have another tokenizer: it would read other questions"
            fix = "write `prompts: messages`; or `same_tokenizer: true` where it has tokenizer and template of the base"
            yield Finding("foreign-tokenizer", message, "prompts", fix)
        if self.options.base_model is not None:
            message = "a baseline is one model, that of `model`: `base_model` does nothing here"
            yield Finding("argument-unused", message, "base_model", "remove it", at_key=True)

    @contextmanager
    def open(self, served: Served) -> Iterator[EndpointSubject]:
        """Raises `BadInput` where the server lists no such model or `same_tokenizer` is not of a baseline,
        `EnvironmentFault` where there is no server."""
        if self.options.same_tokenizer and not served.foreign:
            raise BadInput(OURS, fix="remove it")
        # a whole model that was exported is the tuned one as well
        base = served.trained is None and served.speaks is None
        yield self._subject(self._client(), self._base_model() if base else self.options.model, served)

    @contextmanager
    def open_several(self, served: Served, adapters: Mapping[str, Path]) -> Iterator[EndpointSeveral]:
        """The adapters are those that the server has under their names. Raises as `open` does."""
        from tunewright_endpoint.subject import EndpointSeveral

        client = self._client()
        if self._base_model() in adapters:
            raise BadInput(
                f"an adapter is called `{self._base_model()}`, as the base is", fix="serve it by another name"
            )
        names: dict[str | None, str] = {None: self._base_model(), **{name: name for name in adapters}}
        yield EndpointSeveral({name: self._subject(client, model, served) for name, model in names.items()})

    def _client(self) -> Client:
        from tunewright_endpoint.client import Client  # late: `validate` waits for no HTTP

        return Client(self.options.url.rstrip("/"), self.options.api_key, self.options.timeout)

    def _base_model(self) -> str:
        if self.options.base_model is None:
            raise BadInput("engine `endpoint` is not told what the server calls the base", fix="add `base_model:`")
        return self.options.base_model

    def _subject(self, client: Client, name: str, served: Served) -> EndpointSubject:
        from tunewright_endpoint.subject import EndpointSubject

        client.refuse_unlisted(name)
        subject = EndpointSubject(client, name, served.tokenizer, self.options.prompts, self.options.concurrency)
        subject.counts_alike = not served.foreign or self.options.same_tokenizer
        return subject
