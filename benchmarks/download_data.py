"""Download the public data sets that the documentation uses, and check their sums.

Usage: python benchmarks/download_data.py FOLDER [--set barcelona nijmegen]

Writes FOLDER/SET with the published archives unpacked. Files that are there with the right sum are
kept, so an interrupted download continues at the next file. Set SONO_DATA=FOLDER to use the folder.
"""

import argparse
import hashlib
import json
import shutil
import sys
import zipfile
from pathlib import Path
from urllib.request import urlopen

# Zenodo records by the folder's name; the DOI of record N is 10.5281/zenodo.N.
RECORDS = {
    "barcelona": 3904280,  # FETAL_PLANES_DB, Burgos-Artizzu et al. 2020, CC BY 4.0
    "nijmegen": 1327317,  # HC18, van den Heuvel et al. 2018, CC BY 4.0
}
SERVER = "https://zenodo.org"
CHUNK = 1 << 20
TIMEOUT = 60  # seconds


def download(name: str, folder: Path, server: str = SERVER) -> None:
    """Download all files of a set to `folder` and unpack its archives.

    Raises ValueError for a file whose MD5 is not the one that the record states; nothing of it is
    kept.
    """
    with urlopen(f"{server}/api/records/{RECORDS[name]}", timeout=TIMEOUT) as answer:
        files = json.load(answer)["files"]
    folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        path, wanted = folder / Path(file["key"]).name, file["checksum"].removeprefix("md5:")
        if not path.exists() or md5(path) != wanted:
            print(f"{name}: {path.name}, {file['size'] / 1e6:.0f} MB", file=sys.stderr)
            _fetch(file["links"]["self"], path, wanted)
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                archive.extractall(folder)


def _fetch(address: str, path: Path, wanted: str) -> None:
    part = path.with_name(f"{path.name}.part")
    with urlopen(address, timeout=TIMEOUT) as answer, part.open("wb") as out:
        shutil.copyfileobj(answer, out, CHUNK)
    if (found := md5(part)) != wanted:
        part.unlink()
        raise ValueError(f"{path}: MD5 {found} instead of {wanted}; run the command again")
    part.replace(path)


def md5(path: Path) -> str:
    """The MD5 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--set", nargs="+", choices=RECORDS, default=list(RECORDS))
    chosen = parser.parse_args()
    for name in chosen.set:
        download(name, chosen.folder / name)


if __name__ == "__main__":
    main()
