"""What is one content: the same text or bytes, wherever they come from."""

from __future__ import annotations

from msiam.data.contents import Contents


def test_the_same_text_or_bytes_are_one_content_wherever_they_come_from(tmp_path, files, words):
    for name, content in [("a.png", b"one"), ("b.png", b"one"), ("c.png", b"two")]:
        (tmp_path / name).write_bytes(content)
    contents = Contents()
    names = [str(tmp_path / f"{name}.png") for name in "abcx"]  # x is not there: itself
    assert contents.of(names, files).tolist() == [0, 0, 1, 2]
    assert contents.of([{"bytes": b"two", "path": None}, "nul\0.png"], files).tolist() == [1, 3]
    assert contents.of(["a text", "another", "a text"], words).tolist() == [4, 5, 4]
    assert contents.number("a text", words) == 4 and len(contents) == 6
    assert contents.number(names[0], words) == 6  # a text, for an encoder that reads no files
