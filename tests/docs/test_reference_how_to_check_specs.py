"""docs/how-to/check-specs.md: its example says what `validate` says, its hooks are there."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from tunewright.spec.document import parse

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "how-to" / "check-specs.md").read_text()


def test_the_example_prints_what_the_page_says(tmp_path):
    (spec,) = re.findall(r"```yaml\n# client.yaml\n(.*?)```", PAGE, re.DOTALL)
    (printed,) = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    base = (ROOT / "specs" / "quickstart" / "quickstart.yaml").read_text()
    (tmp_path / "base.yaml").write_text(base)
    (tmp_path / "client.yaml").write_text(spec)
    for name in ("train.csv", "test.csv"):
        (tmp_path / name).symlink_to(ROOT / "specs" / "quickstart" / name)
    command = [str(Path(sys.executable).with_name("tunewright")), "validate", "--format", "json", "client.yaml"]
    done = subprocess.run(command, cwd=tmp_path, env=os.environ, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert json.loads(done.stdout) == json.loads(printed)


def test_the_hooks_of_the_page_are_those_that_there_are():
    hooks = re.findall(r"^- id: (\S+)", (ROOT / ".pre-commit-hooks.yaml").read_text(), re.MULTILINE)
    (config,) = re.findall(r"```yaml\n# .pre-commit-config.yaml\n(.*?)```", PAGE, re.DOTALL)
    assert [hook["id"] for hook in parse(config, "page", ROOT).data["repos"][0]["hooks"]] == hooks
