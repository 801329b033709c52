"""A study's folder (may be handed over) and its vault beside it (may not)."""

import json
import os
import re
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from sono.curation.core.atomic import (
    TEMPORARY_PREFIX,
    check_inside,
    check_target,
    check_utf8,
    lock_file,
    new_folder,
    open_lock,
    real_path,
    refuse_used_folder,
    remove_leftovers,
    unfinished,
    write_text,
)
from sono.curation.core.config import Settings, StudyConfig, read_section
from sono.curation.core.errors import SonoError, typed_name
from sono.curation.core.mask_table import check_fit
from sono.curation.core.planes import PlaneTable
from sono.curation.core.pseudonyms import create_key, key_check, read_key
from sono.curation.core.table_checks import TableSpec, has_mark
from sono.curation.core.tables import (
    CAPTIONS,
    IMAGES,
    MASKS,
    RELEASED,
    SOURCES,
    read_table,
    write_table,
)
from sono.curation.core.vault_checks import check_identities, count_unknown, stamp

CONFIG_NAME = "sono.toml"
VAULT_SUFFIX = ".vault"
VAULT_MODE = 0o700

NEW_CONFIG = """\
# Settings of this study. Every key has a default; an unknown key is an error.
[study]
name = {name}
key_check = {key_check}   # tells whether the vault beside this study holds its key; leave it

# [records.columns]      # which column of your records table holds what
# patient = "Patient ID"
# plane = "View"
# ga = "GA"
"""


def enclosing_workspace(folder: Path) -> Path | None:
    """The nearest workspace at or above the absolute `folder`, which need not exist.

    None where there is none.
    """
    return next(
        (place for place in (folder, *folder.parents) if (place / CONFIG_NAME).is_file()), None
    )


def _refuse_store(folder: Path) -> None:
    """SonoError where a path is the address of a store, which knows neither locks nor renaming
    at one stroke.
    """
    protocol = re.match(r"([a-z][a-z0-9+.-]+):/", str(folder), re.I)  # Path made one slash of two
    if protocol:
        raise SonoError(
            f"{protocol[1]}://: a workspace is a folder on a local disk, since tables are locked "
            f"and renamed there; "
            "make it there, give the address of the raw files to `sono qc`, and copy the workspace "
            "when it is done"
        )


