import os
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers.files import fill, tree, zipped
from speech_emotion.core.errors import UserError
from speech_emotion.data.archive import Limits, check_space, unpack, walk

Use = Callable[[Path], object]


def special(target: Path, name: str, mode: int, content: bytes = b"/etc/passwd") -> None:
    member = zipfile.ZipInfo(name)
    member.create_system = 3
    member.external_attr = mode << 16
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr(zipfile.ZipInfo("good.wav"), b"good")
        archive.writestr(member, content)


def contents(source: Path) -> dict[str, bytes]:
    return {entry.name: entry.read() for entry in walk(source)}


@pytest.fixture(params=["walk", "unpack"])
def use(request: pytest.FixtureRequest, tmp_path: Path) -> Use:
    """Both ways in which a zip is used; a refusal leaves nothing unpacked."""
    folder = tmp_path / "unpacked"
    folder.mkdir()

    def by_unpacking(source: Path) -> None:
        try:
            unpack(source, folder)
        except UserError:
            assert not list(folder.iterdir())
            raise

    return contents if request.param == "walk" else by_unpacking


def test_folder_in_order_without_hidden_files(tmp_path: Path) -> None:
    names = ("b/2.wav", "a/1.WAV", "README.txt", ".DS_Store", "a/._1.wav", "__MACOSX/a/1.wav", ".git/x.wav")
    fill(tmp_path, {name: name.encode() for name in names})
    assert contents(tmp_path) == {name: name.encode() for name in ("README.txt", "a/1.WAV", "b/2.wav")}


def test_zips_inside_are_opened(tmp_path: Path) -> None:
    inner = zipped({"deep/2.wav": b"two", "__MACOSX/._2.wav": b"junk"})
    (tmp_path / "a.zip").write_bytes(zipped({"1.wav": b"one", "more/inner.ZIP": inner, "empty/": b""}))
    found = {"1.wav": b"one", "more/inner.ZIP/deep/2.wav": b"two"}
    assert contents(tmp_path / "a.zip") == found
    (tmp_path / "3.wav").write_bytes(b"three")
    assert contents(tmp_path) == {"3.wav": b"three"} | {f"a.zip/{name}": content for name, content in found.items()}


def test_unpacks_the_tree(tmp_path: Path) -> None:
    files = {"happy/1.wav": b"one", "labels.csv": b"x", "__MACOSX/._1.wav": b"junk", "./": b""}
    (tmp_path / "a.zip").write_bytes(zipped(files))
    folder = tmp_path / "folder"
    folder.mkdir()
    unpack(tmp_path / "a.zip", folder)
    assert tree(folder) == {"happy/1.wav": b"one", "labels.csv": b"x"}


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("/etc/cron.d/evil", "absolute"),
        ("\\\\server\\share\\evil.wav", "absolute"),
        ("C:\\Windows\\evil.wav", "absolute"),
        ("c:evil.wav", "absolute"),
        ("../evil.wav", "leads out of the folder"),
        ("good/../../evil.wav", "leads out of the folder"),
        ("good\\..\\..\\evil.wav", "leads out of the folder"),
        ("__MACOSX/../../evil.wav", "leads out of the folder"),
        ("..", "leads out of the folder"),
    ],
)
def test_refuses_paths_that_lead_out(tmp_path: Path, use: Use, name: str, why: str) -> None:
    (tmp_path / "a.zip").write_bytes(zipped({"good.wav": b"good", name: b"evil"}))
    with pytest.raises(UserError, match=why) as error:
        use(tmp_path / "a.zip")
    assert name in str(error.value)
    assert "a.zip" in str(error.value)


@pytest.mark.parametrize(
    ("kind", "why"), [(stat.S_IFLNK, "is a link"), (stat.S_IFIFO, "neither"), (stat.S_IFCHR, "neither")]
)
def test_refuses_links_and_devices(tmp_path: Path, use: Use, kind: int, why: str) -> None:
    special(tmp_path / "a.zip", "evil.wav", kind | 0o777)
    with pytest.raises(UserError, match=rf"'evil\.wav'.*{why}"):
        use(tmp_path / "a.zip")


