"""The last pin serves where the hub cannot be asked, never silently; `validate` asks no network at all."""

import os
import subprocess
import sys
import warnings

import pytest

import tunewright_transformers
from hub_server import hub  # noqa: F401
from tiny import backend
from tunewright.errors import EnvironmentFault
from tunewright_transformers.hub import HubSource

NOBODY = "http://127.0.0.1:9"  # the port of `discard`: nothing listens


@pytest.fixture
def repo(hub, tiny_folder):  # noqa: F811
    return hub.repo("acme/tiny", tiny_folder())


@pytest.fixture
def source(hub, repo):  # noqa: F811
    return backend(HubSource, repo="acme/tiny", endpoint=hub.url)


def shut_by_user(monkeypatch, hub):  # noqa: F811
    monkeypatch.setattr(tunewright_transformers, "OFFLINE_BY_USER", "1")


def shut_by_the_hub(monkeypatch, hub):  # noqa: F811
    hub.down = 503


def shut_by_the_network(monkeypatch, hub):  # noqa: F811
    import httpx2

    def refuse(*_, **__):
        raise httpx2.ConnectError("no route to host")

    monkeypatch.setattr("httpx2.Client.send", refuse)


SHUT = [
    (shut_by_user, "HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE is set"),
    (shut_by_the_hub, "answers 503 for now"),
    (shut_by_the_network, "cannot be reached (no route to host)"),
]


@pytest.mark.parametrize(("shut", "why"), SHUT)
def test_the_last_pin_serves_and_is_said(hub, source, repo, monkeypatch, shut, why):  # noqa: F811
    first = source.pin()
    repo.commit({**repo.commits[repo.main], "LICENSE": b"later"})
    shut(monkeypatch, hub)
    with pytest.warns(UserWarning, match="was last pinned here") as warned:
        assert source.pin() == first
    (warning,) = warned
    for said in (why, "acme/tiny", first.values["commit"], "`main`"):
        assert said in str(warning.message)


@pytest.mark.parametrize(("shut", "why"), SHUT)
def test_without_a_last_pin_it_is_said_what_to_do(hub, source, monkeypatch, shut, why):  # noqa: F811
    shut(monkeypatch, hub)
    with pytest.raises(EnvironmentFault) as error:
        source.pin()
    for said in (why, "`acme/tiny` at `main` was never pinned here", "kind: local"):
        assert said in str(error.value)
    assert error.value.exit_code == 3


def test_a_pin_is_of_one_hub_one_repository_and_one_revision(hub, source, repo, monkeypatch):  # noqa: F811
    source.pin()
    hub.down = 503
    for other in ({"endpoint": NOBODY}, {"repo": "acme/other"}, {"revision": "v1"}):
        found = backend(HubSource, **{"repo": "acme/tiny", "endpoint": hub.url, **other})
        assert found.config() is None
        with pytest.raises(EnvironmentFault, match="was never pinned here"):
            found.pin()


def test_a_commit_that_was_pinned_is_not_asked_for_again(hub, repo):  # noqa: F811
    source = backend(HubSource, repo="acme/tiny", endpoint=hub.url, revision=repo.main)
    first = source.pin()
    hub.asked.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert source.pin() == first
    assert hub.asked == []


def test_the_config_is_known_after_a_pin_and_asks_no_network(hub, source):  # noqa: F811
    assert source.config() is None
    assert hub.asked == []
    source.pin()
    hub.asked.clear()
    assert source.config()["model_type"] == "llama"
    assert hub.asked == []


def test_a_damaged_record_is_made_anew(hub, source, cache):  # noqa: F811
    first = source.pin()
    (record,) = (cache / "hub").iterdir()
    record.write_text(record.read_text()[:50])
    assert source.config() is None
    assert source.pin() == first
    assert source.config() is not None


def test_a_fetch_without_a_network_is_the_environments_fault(source, tmp_path, monkeypatch):
    pin = source.pin()
    monkeypatch.setattr(tunewright_transformers, "OFFLINE_BY_USER", "1")
    with pytest.raises(EnvironmentFault, match=r"HF_HUB_OFFLINE(.|\n)*unset it"):
        source.fetch(pin, tmp_path)


def test_an_address_where_nobody_listens(hub):  # noqa: F811
    with pytest.raises(EnvironmentFault, match=r"127.0.0.1:9 cannot be reached(.|\n)*check the network"):
        backend(HubSource, repo="acme/tiny", endpoint=NOBODY).pin()


def test_hf_endpoint_is_the_hub_where_the_spec_names_none(hub, repo, monkeypatch):  # noqa: F811
    monkeypatch.setenv("HF_ENDPOINT", hub.url + "/")
    source = backend(HubSource, repo="acme/tiny")
    assert source.pin().values["commit"] == repo.main
    assert source.config() is not None


USER = """
import os
{before}
import tunewright_transformers
from tunewright_transformers.library import library
library()
print("user" if tunewright_transformers.OFFLINE_BY_USER else "ours", os.environ["HF_HUB_OFFLINE"])
"""


@pytest.mark.parametrize(("before", "whose"), [("", "ours 1"), ("os.environ['HF_HUB_OFFLINE'] = '1'", "user 1")])
def test_what_we_shut_ourselves_is_not_taken_for_the_users_word(before, whose):
    clean = {name: value for name, value in os.environ.items() if not name.endswith("_OFFLINE")}
    done = subprocess.run([sys.executable, "-c", USER.format(before=before)], env=clean, capture_output=True, text=True)
    assert done.stdout.strip() == whose, done.stderr


VALIDATE = """
import socket, sys
def refuse(*_, **__):
    raise AssertionError("validate asks the network")
socket.socket.connect = socket.getaddrinfo = socket.create_connection = refuse
for name in ("huggingface_hub", "httpx2", "torch", "transformers"):
    sys.modules[name] = None  # importing it is now an ImportError
from tunewright.cli.main import app
app(["validate", sys.argv[1]])
"""

SPEC = """
apiVersion: tunewright/v1
name: acme
model: {{source: {{kind: hub, repo: acme/tiny, endpoint: "{url}", token: "${{env:NOT_SET_ANYWHERE}}"}}, dtype: fp32}}
quantization: {{kind: none}}
adapter: {{kind: lora}}
data:
  format: {{kind: chat, prompt: "{{text}}", completion: "{{queue}}"}}
  train: [{{kind: csv, path: train.csv}}]
trainer: {{kind: sft, max_length: 1024}}
"""


@pytest.fixture
def spec(hub, tmp_path):  # noqa: F811
    (tmp_path / "train.csv").write_text("text,queue\nwhere is it,delivery\nit is late,delivery\n")
    (tmp_path / "acme.yaml").write_text(SPEC.format(url=hub.url))
    return tmp_path / "acme.yaml"


def validate(spec):
    return subprocess.run([sys.executable, "-c", VALIDATE, str(spec)], capture_output=True, text=True)


def test_a_spec_is_validated_without_network_token_or_library(hub, repo, spec):  # noqa: F811
    done = validate(spec)
    assert done.returncode == 0, done.stdout + done.stderr
    assert hub.asked == []


def test_after_a_pin_validate_knows_the_model(hub, source, spec):  # noqa: F811
    source.pin()
    hub.asked.clear()
    done = validate(spec)
    assert "rows may have 1024 tokens, the base takes 512" in done.stdout + done.stderr
    assert hub.asked == []
