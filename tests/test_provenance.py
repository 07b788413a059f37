from pathlib import Path

import pytest
from dvc.repo import Repo

from speech_emotion.provenance import folder_md5


def test_a_folder_has_the_md5_that_dvc_gives_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "package"
    for name in ("a.txt", "evidence/b.json", "evidence.txt", "é.bin"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode() + b"\r\n")

    repo = Repo.init(str(tmp_path), no_scm=True)
    [stage] = repo.add(str(folder))

    assert folder_md5(folder) == stage.outs[0].hash_info.value
