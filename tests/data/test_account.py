from __future__ import annotations

import pytest

from tttkit.data.account import RECORDS, Account, LeftOut, describe, shown


def test_things_are_counted_by_kind_with_the_name_of_the_first():
    account = Account()
    for number in (1, 2):
        account.leave_out("files ending in .bin", "no text", f"{number}.bin")
        account.read("text")
    account.leave_out(RECORDS, "no field `text`", "a.jsonl: line 3")
    assert account.num_files == {"text": 2}
    assert describe(account.left_out) == (
        "2 files ending in .bin: no text (first: 1.bin); 1 records: no field `text` (first: a.jsonl: line 3)"
    )
    account.restart()
    assert account.left_out == [LeftOut(what="files ending in .bin", why="no text", count=2, first="1.bin")]


def test_a_million_kinds_do_not_fill_the_manifest():
    account = Account()
    for number in range(1000):
        account.leave_out(f"files ending in .{number}", "no text", str(number))
    assert len(account.left_out) < 50
    assert sum(item.count for item in account.left_out) == 1000


@pytest.mark.parametrize(
    ("name", "text"), [("nov\udce9las", "nov\\xe9las"), ("小説 🎉", "小説 🎉"), ("$x [b]", "$x [b]")]
)
def test_every_name_can_be_shown_as_utf8(name, text):
    assert shown(name) == text


def test_an_account_that_is_merged_counts_as_if_all_had_been_in_one():
    whole, merged = Account(), Account()
    parts = [[("a", "1"), ("b", "2"), ("a", "3")], [("c", "4"), ("a", "5"), ("a", "6")], [("d", "7"), ("d", "8")]]
    for part in parts:
        account = Account()
        for why, name in part:
            whole.leave_out(RECORDS, why, name)
            account.leave_out(RECORDS, why, name)
        merged.merge(account.left_out)
    assert merged.left_out == whole.left_out
    assert [item.count for item in merged.left_out] == [4, 1, 1, 2]
