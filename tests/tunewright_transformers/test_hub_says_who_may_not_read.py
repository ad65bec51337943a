"""Private and gated repositories: what is wrong is said with what to write, and no token comes out anywhere."""

import traceback

import pytest
from pydantic import ValidationError

from hub_server import hub  # noqa: F401
from tiny import backend
from tunewright.errors import BadInput, EnvironmentFault
from tunewright_transformers.hub import HubSource

CANARY = "hf_CanaryThatMustNotComeOut42"
TOKEN = "${env:ACME_TOKEN}"


@pytest.fixture
def gated(hub, tiny_folder):  # noqa: F811
    hub.accounts = {CANARY: {"acme/gated", "acme/private"}, "hf_another": set()}
    hub.repo("acme/private", tiny_folder(), private=True)
    return hub.repo("acme/gated", tiny_folder(), gated=True)


def source(hub, repo="acme/gated", **options):  # noqa: F811
    return backend(HubSource, repo=repo, endpoint=hub.url, **options)


def refusal(found):
    with pytest.raises(BadInput) as error:
        found.pin()
    assert error.value.exit_code == 2
    assert found.options.repo in str(error.value)
    assert CANARY not in "".join(traceback.format_exception(error.value))
    return str(error.value)


def test_a_gated_repository_without_a_token(hub, gated):  # noqa: F811
    said = refusal(source(hub))
    assert "is gated" in said
    assert f"accept its terms on {hub.url}/acme/gated" in said
    assert 'token: "${env:HF_TOKEN}"' in said


def test_a_gated_repository_with_the_token_of_an_account_that_it_does_not_know(hub, gated, monkeypatch):  # noqa: F811
    monkeypatch.setenv("ACME_TOKEN", "hf_another")
    said = refusal(source(hub, token=TOKEN))
    assert "the account of `${env:ACME_TOKEN}` has no access" in said
    assert "hf_another" not in said


@pytest.mark.parametrize("repo", ["acme/gated", "acme/private"])
def test_a_token_that_the_hub_does_not_know_even_where_the_hub_repeats_it(hub, gated, monkeypatch, repo):  # noqa: F811
    monkeypatch.setenv("ACME_TOKEN", CANARY)
    hub.accounts.clear()
    said = refusal(source(hub, repo, token=TOKEN))
    assert "does not take the token of `${env:ACME_TOKEN}`" in said
    assert "Invalid credentials in Authorization header: Bearer ${env:ACME_TOKEN}" in said


@pytest.mark.parametrize("repo", ["acme/private", "acme/nowhere"])
def test_what_is_private_and_what_is_not_there_look_alike(hub, gated, monkeypatch, repo):  # noqa: F811
    said = refusal(source(hub, repo))
    assert "it is not there, or it is private or gated" in said
    assert 'token: "${env:HF_TOKEN}"' in said
    monkeypatch.setenv("ACME_TOKEN", "hf_another")
    assert f"shows no `{repo}` to the token of `{TOKEN}`" in refusal(source(hub, repo, token=TOKEN))


def test_a_revision_that_is_not_there(hub, gated, monkeypatch):  # noqa: F811
    monkeypatch.setenv("ACME_TOKEN", CANARY)
    assert "has no revision `v9`" in refusal(source(hub, token=TOKEN, revision="v9"))


@pytest.mark.parametrize("repo", ["acme/gated", "acme/private"])
def test_the_token_opens_it_goes_to_the_endpoint_alone_and_comes_out_nowhere(
    hub,  # noqa: F811
    gated,
    monkeypatch,
    tmp_path,
    cache,
    caplog,
    capfd,
    repo,
):
    caplog.set_level("DEBUG")
    monkeypatch.setenv("ACME_TOKEN", CANARY)
    found = source(hub, repo, token=TOKEN)
    pin = found.pin()
    out = tmp_path / "out"
    out.mkdir()
    found.fetch(pin, out)
    assert (out / "model.safetensors").is_file()
    assert {ask.token for ask in hub.asked if ask.host == "hub"} == {f"Bearer {CANARY}"}
    assert {ask.token for ask in hub.asked if ask.host == "storage"} == {None}
    hub.down = 503
    with pytest.warns(UserWarning, match=repo) as warned:
        found.pin()
    shown = [str(pin), repr(found.options), str(found.settings()), found.options.model_dump_json(), caplog.text]
    shown += [*capfd.readouterr(), *(str(warning.message) for warning in warned)]
    shown += [path.read_text("latin-1") for path in (*cache.rglob("*.*"), *out.iterdir()) if path.is_file()]
    assert not [text for text in shown if CANARY in text]


def test_no_token_is_sent_that_the_spec_does_not_name(hub, gated, monkeypatch, tmp_path):  # noqa: F811
    (tmp_path / "token").write_text(CANARY)
    monkeypatch.setenv("HF_TOKEN", CANARY)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "token"))
    with pytest.raises(BadInput):
        source(hub).pin()
    assert {ask.token for ask in hub.asked} == {None}


def test_a_variable_that_is_not_set_is_named(hub, gated, monkeypatch):  # noqa: F811
    monkeypatch.delenv("ACME_TOKEN", raising=False)
    with pytest.raises(EnvironmentFault, match="ACME_TOKEN"):
        source(hub, token=TOKEN).pin()


@pytest.mark.parametrize("value", [f"{CANARY}\n", f"{CANARY} x", f"{CANARY}é"])
def test_a_value_that_can_be_no_header_is_refused_without_showing_it(hub, gated, monkeypatch, value):  # noqa: F811
    monkeypatch.setenv("ACME_TOKEN", value)
    with pytest.raises(EnvironmentFault, match=r"`\$\{env:ACME_TOKEN\}` is no token") as error:
        source(hub, token=TOKEN).pin()
    assert CANARY not in "".join(traceback.format_exception(error.value))
    assert hub.asked == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"repo": "../etc"},
        {"repo": "a/b/c"},
        {"repo": "acme/tiny--x"},
        {"endpoint": "ftp://hub.example"},
        {"endpoint": "https://user:pass@hub.example"},
        {"token": CANARY},
        {"revision": ""},
    ],
)
def test_what_cannot_be_meant_is_said_at_validate(wrong):
    with pytest.raises(ValidationError):
        backend(HubSource, **{"repo": "acme/tiny", **wrong})


@pytest.mark.parametrize("repo", ["gpt2", "acme/tiny-1.5_b", "a.b/c-d.e"])
def test_names_of_repositories(repo):
    assert backend(HubSource, repo=repo).name == repo