@dataclass(frozen=True)
class Workspace:
    """Paths, tables and settings of one study. `root` holds `sono.toml`.

    The vault is `root` + `.vault`.
    """

    root: Path

    @classmethod
    def create(cls, root: Path) -> "Workspace":
        """Make the folder, its `sono.toml` and the vault with a new key; SonoError if there is one
        already.

        What a killed call has begun is ended.
        """
        _refuse_store(root)
        workspace = cls(real_path(root))
        check_utf8(workspace.root)
        typed_name("the name of the study", workspace.root.name)
        if workspace.config_path.exists():
            if workspace._take_vault():
                return workspace
            raise SonoError(f"{root}: is a workspace already; go on with `sono qc`")
        if workspace.vault.exists():
            raise SonoError(
                f"{workspace.vault}: a vault without its workspace stands here; move it away or "
                f"restore the workspace"
            )
        outer = enclosing_workspace(workspace.root.parent)
        if outer is not None:
            raise SonoError(
                f"{root}: lies inside the workspace {outer}, which may be handed over; choose "
                f"another"
            )
        if root.is_dir() and all(path.name.startswith(TEMPORARY_PREFIX) for path in root.iterdir()):
            remove_leftovers(root)  # of a `sono init` that was killed
        refuse_used_folder(root)
        workspace.root.mkdir(parents=True, exist_ok=True)
        # a command that is killed or has no room can be given again
        with new_folder(workspace.vault) as vault:
            vault.chmod(VAULT_MODE)  # whatever the umask
            create_key(vault / workspace.key_path.name)
            check = json.dumps(key_check(read_key(vault / workspace.key_path.name)))
            write_text(
                workspace.config_path,
                NEW_CONFIG.format(name=json.dumps(workspace.root.name), key_check=check),
            )
        return workspace

    def _take_vault(self) -> bool:
        """Give the vault its name where `create` was killed just before that.

        Whether this was so.
        """
        ready = unfinished(self.vault)
        if self.vault.exists() or not (ready / self.key_path.name).is_file():
            return False
        if key_check(read_key(ready / self.key_path.name)) != self.study().key_check:
            return False
        ready.rename(self.vault)
        remove_leftovers(self.root)
        return True

    @classmethod
    def find(cls, given: Path | None = None) -> "Workspace":
        """The workspace `given`, or the nearest at or above the current folder."""
        if given is not None:
            _refuse_store(given)
            check_utf8(real_path(given))
            if not (given / CONFIG_NAME).is_file():
                raise SonoError(
                    f"{given}: no workspace here ({CONFIG_NAME} is missing); make one with `sono "
                    f"init {given}`"
                )
            return cls(real_path(given))
        found = cls.find_or_none()
        if found is not None:
            return found
        raise SonoError(
            f"{Path.cwd()}: no workspace here or above; make one with `sono init NAME` or give "
            f"--workspace"
        )

    @classmethod
    def find_or_none(cls, given: Path | None = None) -> "Workspace | None":
        """The workspace `given`, or the nearest at or above the current folder.

        None where there is none.
        """
        if given is not None:
            return cls.find(given)
        folder = enclosing_workspace(Path.cwd())
        if folder is None:
            return None
        check_utf8(folder)
        return cls(folder)

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
        """Where a path of `sono.toml` leads, which is relative to the workspace.

        `~` is the home.
        """
        return self.root / Path(given).expanduser()

    def run_name(self, given: str) -> str:
        """NAME (or NAME/end) of a run that is given as runs/NAME or by the path of its folder;
        other texts as they are.

        A run's folder may be a link to elsewhere, and so may `runs`.
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
        """The vault's table: one row a frame, with its path and raw ids."""
        return self.vault / "sources.parquet"

    @property
    def quarantine(self) -> Path:
        """Frames that a person must look at before they may be handed over."""
        return self.vault / "quarantine"

    @property
    def released_path(self) -> Path:
        """The vault's table of quarantined frames that a person let pass."""
        return self.vault / "released.parquet"

    def key(self) -> bytes:
        """The pseudonym key; SonoError where the vault is not here or belongs to another study."""
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

    def has_vault(self) -> bool:
        """Whether the vault is here and knows the files of this study.

        SonoError where it holds another key, lacks files of the study, or is next to it under the
        study's former name.
        """
        if not self.vault.exists():
            former = self._former_vault()
            if former is not None:
                raise SonoError(
                    f"{self.vault}: not here, but {former} holds this study's key; rename it to "
                    f"{self.vault.name}, "
                    "as the study was renamed"
                )
            return False
        self.key()
        images = self.path(IMAGES)
        if not images.exists():
            return True
        if not self.sources_path.exists():
            return False
        unknown = count_unknown(self, stamp(images), stamp(self.sources_path))
        if unknown:
            raise SonoError(
                f"{self.sources_path}: knows nothing of {unknown} files in {images.name}; put back "
                f"the vault that "
                f"belongs to this study, or delete {images.name} and run `sono qc` on all folders "
                f"again"
            )
        return True

    def without_vault(self) -> str:
        """What is said where `has_vault` is false."""
        lacking = self.vault if not self.vault.exists() else self.sources_path
        return (
            f"{lacking}: not here, so nothing was searched for names, ids and dates of patients; "
            f"put the study's own "
            "vault next to it"
        )

    def require_vault(self, no_vault: bool | None = None) -> None:
        """SonoError where the vault is not here, unless `no_vault` accepts that what is exported
        cannot be searched.

        None is for commands that do not have this option, because they need what is in the vault.
        """
        if not self.has_vault() and not no_vault:
            choice = "" if no_vault is None else ", or export unsearched with --no-vault"
            raise SonoError(self.without_vault() + choice)

    def loose_vault(self) -> str | None:
        """What is wrong with the vault's mode; None where only its owner may open it."""
        mode = stat.S_IMODE(self.vault.stat().st_mode) if self.vault.exists() else VAULT_MODE
        if mode & ~VAULT_MODE == 0:
            return None
        return (
            f"{self.vault}: mode {mode:04o} lets others in; close it with `chmod 700 {self.vault}`"
        )

    def _former_vault(self) -> Path | None:
        """A vault next to the study that holds its key, and whose own study is gone.

        None where there is none.
        """
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
        """The planes in use: the 24, and those of the study's own file (a path relative to
        `sono.toml`).
        """
        own = self.study().planes_file
        if own:
            check_inside(self.root / own, self.root)
        return PlaneTable.load(self.root / own if own else None)

    def path(self, spec: TableSpec) -> Path:
        """Where the table `spec` stands."""
        return self.root / f"{spec.name}.parquet"

    def read(self, spec: TableSpec, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """Read and check a table, or some columns; empty where the stage has not run."""
        path = self.path(spec)
        check_inside(path, self.root)
        frame = read_table(path, spec, columns, self.study().key_check)
        # else its own
        if spec in (MASKS, CAPTIONS) and len(frame) and "image_id" in frame and not has_mark(path):
            self._refuse_foreign(path, frame["image_id"])
        if spec is MASKS and columns is None and len(frame):
            check_fit(path, frame, self.read(IMAGES, ["image_id", "height", "width"]))
        return frame

    def sources(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """The vault's table of files, or some columns; SonoError for that of another study."""
        return read_table(self.sources_path, SOURCES, columns, self.study().key_check)

    def released(self) -> pd.DataFrame:
        """The vault's table of quarantined frames that a person let pass."""
        return read_table(self.released_path, RELEASED, study=self.study().key_check)

    def check_output(self, target: Path) -> None:
        """SonoError where `target` is a file of the study's own, or no file can be put there.

        Before long work.
        """
        place, root = real_path(target), real_path(self.root)
        own = place.suffix in (".parquet", ".toml") and place.parent == root
        if (
            own
            or place.is_relative_to(real_path(self.frames))
            or place.is_relative_to(real_path(self.vault))
        ):
            raise SonoError(
                f"{target}: a file of the study's own, or where these are; name a new file outside"
            )
        check_target(target)

    def write_vault(self, path: Path, spec: TableSpec, frame: pd.DataFrame) -> None:
        """Check and write a table of the vault, which its owner alone may read."""
        write_table(path, frame, spec, mode=0o600, study=self.study().key_check)

    def _refuse_foreign(self, path: Path, image_ids: pd.Series) -> None:
        """SonoError where not one of the frames that a table speaks of is in the images table."""
        known = self.read(IMAGES, ["image_id"])["image_id"]
        if len(known) and not image_ids.isin(known).any():
            raise SonoError(
                f"{path}: row 1: column 'image_id' has {image_ids.iloc[0]!r}, and no row names a "
                f"frame of "
                f"{IMAGES.name}.parquet: one of the two is of another study; put this study's own "
                f"table back"
            )

    def write(self, spec: TableSpec, frame: pd.DataFrame) -> None:
        """Check and write a table atomically."""
        write_table(self.path(spec), frame, spec, study=self.study().key_check)

    def images(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """The images table, or some columns.

        SonoError where `sono qc` has not run, or the vault has other rows.
        """
        frame = self.read(IMAGES, columns)
        if frame.empty:
            raise SonoError(f"{self.root}: no images yet; run `sono qc FOLDER` first")
        if os.access(self.sources_path, os.R_OK):
            check_identities(self, stamp(self.path(IMAGES)), stamp(self.sources_path))
        self._refuse_links()
        return frame

    def _refuse_links(self) -> None:
        """SonoError where a link among the stored frames leads out of the workspace."""
        if not self.frames.is_dir():
            return
        links = [self.frames]
        with os.scandir(self.frames) as folders:
            for folder in folders:
                links += [Path(folder)] if folder.is_symlink() else []
                if folder.is_dir():
                    with os.scandir(folder) as files:
                        links += [Path(file) for file in files if file.is_symlink()]
        for link in links:
            check_inside(link, self.root)

    def accepted_images(self) -> pd.DataFrame:
        """The accepted rows of the images table, one per image; SonoError where there is none."""
        frame = self.images()
        self.refuse_none_accepted(frame)
        return frame[frame["status"] == "accepted"].reset_index(drop=True)

    def refuse_none_accepted(self, images: pd.DataFrame) -> None:
        """SonoError where no row of the images table is accepted: there is nothing to work on."""
        if not (images["status"] == "accepted").any():
            raise SonoError(
                f"{self.root}: none of the {len(images)} frames was accepted; `sono stats` says why"
            )

    def masks(self) -> pd.DataFrame:
        """The masks table, possibly empty."""
        return self.read(MASKS)

    def captions(self) -> pd.DataFrame:
        """The captions table; SonoError where `sono captions build` has not run."""
        frame = self.read(CAPTIONS)
        if frame.empty:
            raise SonoError(f"{self.root}: no captions yet; run `sono captions build` first")
        return frame

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the workspace for writing, rid of what a killed run left behind; SonoError if
        another `sono` does.

        The lock ends with its process, however that ends.
        """
        try:
            handle = open_lock(self.root / ".lock")
        except OSError as error:
            raise SonoError(
                f"{self.root}: cannot be written ({error.strerror}); make it writable or copy it"
            ) from error
        with handle:
            lock_file(
                handle,
                f"{self.root}: another sono is writing to this workspace; wait for it to end",
            )
            self._refuse_links()
            for folder in (self.root, self.vault):
                remove_leftovers(folder)
            yield
