import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.cli.main import main


@pytest.fixture
def read_only_folder() -> Iterator[Path]:
    """A folder that may be entered and not written, for root too: it gives up its rights meanwhile."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o555)
        root = os.geteuid() == 0
        if root:
            os.seteuid(65534)
        try:
            yield Path(folder)
        finally:
            if root:
                os.seteuid(0)
            os.chmod(folder, 0o755)


@pytest.mark.parametrize("force", [[], ["--force"]])
def test_init_in_a_read_only_folder_says_so(
    read_only_folder: Path, capsys: pytest.CaptureFixture[str], force: list[str]
) -> None:
    path = read_only_folder / "settings.toml"
    assert main(["init", str(path), *force]) == 73
    assert capsys.readouterr().err == f"turnkeeper: cannot write {path}: Permission denied\n"
    assert os.listdir(read_only_folder) == []
