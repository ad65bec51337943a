"""A model that is served elsewhere, asked over HTTP: any server that speaks as OpenAI's does."""

from tunewright.host import hookimpl


@hookimpl
def tunewright_backends() -> dict[str, str]:
    return {"engine/endpoint": "tunewright_endpoint.engine:Endpoint"}
