"""`engines install`: a venv of pinned requirements by pip as it is configured here, whole or not there at all."""

from __future__ import annotations

import json
import os
import subprocess
import zipfile
from types import ModuleType

import pytest

from tunewright.cli import engines as commands
from tunewright.engines import environment_of, lacking
from tunewright.engines import install as installing
from tunewright.errors import BadInput, EnvironmentFault
from tunewright.host import Host, hookimpl
from tunewright.parts import Engine, Options


class ParrotOptions(Options):
    kind: str = "parrot"


class Parrot(Engine[ParrotOptions]):
    """An engine whose environment holds one small package."""

    kind, Options = "parrot", ParrotOptions
    environment = ("parrot-bin==1.2.0",)
    building = {"PARROT_JOBS": "{cores}"}
    takes = "a moment"

    def lacking(self):
        return lacking(self)

    def open(self, served):
        raise NotImplementedError


class Mute(Parrot):
    """One that was installed and does not work."""

    proof = "import parrot_bin; assert parrot_bin.WORDS == 'bye', 'it does not say bye'"


class Parrot2(Parrot):
    """The same, pinned to a later one."""

    environment = ("parrot-bin==2.0.0",)


@pytest.fixture
def host(monkeypatch):
    module = ModuleType("plugin_with_a_parrot")
    module.Parrot = Parrot
    module.tunewright_backends = hookimpl(lambda: {"engine/parrot": f"{module.__name__}:Parrot"})
    monkeypatch.setitem(__import__("sys").modules, module.__name__, module)
    return Host(extra={"parrot": module})


@pytest.fixture
def index(tmp_path, monkeypatch):
    """pip's configuration of this machine: a folder of wheels, and no network."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    about = "parrot_bin-1.2.0.dist-info"
    with zipfile.ZipFile(folder / "parrot_bin-1.2.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("parrot_bin/__init__.py", "WORDS = 'hello'\n")
        wheel.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: parrot-bin\nVersion: 1.2.0\n")
        wheel.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{about}/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def test_it_is_made_once_and_found_again(cache, index, host, capsys):
    engine, environment = Parrot(ParrotOptions()), environment_of(Parrot)
    assert "tunewright engines install parrot" in engine.lacking()
    commands.install_engine("parrot", host)
    said = capsys.readouterr()
    assert "parrot-bin==1.2.0" in said.err
    assert "a moment" in said.err
    assert str(environment.folder) in said.out
    assert environment.folder.is_relative_to(cache / "engines")
    assert engine.lacking() is None
    spoken = [str(environment.python), "-c", "import parrot_bin; print(parrot_bin.WORDS)"]
    assert subprocess.run(spoken, capture_output=True, text=True, check=True).stdout == "hello\n"
    assert (environment.package("parrot_bin") / "__init__.py").is_file()
    record = environment.record()
    assert "parrot-bin==1.2.0" in record["packages"]
    assert record["bytes"] > 1000
    index.rename(index.with_name("gone"))  # nothing is asked of pip a second time
    commands.install_engine("parrot", host)
    assert "installed already" in capsys.readouterr().err


def test_what_pip_cannot_bring_is_said_with_its_words_and_nothing_stays(cache, index):
    with pytest.raises(EnvironmentFault, match=r"(?s)parrot-bin==2\.0\.0.*pip's index") as error:
        installing.install(Parrot2, lambda what: None)
    environment = environment_of(Parrot2)
    assert not environment.folder.exists()
    log = environment.folder.with_suffix(".log")
    assert str(log) in str(error.value)
    assert "parrot-bin" in log.read_text()


def test_what_is_installed_and_does_not_work_is_not_installed(cache, index):
    with pytest.raises(EnvironmentFault, match="it does not say bye"):
        installing.install(Mute, lambda what: None)
    assert not environment_of(Mute).folder.exists()


def test_half_an_installation_is_never_taken_for_one(cache, index, monkeypatch):
    """As a killed one leaves it: a folder with a Python, and no record."""
    environment = environment_of(Parrot)

    def die(*words):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(installing, "_packages", die)
        patch.setattr(installing.shutil, "rmtree", lambda *given, **how: None)  # nobody tidies up after a kill
        installing.install(Parrot, lambda what: None)
    assert environment.python.exists()
    assert not environment.installed
    (environment.folder / "left").write_text("of the killed one")
    installing.install(Parrot, lambda what: None)
    assert environment.installed
    assert not (environment.folder / "left").exists()


def test_another_pin_is_another_environment():
    assert environment_of(Parrot).folder != environment_of(Parrot2).folder


def test_the_pins_stand_in_the_key(monkeypatch):
    assert Parrot(ParrotOptions()).versions() == {"parrot-bin": "1.2.0"}
    assert Parrot(ParrotOptions()).signature() != Parrot2(ParrotOptions()).signature()


def test_variables_of_the_build_are_the_users_where_he_sets_them(cache, index, monkeypatch):
    heard = []
    run = installing._run

    def listen(words, log, given):
        if "install" in words:
            heard.append(given)
        return run(words, log, given)

    monkeypatch.setattr(installing, "_run", listen)
    monkeypatch.setenv("PYTHONPATH", "/ours")
    installing.install(Parrot, lambda what: None)
    assert heard[-1]["PARROT_JOBS"] == str(os.cpu_count())
    assert "PYTHONPATH" not in heard[-1], "ours would be found in it"
    monkeypatch.setenv("PARROT_JOBS", "7")
    monkeypatch.setenv("TUNEWRIGHT_CACHE", str(cache / "other"))
    installing.install(Parrot, lambda what: None)
    assert heard[-1]["PARROT_JOBS"] == "7"


def test_two_installations_do_not_meet(cache, index):
    with (
        installing._alone(environment_of(Parrot)),
        pytest.raises(EnvironmentFault, match="another process installs `parrot`"),
    ):
        installing.install(Parrot, lambda what: None)


def test_the_list_says_what_can_be_used(cache, host, capsys):
    commands.list_engines(host, True)
    found = json.loads(capsys.readouterr().out)["engines"]
    assert found["transformers"]["state"] == "embedded"
    assert found["parrot"] == {
        "state": "not installed", "requirements": ["parrot-bin==1.2.0"],
        "folder": str(environment_of(Parrot).folder), "bytes": 0,
    }  # fmt: skip


def test_an_unknown_engine_and_one_that_needs_none_are_said(host):
    with pytest.raises(BadInput, match=r"(?s)engine `parot`.*`parrot`"):
        commands.install_engine("parot", host)
    with pytest.raises(EnvironmentFault, match="needs no environment of its own"):
        commands.install_engine("transformers", host)