def test_refuses_a_bomb(tmp_path: Path, use: Use) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("0.wav", b"good")
        with archive.open("bomb.wav", "w") as file:
            for _ in range(70):
                file.write(bytes(1 << 20))
    with pytest.raises(UserError, match=r"'bomb\.wav': it would unpack to 73,400,320 bytes, 1,\d\d\d times its size"):
        use(tmp_path / "a.zip")


def test_refuses_a_bomb_of_many_files(tmp_path: Path, use: Use) -> None:
    (tmp_path / "a.zip").write_bytes(zipped({f"{number}.wav": bytes(1 << 20) for number in range(70)}))
    with pytest.raises(UserError, match="more than 100 times its size"):
        use(tmp_path / "a.zip")


def test_refuses_a_nested_bomb(tmp_path: Path) -> None:
    inner = zipped({f"{number}.wav": bytes(1 << 20) for number in range(40)})
    (tmp_path / "a.zip").write_bytes(zipped({"1.zip": inner, "2.zip": inner}))
    with pytest.raises(UserError, match="more than 100 times its size"):
        contents(tmp_path / "a.zip")


def test_accepts_silence(tmp_path: Path, use: Use) -> None:
    (tmp_path / "a.zip").write_bytes(zipped({"silence.wav": bytes(10 << 20)}))
    use(tmp_path / "a.zip")


def test_limits(tmp_path: Path) -> None:
    innermost = zipped({"1.wav": b"one"})
    (tmp_path / "a.zip").write_bytes(zipped({"x.wav": bytes(2000), "inner.zip": zipped({"innermost.zip": innermost})}))
    for limits, why in (
        (Limits(members=1), "more than 1 files"),
        (Limits(member_bytes=1000), "'x.wav': it would unpack to 2,000 bytes"),
        (Limits(depth=2), "a zip inside 2 others"),
    ):
        with pytest.raises(UserError, match=why):
            list(walk(tmp_path / "a.zip", limits=limits))


def test_refuses_encryption(tmp_path: Path, use: Use) -> None:
    (tmp_path / "a.zip").write_bytes(zipped({"1.wav": b"one"}))
    content = bytearray((tmp_path / "a.zip").read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(UserError, match="encrypted"):
        use(tmp_path / "a.zip")


@pytest.mark.parametrize("damage", ["cut", "empty", "no zip", "flipped"])
def test_refuses_damage(tmp_path: Path, damage: str) -> None:
    content = bytearray(zipped({"1.wav": os.urandom(5000), "2.wav": os.urandom(5000)}))
    if damage == "flipped":
        content[3000] ^= 0xFF
    damaged = {"cut": content[:6000], "empty": b"", "no zip": b"RIFF" * 100, "flipped": content}[damage]
    (tmp_path / "a.zip").write_bytes(damaged)
    folder = tmp_path / "unpacked"
    folder.mkdir()
    with pytest.raises(UserError, match="a damaged zip"):
        contents(tmp_path / "a.zip")
    with pytest.raises(UserError, match="a damaged zip"):
        unpack(tmp_path / "a.zip", folder)


@pytest.mark.parametrize("second", ["A/1.wav", "./a/1.wav", "a//1.WAV"])
def test_refuses_colliding_names(tmp_path: Path, second: str) -> None:
    (tmp_path / "a.zip").write_bytes(zipped({"a/1.wav": b"one", second: b"two"}))
    folder = tmp_path / "unpacked"
    folder.mkdir()
    with pytest.raises(UserError, match="collides with"):
        unpack(tmp_path / "a.zip", folder)


def test_refuses_a_full_disk(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Make room"):
        check_space(1 << 60, tmp_path)
