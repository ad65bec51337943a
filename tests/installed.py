"""What `pip install` makes of a package's own pyproject.toml, without a network: its metadata and its entry points."""

from __future__ import annotations

import tomllib
from pathlib import Path


def install(package: Path, site: Path) -> None:
    """Put the package's dist-info into `site`; one of another version leaves first."""
    project = tomllib.loads((package / "pyproject.toml").read_text("utf-8"))["project"]
    name, version = project["name"].replace("-", "_"), project["version"]
    for old in site.glob(f"{name}-*.dist-info"):
        old.rename(old.with_suffix(".gone"))
    info = site / f"{name}-{version}.dist-info"
    info.mkdir()
    needs = "".join(f"Requires-Dist: {line}\n" for line in project["dependencies"])
    (info / "METADATA").write_text(f"Metadata-Version: 2.4\nName: {project['name']}\nVersion: {version}\n{needs}")
    points = "".join(f"{key} = {value}\n" for key, value in project["entry-points"]["tunewright"].items())
    (info / "entry_points.txt").write_text(f"[tunewright]\n{points}")


if __name__ == "__main__":  # as `pip install -e .`: the folder that it was called in, into this environment
    import sysconfig

    here, target = Path.cwd(), Path(sysconfig.get_path("purelib"))
    install(here, target)
    (target / f"_editable_{here.name}.pth").write_text(f"{here}\n")
