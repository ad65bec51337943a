"""`init`: a project to change into one's own: a commented spec, rows to replace, hooks of version control.

The texts are in projects/, one spec a template; `@name@` and the like stand where a name is put in.
"""

from __future__ import annotations

import re
from pathlib import Path

from tunewright import __version__
from tunewright.errors import BadInput
from tunewright.spec.suggest import did_you_mean
from tunewright.store import disk

PROJECTS = Path(__file__).parent / "projects"
SPEC = ".yaml.txt"
HOOKS = ".pre-commit-config.yaml"
MOST = 64  # letters of a project's name


def templates() -> tuple[str, ...]:
    """What `--template` takes."""
    found = (path.name.removesuffix(SPEC) for path in PROJECTS.glob(f"*{SPEC}"))
    return tuple(sorted(name for name in found if name != "pre-commit"))


def new_project(folder: Path, template: str) -> None:
    """Write the project and say what to do next.

    Raises `BadInput` where there is no such template, no name for a project in the folder's, or a file already, before
    anything is written.
    """
    if template not in templates():
        raise BadInput(f"there is no template `{template}`", fix=did_you_mean(template, templates()))
    name = _named(folder)
    files = {
        f"{name}.yaml": f"{template}{SPEC}",
        "train.csv": "train.csv.txt",
        "test.csv": "test.csv.txt",
        HOOKS: f"pre-commit{SPEC}",
    }
    there = [file for file in files if (folder / file).exists()]
    if there:
        raise BadInput(f"{folder / there[0]} is there already", fix="choose another folder: nothing is written over")
    values = {"name": name, "file": f"{name}.yaml", "version": __version__}
    disk.make_folder(folder)
    for file, source in files.items():
        text = (PROJECTS / source).read_text("utf-8")
        for key, value in values.items():
            text = text.replace(f"@{key}@", value)
        disk.write(folder / file, text.encode())
    print(f"{folder} holds {', '.join(files)}")
    print(f"next: put your rows into train.csv and test.csv, tunewright validate {folder / name}.yaml")


def _named(folder: Path) -> str:
    """What the project is called: the folder's name in small letters."""
    name = re.sub(r"[^a-z0-9._-]+", "-", folder.resolve().name.lower()).strip("-._")[:MOST]
    if not name:
        raise BadInput(f"`{folder}` gives no name to a project: it needs a letter or a digit", fix="as in `my-desk`")
    return name
