from pathlib import Path

import pytest

from sono.curation.storage import atomic_path, remove_leftovers, write_bytes, write_text


def test_a_file_is_written_with_its_mode(tmp_path: Path) -> None:
    write_text(tmp_path / "deep" / "key", "secret", mode=0o600)
    assert (tmp_path / "deep" / "key").read_text() == "secret"
    assert (tmp_path / "deep" / "key").stat().st_mode & 0o777 == 0o600


def test_a_failure_keeps_the_old_content_and_leaves_nothing(tmp_path: Path) -> None:
    target = tmp_path / "table"
    write_bytes(target, b"old")
    with pytest.raises(RuntimeError), atomic_path(target) as temporary:
        temporary.write_bytes(b"half")
        raise RuntimeError
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_leftovers_of_a_killed_run_are_removed(tmp_path: Path) -> None:
    (tmp_path / ".tmp-abc").write_text("half")
    (tmp_path / "kept").write_text("whole")
    remove_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
