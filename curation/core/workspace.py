"""A study's folder, which may be shared, and the vault next to it, which may not."""

import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa

from sono.curation.core.atomic import (
    TEMPORARY_PREFIX,
    check_inside,
    check_target,
    check_utf8,
    lock_file,
    open_lock,
    open_regular,
    real_path,
    remove_leftovers,
    write_text,
)
from sono.curation.core.atomic_folders import new_folder, refuse_used_folder, unfinished
from sono.curation.core.errors import SonoError, counted, typed_name
from sono.curation.core.mask_table import check_fit
from sono.curation.core.pseudonyms import create_key, key_check, read_key
from sono.curation.core.study_folder import (
    CONFIG_NAME,
    NEW_CONFIG,
    VAULT_MODE,
    StudyFolder,
    enclosing_workspace,
    refuse_store,
)
from sono.curation.core.table_checks import TableSpec, has_mark
from sono.curation.core.tables import (
    CAPTIONS,
    IMAGES,
    MASKS,
    read_arrow,
    read_table,
    usable_captions,
    write_table,
)
from sono.curation.core.vault_checks import check_identities, count_unknown, stamp
from sono.curation.core.vault_tables import RELEASED, SOURCES


@dataclass(frozen=True)
class Workspace(StudyFolder):
    """Paths, settings and tables of one study."""

    @classmethod
    def create(cls, root: Path) -> "Workspace":
        """Create the folder, its `sono.toml` and the vault with a new key.

        What a killed call began is finished. Raises SonoError if there is a workspace already.
        """
        refuse_store(root)
        workspace = cls(real_path(root))
        check_utf8(workspace.root)
        typed_name("the name of the study", workspace.root.name)
        if workspace.config_path.exists():
            if workspace._take_vault():
                return workspace
            raise SonoError(f"{root}: already a workspace; continue with `sono qc`")
        if workspace.vault.exists():
            raise SonoError(
                f"{workspace.vault}: a vault without its workspace; move it away or "
                f"restore the workspace"
            )
        outer = enclosing_workspace(workspace.root.parent)
        if outer is not None:
            raise SonoError(
                f"{root}: is inside the workspace {outer}, which may be shared; choose another"
            )
        if root.is_dir() and all(path.name.startswith(TEMPORARY_PREFIX) for path in root.iterdir()):
            remove_leftovers(root)  # of a `sono init` that was killed
        refuse_used_folder(root)
        workspace.root.mkdir(parents=True, exist_ok=True)
        # a command that is killed or finds the disk full can be run again
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
        """Rename the vault if `create` was killed just before it did; return whether it was."""
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
        """The workspace `given`, or the nearest one at or above the current folder."""
        if given is not None:
            refuse_store(given)
            check_utf8(real_path(given))
            if not (given / CONFIG_NAME).is_file():
                raise SonoError(
                    f"{given}: no workspace here ({CONFIG_NAME} is missing); create one with `sono "
                    f"init {given}`"
                )
            return cls(real_path(given))
        found = cls.find_or_none()
        if found is not None:
            return found
        raise SonoError(
            f"{Path.cwd()}: no workspace here or above; create one with `sono init NAME` or give "
            f"--workspace"
        )

    @classmethod
    def find_or_none(cls, given: Path | None = None) -> "Workspace | None":
        """The workspace `given`, or the nearest one at or above the current folder, or None."""
        if given is not None:
            return cls.find(given)
        folder = enclosing_workspace(Path.cwd())
        if folder is None:
            return None
        check_utf8(folder)
        return cls(folder)

    def has_vault(self) -> bool:
        """Whether the vault is here and knows the files of this study.

        Raises SonoError if it has another key, lacks files of the study, or has the study's former
        name.
        """
        if not self.vault.exists():
            former = self.former_vault()
            if former is not None:
                raise SonoError(
                    f"{self.vault}: not here, but {former} has this study's key; rename it to "
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
                f"{self.sources_path}: does not know {counted(unknown, 'file')}"
                f" of {images.name}; put back "
                f"the vault that "
                f"belongs to this study, or delete {images.name} and run `sono qc` on all folders "
                f"again"
            )
        return True

    def require_vault(self, no_vault: bool | None = None) -> None:
        """Raise SonoError if the vault is missing, unless `no_vault` accepts an unsearched export.

        None is for commands without this option, because they need what is in the vault.
        """
        if not self.has_vault() and not no_vault:
            choice = "" if no_vault is None else ", or export unsearched with --no-vault"
            raise SonoError(self.without_vault() + choice)

    def path(self, spec: TableSpec) -> Path:
        """The path of the table `spec`."""
        return self.root / f"{spec.name}.parquet"

    def read(self, spec: TableSpec, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """Read and check a table, or some columns; empty if its stage has not run."""
        path = self.path(spec)
        check_inside(path, self.root)
        frame = read_table(path, spec, columns, self.study().key_check)
        # otherwise its mark was checked
        if spec in (MASKS, CAPTIONS) and len(frame) and "image_id" in frame and not has_mark(path):
            self._refuse_foreign(path, frame["image_id"])
        if spec is MASKS and columns is None and len(frame):
            check_fit(path, frame, self.read(IMAGES, ["image_id", "height", "width"]))
        return frame

    def sources(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """The vault's table of files, or some columns; SonoError if it belongs to another study."""
        return read_table(self.sources_path, SOURCES, columns, self.study().key_check)

    def released(self) -> pd.DataFrame:
        """The vault's table of decisions on frames."""
        return read_table(self.released_path, RELEASED, study=self.study().key_check)

    def check_output(self, target: Path, start: bytes = b"") -> None:
        """Raise SonoError if `target` is a file of the study itself, or cannot be written.

        A file that exists and does not begin with `start` is not an earlier output, and is not
        overwritten either. Call it before long work.
        """
        self._refuse_own_place(target)
        check_target(target)
        if start and target.is_file() and not _begins(target, start):
            raise SonoError(
                f"{target}: exists and is not an earlier output of this command; name a new file, "
                "or delete this one"
            )

    def check_new_folder(self, target: Path) -> None:
        """Raise SonoError if `target` is a place for files of the study, or a folder in use."""
        self._refuse_own_place(target)
        refuse_used_folder(target)

    def _refuse_own_place(self, target: Path) -> None:
        place, root = real_path(target), real_path(self.root)
        own = place.suffix in (".parquet", ".toml") and place.parent == root
        if own or any(
            place.is_relative_to(real_path(folder)) for folder in (self.frames, self.vault)
        ):
            raise SonoError(
                f"{target}: a file of the study itself, or a place for such files; "
                "name a new one outside it"
            )

    def write_vault(self, path: Path, spec: TableSpec, frame: pd.DataFrame) -> None:
        """Check and write a table of the vault, which only its owner may read."""
        write_table(path, frame, spec, mode=0o600, study=self.study().key_check)

    def _refuse_foreign(self, path: Path, image_ids: pd.Series) -> None:
        """Raise SonoError if none of the frames that a table names is in the images table."""
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

        Raises SonoError if `sono qc` has not run, or if the vault has other rows.
        """
        frame = self.read(IMAGES, columns)
        self._check_images(len(frame))
        return frame

    def images_arrow(self, columns: Sequence[str]) -> pa.Table:
        """Some columns of the images table as Arrow, in a third of the memory of `images`."""
        path = self.path(IMAGES)
        check_inside(path, self.root)
        if not path.exists():
            self._check_images(0)
        table = read_arrow(path, IMAGES, list(columns), self.study().key_check)
        self._check_images(len(table))
        return table

    def _check_images(self, rows: int) -> None:
        if not rows:
            raise SonoError(f"{self.root}: no images yet; run `sono qc FOLDER` first")
        if os.access(self.sources_path, os.R_OK):
            check_identities(self, stamp(self.path(IMAGES)), stamp(self.sources_path))
        self._refuse_links()

    def _refuse_links(self) -> None:
        """Raise SonoError if a link among the stored frames leads out of the workspace."""
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

    def accepted_images(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """The accepted rows of the images table, one per image; SonoError if there are none.

        `columns` include the status.
        """
        frame = self.images(columns)
        self.refuse_none_accepted(frame)
        return frame[frame["status"] == "accepted"].reset_index(drop=True)

    def refuse_none_accepted(self, images: pd.DataFrame | pa.Table) -> None:
        """Raise SonoError if no row of the images table is accepted."""
        if "accepted" not in images["status"].unique().tolist():
            raise SonoError(
                f"{self.root}: none of the {counted(len(images), 'frame')} was accepted; "
                "`sono stats` shows why"
            )

    def masks(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """The masks table, or some columns; possibly empty.

        Raises SonoError while it lacks decisions of a review that runs or was interrupted.
        """
        if _has_pending(self.reviews_path):
            raise SonoError(
                f"{self.path(MASKS)}: decisions in {self.reviews_path.name} are not in this table "
                "yet; end the running `sono masks review`, or start it again if it was killed"
            )
        return self.read(MASKS, columns)

    def captions(self) -> pd.DataFrame:
        """The captions that are not marked as wrong.

        Raises SonoError if `sono captions build` has not run.
        """
        frame = self.read(CAPTIONS)
        if frame.empty:
            raise SonoError(f"{self.root}: no captions yet; run `sono captions build` first")
        return usable_captions(frame)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Lock the workspace for writing, and delete what a killed run left.

        The lock ends with its process, even after a kill. Raises SonoError if another `sono` has
        the lock.
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


def _has_pending(log: Path) -> bool:
    """Whether the log of a review ends with a decision, not with the line that all are applied."""
    if not log.exists():
        return False
    with open_regular(log) as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 40))
        end = file.read()
    return size > 0 and re.search(rb'(?:^|\n)\{"applied":\d+\}\n$', end) is None


def _begins(path: Path, start: bytes) -> bool:
    with open_regular(path) as stream:
        return stream.read(len(start)) == start
