"""Where a study keeps its files, and the settings and the key that it keeps there."""

import os
import re
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sono.curation.core.atomic import check_inside
from sono.curation.core.config import Settings, StudyConfig, read_section
from sono.curation.core.errors import SonoError
from sono.curation.core.planes import PlaneTable
from sono.curation.core.pseudonyms import key_check, read_key

CONFIG_NAME = "sono.toml"
VAULT_SUFFIX = ".vault"
VAULT_MODE = 0o700

NEW_CONFIG = """\
# Settings of this study. Every key has a default; an unknown key is an error.
[study]
name = {name}
key_check = {key_check}   # shows whether the vault next to this study has its key; do not change

# [records.columns]      # the columns of your records table
# patient = "Patient ID"
# plane = "View"
# ga = "GA"
"""


def enclosing_workspace(folder: Path) -> Path | None:
    """The nearest workspace at or above the absolute `folder`, or None.

    `folder` need not exist.
    """
    return next(
        (place for place in (folder, *folder.parents) if (place / CONFIG_NAME).is_file()), None
    )


def refuse_store(folder: Path) -> None:
    """Raise SonoError if a path is the address of an object store.

    A store supports neither locks nor atomic renaming.
    """
    protocol = re.match(r"([a-z][a-z0-9+.-]+):/", str(folder), re.I)  # Path made one slash of two
    if protocol:
        raise SonoError(
            f"{protocol[1]}://: a workspace is a folder on a local disk, because its tables "
            "are locked and renamed there; create it there, give the address of the raw files to "
            "`sono qc`, and copy the workspace when it is done"
        )


@dataclass(frozen=True)
class StudyFolder:
    """Paths, settings and key of one study.

    `root` holds `sono.toml`; the vault is the folder `root` + `.vault` next to it.
    """

    root: Path

    @property
    def config_path(self) -> Path:
        return self.root / CONFIG_NAME

    @property
    def frames(self) -> Path:
        return self.root / "frames"

    @property
    def runs(self) -> Path:
        return self.root / "runs"

    def place(self, given: str) -> Path:
        """The path that `given` in `sono.toml` names.

        It is relative to the workspace; `~` is the home folder.
        """
        return self.root / Path(given).expanduser()

    def run_name(self, given: str) -> str:
        """NAME (or NAME/end) of a run given as runs/NAME or by the path of its folder.

        Other texts are returned unchanged. A run's folder may be a link to another place, and so
        may `runs`.
        """
        bare = given.rstrip("/")
        if "/" not in bare or "\0" in bare:
            return bare
        runs = os.path.realpath(self.runs)
        for path in (self.root / bare, Path.cwd() / bare):
            for depth in (1, 2):
                name = Path(*path.parts[-depth:])
                if ".." not in name.parts and os.path.realpath(path.parents[depth - 1]) == runs:
                    return name.as_posix()
        return given

    @property
    def vault(self) -> Path:
        return self.root.parent / f"{self.root.name}{VAULT_SUFFIX}"

    @property
    def key_path(self) -> Path:
        return self.vault / "key"

    @property
    def sources_path(self) -> Path:
        """The vault's table with one row per frame, its path and its raw ids."""
        return self.vault / "sources.parquet"

    @property
    def quarantine(self) -> Path:
        """The folder of frames that a person must check before they may be shared."""
        return self.vault / "quarantine"

    @property
    def reviews_path(self) -> Path:
        """The log of decisions on masks."""
        return self.root / "reviews.jsonl"

    @property
    def released_path(self) -> Path:
        """The vault's table of decisions on quarantined frames."""
        return self.vault / "released.parquet"

    def key(self) -> bytes:
        """The pseudonym key; SonoError if the vault is missing or belongs to another study."""
        if not self.vault.exists():
            raise SonoError(self.without_vault())
        key, expected = read_key(self.key_path), self.study().key_check
        if expected and key_check(key) != expected:
            raise SonoError(
                f"{self.key_path}: not the key that made this study's ids; put the study's own "
                f"vault back "
                "(with another key the same patient would get another id)"
            )
        return key

    def without_vault(self) -> str:
        """The message for a study without its vault, or without the vault's table."""
        lacking = self.vault if not self.vault.exists() else self.sources_path
        return (
            f"{lacking}: not here, so nothing was searched for names, ids and dates of patients; "
            "put the study's own vault next to it"
        )

    def loose_vault(self) -> str | None:
        """What is wrong with the vault's mode; None if only its owner may open it."""
        mode = stat.S_IMODE(self.vault.stat().st_mode) if self.vault.exists() else VAULT_MODE
        if mode & ~VAULT_MODE == 0:
            return None
        return (
            f"{self.vault}: mode {mode:04o} lets other users open it; run `chmod 700 {self.vault}`"
        )

    def former_vault(self) -> Path | None:
        """A vault next to the study that has its key and whose own study is gone, or None."""
        expected = self.study().key_check
        for vault in sorted(self.root.parent.glob(f"*{VAULT_SUFFIX}")) if expected else ():
            if (vault.with_suffix("") / CONFIG_NAME).exists() or not (vault / "key").is_file():
                continue
            with suppress(SonoError):
                if key_check(read_key(vault / "key")) == expected:
                    return vault
        return None

    def settings(self, section: str, model: type[Settings]) -> Settings:
        """Section `section` of `sono.toml`."""
        return read_section(self.config_path, section, model)

    def study(self) -> StudyConfig:
        return self.settings("study", StudyConfig)

    def planes(self) -> PlaneTable:
        """The planes in use: the 24, those of the study's own file, and the labels of `sono.toml`.

        The path of that file is relative to `sono.toml`.
        """
        study = self.study()
        own = study.planes_file
        if own:
            check_inside(self.root / own, self.root)
        table = PlaneTable.load(self.root / own if own else None)
        return table.with_labels(study.planes, self.config_path)
