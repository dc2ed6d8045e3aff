"""What a package index shows: README, whose links and pictures need the address of the repository, and links.

Hatchling runs this while it builds. The address is that of the repository whose workflow builds, as GitHub
names it; elsewhere, as for an installation from a clone, README stays as it is, and there are no links.
"""

import os
import re
from pathlib import Path

from hatchling.metadata.plugin.interface import MetadataHookInterface

LINK = re.compile(r"(!?)\[([^]]*)\]\((?!https?://|#)([^)]+)\)")


def absolute(text: str, address: str, tag: str) -> str:
    """Return a text in Markdown whose links to files of the project have the address of the repository."""

    def link(match: re.Match[str]) -> str:
        kind = "raw" if match[1] else "blob"
        return f"{match[1]}[{match[2]}]({address}/{kind}/{tag}/{match[3]})"

    return LINK.sub(link, text)


class Readme(MetadataHookInterface):
    """The hook that `pyproject.toml` names."""

    def update(self, metadata: dict) -> None:
        """Put README and the links into the metadata."""
        text, metadata["urls"] = Path(self.root, "README.md").read_text("utf-8"), {}
        server, name = (os.environ.get(f"GITHUB_{key}", "") for key in ("SERVER_URL", "REPOSITORY"))
        if server and name:
            address, tag = f"{server}/{name}", os.environ.get("GITHUB_REF_NAME", "main")
            text = absolute(text, address, tag)
            metadata["urls"] = {
                "Repository": address,
                "Issues": f"{address}/issues",
                "Changelog": f"{address}/blob/{tag}/CHANGELOG.md",
            }
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
